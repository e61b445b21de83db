"""Output paths of a study (a BIDS derivative); no file is opened here."""

from dataclasses import dataclass
from pathlib import Path

UNNAMED_SEGMENTER = "slant"
"""Whose segmentations have no ``seg-`` in their names: the default one's."""
ORIGINAL = "original"
"""The description (``desc-``) of what belongs to the scan before defacing."""


@dataclass(frozen=True)
class UnitPaths:
    """Outputs of one scan.

    Attributes
    ----------
    out_dir
        The study's output folder.
    subject, session
        BIDS labels without ``sub-`` and ``ses-``; session is None where the data set has none.
    stem
        The scan's BIDS name up to its suffix, for example ``sub-01_ses-1_acq-mprage``.
    suffix
        The scan's BIDS suffix, for example ``T1w``.
    """

    out_dir: Path
    subject: str
    session: str | None
    stem: str
    suffix: str = "T1w"

    @property
    def folder(self) -> Path:
        """Folder of the session (of the subject where there are no sessions)."""
        subject = self.out_dir / f"sub-{self.subject}"
        return subject / f"ses-{self.session}" if self.session else subject

    @property
    def results(self) -> Path:
        """Table of this scan's rows."""
        return self.folder / f"{self.stem}_results.tsv"

    @property
    def timing(self) -> Path:
        """Seconds per step; kept apart because the rest is the same in every run."""
        return self.folder / f"{self.stem}_timing.json"

    def stopped(self, step: str) -> Path:
        """Hidden note that a step took too long; removed when the scan is done."""
        return self.folder / f".{self.stem}_{alphanumeric(step)}_stopped.txt"

    def defaced(self, method: str) -> Path:
        """The defaced scan."""
        return self._anat(method, f"{self.suffix}.nii.gz")

    def quality(self, method: str) -> Path:
        """The quality check's verdict and evidence, JSON."""
        return self._anat(method, "qc.json")

    def mask(self, method: str) -> Path:
        """1 = edited region."""
        return self._anat(method, "mask.nii.gz")

    def segmentation(self, method: str, segmenter: str) -> Path:
        """Labels of the scan defaced by `method`, or of the original; ``seg-`` only where not by the default."""
        name = "dseg.nii.gz" if segmenter == UNNAMED_SEGMENTER else f"seg-{segmenter}_dseg.nii.gz"
        return self._anat(method, name)

    def registration(self, description: str) -> Path:
        """How it was sampled again, JSON: ``resampled`` on its own grid, ``rescanaffine`` on its other session's."""
        return self._anat(description, "registration.json")

    def resampled(self, description: str) -> Path:
        """The scan sampled again; it shows the face, so it is never in the study's own folder."""
        return self._anat(description, f"{self.suffix}.nii.gz")

    def brain(self) -> Path:
        """The original's brain mask."""
        return self._anat("brain", "mask.nii.gz")

    def _anat(self, description: str, ending: str) -> Path:
        return self.folder / "anat" / f"{self.stem}_desc-{alphanumeric(description)}_{ending}"


@dataclass(frozen=True)
class RescanPaths:
    """Outputs of a subject's two sessions compared with each other.

    Attributes
    ----------
    out_dir
        The study's output folder.
    subject
        BIDS label without ``sub-``.
    transform
        How they were registered: ``affine``, for example.
    """

    out_dir: Path
    subject: str
    transform: str

    @property
    def folder(self) -> Path:
        """Folder of the subject."""
        return self.out_dir / f"sub-{self.subject}"

    @property
    def results(self) -> Path:
        """Rows of this comparison."""
        return self.folder / f"sub-{self.subject}_desc-{self.transform}_rescan.tsv"

    @property
    def timing(self) -> Path:
        """Seconds per step."""
        return self.folder / f"sub-{self.subject}_desc-{self.transform}_timing.json"


