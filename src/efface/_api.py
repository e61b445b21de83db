"""The public functions: nibabel images or paths in, nibabel images and pandas frames out.

Each is one call for one scan; `efface.Study` does whole data sets.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit, apply_edit, check_carries_over, plan
from efface.defacing.propagation import propagate_edit
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.io.deidentify import SCRUB, check_policy, strip_identifying_header
from efface.io.label_images import load_labels, load_mask
from efface.io.nifti_mgh import announced_shape
from efface.io.scan import Scan, load_scan
from efface.metrics import compare_labels, volumes_ml
from efface.metrics.dice import unknown_labels
from efface.privacy.singled_out import judged_among_faces
from efface.quality import Judge, Verdict
from efface.segmentation import DEFAULT_SEGMENTER
from efface.segmentation import segment as run_segmenter
from efface.segmentation.labels import Labels
from efface.spatial.registration import AffineResult
from efface.spatial.types import LabelVolume

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_METHOD = "pydeface"
"""The most used one. It places the face mask without the brain mask; every method is screened and protected by it."""


@dataclass(frozen=True, eq=False)
class Defaced:
    """Result of `deface`.

    Attributes
    ----------
    original, scan
        The scan before and after.
    edit
        What was decided: mask (closed outward to the border of the image), values, method, parameters.
    others
        The images given as `apply_to`, defaced alike, in order; without those that failed.
    warnings
        What to check before the result is shared.
    removed
        Names of header fields that were removed because they may hold a name, of all images together.
    failed
        Which of `apply_to`, counted from 0, could not be defaced, and why; empty unless failures are skipped.
    registration
        Of the average head to the original, where one was made.
    """

    original: Scan
    scan: Scan
    edit: Edit
    others: tuple[Scan, ...]
    warnings: tuple[str, ...]
    removed: tuple[str, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    registration: AffineResult | None = None

    @property
    def image(self) -> Any:
        """The defaced scan as a nibabel image."""
        return self.scan.to_nibabel()

    @property
    def mask(self) -> Any:
        """1 = edited, as a nibabel image on the scan's own grid; outside it the scan keeps its bits."""
        return self.scan.image_like(self.edit.mask.astype(np.uint8))


@dataclass(frozen=True, eq=False)
class Segmented:
    """Result of `segment`.

    Attributes
    ----------
    scan
        The scan that was segmented.
    labels
        BrainCOLOR ids on the scan's RAS+ grid, warnings, and what made them.
    """

    scan: Scan
    labels: Labels

    @property
    def image(self) -> Any:
        """The labels as a nibabel image on the scan's own grid, int32."""
        return self.scan.image_like(self.labels.values.astype(np.int32))

    @property
    def volumes(self) -> "pd.DataFrame":
        """Columns level, region, volume_ml."""
        import pandas as pd

        rows = volumes_ml(self.labels.values, self.scan.spacing_mm)
        return pd.DataFrame(rows, columns=["level", "region", "volume_ml"])


def deface(
    image: Any,
    method: str = DEFAULT_METHOD,
    *,
    implementation: str = "native",
    brain_mask: str | Path | None = None,
    protect_brain: bool = True,
    apply_to: Sequence[Any] = (),
    header: str = SCRUB,
    **params: Any,
) -> Defaced:
    """Remove the face from one scan.

    Parameters
    ----------
    image
        Path of a NIfTI or MGH file, or a nibabel image.
    method
        A name in `efface.defacing.METHODS`.
    implementation
        ``native``, or ``original`` for the published program, where it is installed.
    brain_mask
        Path of a mask on the scan's grid to use instead of finding the brain.
    protect_brain
        Never change a voxel of the brain mask or within 2 mm of it.
    apply_to
        More images of the same person and session to deface alike. Each is registered rigidly, also on the same
        grid, for the head can have moved.
    header
        ``scrub`` removes text fields, extensions and tags, which may hold names, from the headers; ``keep`` keeps them.
    **params
        The method's own parameters.

    Raises
    ------
    InputError
        If an image, the mask, the method, the header's word or a parameter cannot be used.
    AnatomyError, RegistrationError
        If the brain or the average head was not found, or an image of `apply_to` could not be aligned.
    """
    return deface_with(
        image,
        method,
        params,
        implementation=implementation,
        brain_mask=brain_mask,
        protect_brain=protect_brain,
        apply_to=apply_to,
        header=header,
    )


def deface_with(
    image: Any,
    method: str,
    params: Mapping[str, Any],
    *,
    implementation: str = "native",
    brain_mask: str | Path | None = None,
    protect_brain: bool = True,
    apply_to: Sequence[Any] = (),
    header: str = SCRUB,
    skip_failed: bool = False,
) -> Defaced:
    """Remove the face from one scan as `deface` does; the method's parameters are a mapping, whatever their names.

    With `skip_failed`, an image of `apply_to` that cannot be used or aligned is told of in `Defaced.failed` instead of
    raised: the scan itself was fine.
    """
    check_policy(header)
    if apply_to:
        check_carries_over(method)
    scan = load_scan(image)
    failed: dict[int, str] = {}
    others: dict[int, Scan] = {}
    for place, other in enumerate(apply_to):
        with _noting(failed, place, skip=skip_failed):
            others[place] = load_scan(other)
    brain = load_mask(brain_mask, scan) if brain_mask is not None else None
    anatomy = HeadAnatomy(scan, brain)
    edit = plan(anatomy, method, params, implementation=implementation, protect_brain=protect_brain)
    warnings = [*anatomy.warnings, *edit.warnings]
    made = [apply_edit(scan, edit)]
    for place, other in others.items():
        with _noting(failed, place, skip=skip_failed):
            other_edit = propagate_edit(edit, anatomy, other, protect_brain=protect_brain)
            made.append(apply_edit(other, other_edit))
            warnings += [*other.warnings, *other_edit.warnings]
    cleaned = [strip_identifying_header(one, header) for one in made]
    removed = dict.fromkeys(name for _, names in cleaned for name in names)
    first, *rest = (one for one, _ in cleaned)
    return Defaced(scan, first, edit, tuple(rest), tuple(warnings), tuple(removed), failed, anatomy.known_registration)


