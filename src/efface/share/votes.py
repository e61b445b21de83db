"""What reviewers said about images: it releases what was withheld, and takes out what was shared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from efface.quality.verdict import QualityClass
from efface.share.records import HOME
from efface.study.ratings import read_ratings


@dataclass(frozen=True)
class Vote:
    """The word of all reviewers on one image.

    Attributes
    ----------
    verdict
        Success only where every reviewer who voted on this image said so.
    reviewers
        How many they are.
    """

    verdict: str
    reviewers: int

    @property
    def releases(self) -> bool:
        """Whether the image may be shared though the automatic checks withheld it."""
        return self.verdict == QualityClass.SUCCESS


def read_votes(out_dir: Path) -> Mapping[str, Vote]:
    """Votes on the images of a shared data set, by the fingerprint of what was voted on.

    Raises
    ------
    InputError
        If the file of votes cannot be read.
    """
    said: dict[str, list[str]] = {}
    for rating in read_ratings(out_dir / HOME).last.values():
        if rating.image:
            said.setdefault(rating.image, []).append(rating.verdict)
    return {image: Vote(_joint(verdicts), len(verdicts)) for image, verdicts in said.items()}


def _joint(verdicts: list[str]) -> str:
    """The worst that was said."""
    failures = [verdict for verdict in verdicts if verdict != QualityClass.SUCCESS]
    return failures[0] if failures else str(QualityClass.SUCCESS)