@dataclass(frozen=True)
class GroupPaths:
    """Outputs of a whole study."""

    out_dir: Path

    @property
    def description(self) -> Path:
        """``dataset_description.json``."""
        return self.out_dir / "dataset_description.json"

    @property
    def dice(self) -> Path:
        """All Dice rows."""
        return self.out_dir / "dice.tsv"

    @property
    def failures(self) -> Path:
        """All rows that are not ok, with their reasons."""
        return self.out_dir / "failures.tsv"

    @property
    def edits(self) -> Path:
        """Table of what every method changed in every scan."""
        return self.out_dir / "edits.tsv"

    @property
    def volumes(self) -> Path:
        """Volumes and their changes."""
        return self.out_dir / "volumes.tsv"

    @property
    def distances(self) -> Path:
        """Surface distances."""
        return self.out_dir / "distances.tsv"

    @property
    def rescan(self) -> Path:
        """Methods, rescans and the resampling control of subjects with two sessions."""
        return self.out_dir / "rescan.tsv"

    @property
    def scans(self) -> Path:
        """Which scans belong to the study."""
        return self.out_dir / "study_scans.tsv"

    @property
    def rescan_pairs(self) -> Path:
        """Which sessions were compared as a rescan, and which were too far apart."""
        return self.out_dir / "rescan_pairs.tsv"

    @property
    def left_out(self) -> Path:
        """Results in the folder that do not belong to the study, and why."""
        return self.out_dir / "left_out.tsv"

    @property
    def statistics(self) -> Path:
        """Table of intervals and tests."""
        return self.out_dir / "statistics.tsv"

    @property
    def statistics_passed(self) -> Path:
        """The same on the scans that passed the quality check with every method."""
        return self.out_dir / "statistics_passed.tsv"

    @property
    def privacy(self) -> Path:
        """Every attack on every defaced scan."""
        return self.out_dir / "privacy.tsv"

    @property
    def privacy_summary(self) -> Path:
        """How many people each attack finds again, by method."""
        return self.out_dir / "privacy_summary.tsv"

    @property
    def privacy_ranks(self) -> Path:
        """Share of people among the first k, by attack and method."""
        return self.out_dir / "privacy_ranks.tsv"

    @property
    def quality(self) -> Path:
        """The verdict on every defaced scan."""
        return self.out_dir / "qc.tsv"

    @property
    def table1(self) -> Path:
        """How many scans succeeded and failed, by method (the paper's Table 1)."""
        return self.out_dir / "table1.tsv"

    def unit_qualities(self) -> list[Path]:
        """Verdict files of all scans, in order."""
        name = "anat/*_desc-*_qc.json"
        return sorted(self.out_dir.glob(f"sub-*/{name}")) + sorted(self.out_dir.glob(f"sub-*/ses-*/{name}"))

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.out_dir / "figures"

    @property
    def report(self) -> Path:
        """The report."""
        return self.out_dir / "report.html"

    def unit_results(self) -> list[Path]:
        """Result tables of all scans, in order."""
        return sorted(self.out_dir.glob("sub-*/*_results.tsv")) + sorted(self.out_dir.glob("sub-*/ses-*/*_results.tsv"))

    def rescan_results(self) -> list[Path]:
        """Result tables of all rescans, in order."""
        return sorted(self.out_dir.glob("sub-*/sub-*_desc-*_rescan.tsv"))


def private_folder(out_dir: Path) -> Path:
    """Where a study keeps what shows an undefaced face, if it is asked to keep it: beside the folder that is shared."""
    out_dir = out_dir.resolve()
    return out_dir.with_name(f"{out_dir.name}-private")


def recipe_of(path: Path) -> Path:
    """The JSON beside an image or a table that says how it was made; of a JSON, itself."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".tsv").removesuffix(".json")
    return path.with_name(f"{stem}.json")


def alphanumeric(name: str) -> str:
    """BIDS values hold letters and digits only: ``mri_deface`` becomes ``mrideface``."""
    return "".join(c for c in name if c.isalnum())