@contextlib.contextmanager
def _noting(failed: dict[int, str], place: int, *, skip: bool) -> Iterator[None]:
    """Note why an image failed, and go on; or raise."""
    try:
        yield
    except (InputError, AnatomyError, RegistrationError) as error:
        if not skip:
            raise
        failed[place] = str(error)


def segment(image: Any, segmenter: str = DEFAULT_SEGMENTER, **params: Any) -> Segmented:
    """Segment the brain of one scan into the 132 BrainCOLOR labels.

    Parameters
    ----------
    image
        Path of a NIfTI or MGH file, or a nibabel image.
    segmenter
        A name in `efface.segmentation.SEGMENTERS`.
    **params
        The segmenter's own parameters.

    Raises
    ------
    InputError, AnatomyError, RegistrationError
        If the image cannot be used, no brain was found, or the atlas does not fit it.
    """
    return segment_with(image, segmenter, params)


def segment_with(image: Any, segmenter: str, params: Mapping[str, Any]) -> Segmented:
    """Segment one scan as `segment` does; the segmenter's parameters are a mapping, whatever their names."""
    scan = load_scan(image)
    return Segmented(scan, run_segmenter(HeadAnatomy(scan), segmenter, params))


def qc(original: Any, defaced: Any, *, brain_mask: str | Path | None = None) -> Verdict:
    """Judge a defaced scan: Success, Failure I (face left) or Failure II (brain damaged), with the evidence.

    Parameters
    ----------
    original, defaced
        Paths or nibabel images of a scan before and after defacing, by any program; the defaced one on the original's
        grid, or on a part of it.
    brain_mask
        Path of a mask on the original's grid to use instead of finding the brain.

    Raises
    ------
    InputError
        If an image cannot be used, or the two do not belong together.
    AnatomyError, RegistrationError
        If brain or head were not found in the original.
    """
    scan = load_scan(original)
    other = load_scan(defaced)
    brain = load_mask(brain_mask, scan) if brain_mask is not None else None
    return judged_among_faces(Judge(HeadAnatomy(scan, brain)), other)


def dice(a: Any, b: Any) -> "pd.DataFrame":
    """Dice of the whole brain (union and labels pooled), the nine regions and all labels of two segmentations.

    Parameters
    ----------
    a, b
        Paths or nibabel images of BrainCOLOR labels on the same grid (stored in any orientation).

    Returns
    -------
    pandas.DataFrame
        Columns level, region, label, dice, voxels_a, voxels_b, voxels_both. Dice is NaN where a region is empty
        in both. ``attrs["warnings"]`` says which numbers are no BrainCOLOR labels and were taken as background.

    Raises
    ------
    InputError
        If an image holds no labels, or the two lie on different grids.
    """
    import pandas as pd

    _check_sizes(a, b)
    first, second = _labels(a), _labels(b)
    _check_same_grid(first, second)
    frame = pd.DataFrame(compare_labels(first[1], second[1]))
    warnings = []
    frame["label"] = frame["label"].astype("Int64")
    for name, labels, _ in (first, second):
        unknown = unknown_labels(labels)
        if unknown:
            warnings.append(
                f"{name}: {len(unknown)} numbers are no BrainCOLOR labels ({', '.join(map(str, unknown[:5]))}"
                f"{', ...' if len(unknown) > 5 else ''}) and count as background"
            )
    frame.attrs["warnings"] = warnings
    return frame


_Loaded = tuple[str, LabelVolume, "np.ndarray[Any, np.dtype[np.float64]]"]


def _check_sizes(a: Any, b: Any) -> None:
    """Refuse two files of different size before either is read: one may be huge."""
    if not (isinstance(a, str | os.PathLike) and isinstance(b, str | os.PathLike)):
        return
    shape_a, shape_b = announced_shape(Path(a)), announced_shape(Path(b))
    if sorted(shape_a) != sorted(shape_b):
        msg = f"segmentations must lie on the same grid; {a} and {b} have {shape_a} and {shape_b}: resample one onto "
        raise InputError(msg + "the other")


def _labels(image: Any) -> _Loaded:
    """Name, labels in RAS+ order, and their affine."""
    is_path = isinstance(image, str | os.PathLike)
    values, affine = load_labels(image)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    ras = np.ascontiguousarray(np.asanyarray(canonical.dataobj), dtype=np.int32)
    return str(image) if is_path else "image", ras, np.asarray(canonical.affine, dtype=np.float64)


def _check_same_grid(first: _Loaded, second: _Loaded) -> None:
    """Refuse two images whose voxels do not lie in the same places."""
    (name_a, a, affine_a), (name_b, b, affine_b) = first, second
    if a.shape != b.shape or not np.allclose(affine_a, affine_b, atol=1e-2):
        why = f"{a.shape} and {b.shape}" if a.shape != b.shape else "equal shapes but other affines"
        msg = f"segmentations must lie on the same grid; {name_a} and {name_b} have {why}: resample one onto the other"
        raise InputError(msg)
