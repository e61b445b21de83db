"""The verdict on one defaced scan: class, score, reason, evidence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from efface.spatial.types import Affine
from efface.wording import counted

Point = tuple[float, float, float]
"""RAS+ mm of the scan."""


VANISHED_MM = 12.0
"""How far skin is looked for; what is not found so near has vanished."""


class QualityClass(StrEnum):
    """The three classes of Gao et al. (2022), section 3.2."""

    SUCCESS = "Success"
    FAILURE_I = "Failure I"
    FAILURE_II = "Failure II"


FACE_FEATURES: Mapping[str, tuple[str, ...]] = {
    "eyes": ("right eye", "left eye"),
    "nose": ("nose",),
    "mouth": ("mouth",),
    "ears": ("right ear", "left ear"),
}
"""Features, and the parts that are looked at apart."""


@dataclass(frozen=True)
class BrainEvidence:
    """What happened to the brain of the original.

    Attributes
    ----------
    failed
        Whether it is damaged.
    score
        0 (untouched) to 1; 0.5 from the tolerance on.
    damaged_ml, damaged_voxels
        Voxels that really changed, deeper in the mask than its uncertain edge.
    edited_ml, edited_voxels
        Voxels of the brain mask with any change, at its edge too.
    deepest_mm
        How deep in the mask the deepest of those that really changed lies.
    where
        Part of the brain in words, of the largest damaged piece; empty where there is none.
    centre_mm, box_mm
        Its centre, and the corners of its box.
    """

    failed: bool
    score: float
    damaged_ml: float
    damaged_voxels: int
    edited_ml: float
    edited_voxels: int
    deepest_mm: float
    where: str
    centre_mm: Point | None
    box_mm: tuple[Point, Point] | None


@dataclass(frozen=True)
class FeatureEvidence:
    """What happened to the skin of one eye, the nose, the mouth or one ear.

    Attributes
    ----------
    left
        Whether less than half of it changed; None where the original does not show it.
    changed
        Share of its surface that moved or vanished.
    moved_mm
        Median distance by which it moved; those that vanished count as `VANISHED_MM`.
    area_cm2
        Its surface in the original, rounded to whole cm2.
    centre_mm
        Its middle, rounded to 5 mm: the evidence is shared, and must not measure the face.
    """

    left: bool | None
    changed: float | None
    moved_mm: float | None
    area_cm2: float
    centre_mm: Point | None


@dataclass(frozen=True)
class FaceEvidence:
    """What happened to the face of the original.

    Attributes
    ----------
    failed
        Whether it can still be recognised.
    score
        0 (all gone) to 1 (all left); 0.5 from where it counts as recognisable.
    changed
        Share of the frontal surface of the face that moved or vanished; None where the original shows no face.
    left
        Those of eyes, nose and mouth that are left.
    features
        Each part of `FACE_FEATURES`.
    by
        By what it can be recognised, where it is not by those of `left`: one half, both eyes, or its relief.
    """

    failed: bool
    score: float
    changed: float | None
    left: tuple[str, ...]
    features: Mapping[str, FeatureEvidence]
    by: str = ""

    def share(self, feature: str) -> float | None:
        """Share of a feature (both of a pair) that changed, weighted by area; None where it is not shown."""
        return self._mean(feature, "changed")

    def moved_mm(self, feature: str) -> float | None:
        """How far a feature moved, mm; None where it is not shown."""
        return self._mean(feature, "moved_mm")

    def _mean(self, feature: str, attribute: str) -> float | None:
        parts = [self.features[part] for part in FACE_FEATURES[feature] if self.features[part].changed is not None]
        area = sum(part.area_cm2 for part in parts)
        return sum(getattr(part, attribute) * part.area_cm2 for part in parts) / area if area else None


@dataclass(frozen=True)
class SingledOut:
    """Whether what is left of the face singles the person out (`efface.privacy.singled_out`): evidence, no verdict.

    Attributes
    ----------
    rank
        Of the original among `among` faces, by how well what is left fits on each: 1 is the person; None where nothing
        could be compared.
    among
        Faces, the original's included; None where nothing could be compared.
    reason
        Why nothing could be compared; empty where it could.
    """

    rank: int | None
    among: int | None
    reason: str

    @property
    def sentence(self) -> str:
        """In words."""
        if self.rank is None or self.among is None:
            return f"n/a: {self.reason}"
        return f"what is left singles the original out as number {self.rank:,} of {self.among:,}"


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one defaced scan.

    Attributes
    ----------
    verdict
        The class; where both failures hold, Failure II, and `reason` says both.
    score
        The larger of the two scores: from 0.5 on it is a failure.
    reason
        One sentence.
    brain, face
        The evidence.
    average_to_scan
        Average head mm to scan mm, as used, shape (4, 4).
    surface_threshold
        Intensity at the original's skin.
    warnings
        What to know before trusting it.
    singled_out
        Rank of the original among faces of nobody, where it was asked for; it decides nothing.
    """

    verdict: QualityClass
    score: float
    reason: str
    brain: BrainEvidence
    face: FaceEvidence
    average_to_scan: Affine
    surface_threshold: float
    warnings: tuple[str, ...] = ()
    singled_out: SingledOut | None = None

    def lines(self) -> list[str]:
        """The evidence as lines of text: the brain, the face, and each part of it."""
        brain, face = self.brain, self.face
        place = ", ".join(f"{c:.0f}" for c in brain.centre_mm or ())
        lines = [
            f"brain   {brain.damaged_ml:.2f} ml ({counted(brain.damaged_voxels, 'voxel')}) damaged, "
            f"{brain.edited_ml:.2f} ml of the brain mask edited, up to {brain.deepest_mm:.1f} mm deep"
            + (f"; {brain.where}, around ({place}) mm" if place else "")
        ]
        changed = "n/a: not in the original" if face.changed is None else f"{face.changed:.0%} moved or vanished"
        lines.append(f"face    {changed}; left: {', '.join(face.left) or 'none'}" + (f"; {face.by}" if face.by else ""))
        for name, part in face.features.items():
            if part.changed is None or part.moved_mm is None:
                lines.append(f"  {name:<10} n/a: not in the original")
                continue
            place = ", ".join(f"{c:.0f}" for c in part.centre_mm or ())
            far = f"by {part.moved_mm:.1f} mm" if part.moved_mm < VANISHED_MM else "out of sight"
            lines.append(
                f"  {name:<10} {part.changed:>4.0%} of {part.area_cm2:.0f} cm2 moved or vanished (median {far}) "
                f"around ({place}) mm"
            )
        if self.singled_out is not None:
            lines.append(f"person  {self.singled_out.sentence}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON types, with numbers rounded to a meaningful precision."""
        content = {
            "verdict": str(self.verdict),
            "score": self.score,
            "reason": self.reason,
            "brain": asdict(self.brain),
            "face": asdict(self.face),
            "surface_threshold": self.surface_threshold,
            "warnings": list(self.warnings),
        }
        if self.singled_out is not None:
            content["singled_out"] = asdict(self.singled_out)
        rounded: dict[str, Any] = _rounded(content)
        rounded["from_average"] = self.average_to_scan.tolist()
        return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
