"""Where a header says that the voxels are, in RAS+ mm; which of its statements can be believed, and what is odd.

A NIfTI header has up to two affines (sform and qform) and a unit (``xyzt_units``). Each is often wrong: programs copy
numbers in mm into a header in metres, set a code without its matrix, or write zeros. A head is always about as large as
a head, so the size of the field of view says which unit was meant. The header itself is never changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from efface.errors import InputError
from efface.spatial.grid_limits import MAXIMUM_VOXELS
from efface.spatial.types import Affine, Grid

FORM_TOLERANCE_MM = 0.5
WHOLE_MM = 100.0
"""Sides from here on are shown in whole mm."""
SPACING_TOLERANCE = 0.02
MAXIMUM_MM = 1e5
"""An affine with a larger number is nonsense."""
MINIMUM_SPACING_MM = 1e-3
MINIMUM_INDEPENDENCE = 1e-3
"""Determinant of the voxel axes, each of length one: 1 where they are perpendicular, 0 where one is lost."""
LONGEST_SIDE_MM = (40.0, 1000.0)
"""Longest side of the field of view: from part of a head to a scan down to the waist. The two numbers are less than a
factor of 1,000 apart, so that a field of view can be that of a head in one unit only."""
SHORTEST_SIDE_MM = 10.0
"""A thin slab; a whole head needs far more."""
UNITS: Mapping[int, tuple[str, float]] = MappingProxyType({1: ("metres", 1e3), 2: ("mm", 1.0), 3: ("microns", 1e-3)})
"""Codes of the spatial unit in ``xyzt_units``: name, and mm in one unit."""
UNKNOWN_UNIT, MM = 0, 2
UNIT_BITS = 7
NIBABEL_UNITS: Mapping[float, str] = MappingProxyType({1e3: "meter", 1.0: "mm", 1e-3: "micron"})
"""What nibabel calls the unit of so many mm."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a file are.

    Attributes
    ----------
    affine
        Stored voxel index to RAS+ mm, shape (4, 4).
    unit_mm
        How many mm one unit of the header's numbers is.
    warnings
        What is odd about the header, without the name of the file.
    """

    affine: Affine
    unit_mm: float = 1.0
    warnings: tuple[str, ...] = ()


def is_head_sized(grid: Grid) -> bool:
    """Whether the field of view can be that of a head scan."""
    sides_mm = np.array(grid.shape) * grid.spacing_mm
    shortest, longest = LONGEST_SIDE_MM
    fits = bool(shortest <= sides_mm.max() <= longest and sides_mm.min() >= SHORTEST_SIDE_MM)
    return fits and bool(sides_mm.prod() <= MAXIMUM_VOXELS)  # 1 mm is the finest grid that is made of a whole scan


def check_head_sized(grid: Grid, name: str) -> None:
    """Refuse a scan whose field of view cannot be that of a head.

    Raises
    ------
    InputError
        With the field of view, in mm.
    """
    if is_head_sized(grid):
        return
    spacing = " x ".join(f"{size:.3g}" for size in grid.spacing_mm)
    shortest, longest = LONGEST_SIDE_MM
    msg = (
        f"{name} has a field of view of {_sides(grid)} mm (voxels of {spacing} mm); expected that of a head, "
        f"{shortest:.0f} to {longest:.0f} mm along its longest side and at least {SHORTEST_SIDE_MM:.0f} mm along each: "
        "check voxel size and unit in its header, or convert it again from DICOM"
    )
    raise InputError(msg)


def nifti_geometry(header: Any, shape: tuple[int, int, int], name: str) -> Geometry:
    """Decide which of the two affines of a NIfTI header is used, and in which unit.

    The sform is used where it is set and valid, else the qform. An affine is valid that has three independent axes
    and, if the other one has the field of view of a head, has that too.

    Raises
    ------
    InputError
        If neither is set, or none of those that are set is valid.
    """
    codes = {form: int(header[f"{form}_code"]) for form in ("sform", "qform")}
    given = [form for form, code in codes.items() if code > 0]
    if not given:
        msg = f"{name} does not say how the head lies (sform and qform codes are 0): convert it again from DICOM"
        raise InputError(msg)
    unit = int(header["xyzt_units"]) & UNIT_BITS
    raw = {form: _raw_form(header, form) for form in given}
    found = {form: _in_mm(affine, shape, unit) for form, affine in raw.items()}
    usable = {form: one for form, one in found.items() if one is not None}
    if not usable:
        said = ", ".join(f"the {form} {_numbers(raw[form])}" for form in given)
        unset = "".join(f", the {form} is not set" for form, code in codes.items() if code <= 0)
        raise no_affine(name, f"{said}{unset}")
    sized = {form: one for form, one in usable.items() if is_head_sized(Grid(shape, one.affine))} or usable
    form, chosen = next(iter(sized.items()))
    notes = []
    for other in (one for one in given if one not in sized):
        size = (
            f"has a field of view of {_sides(Grid(shape, usable[other].affine))} mm" if other in usable else "is invalid"
        )
        notes.append(f"the {other} {size}; the {form} is used")
    if len(sized) == 2:
        notes += _disagreement(sized["sform"].affine, sized["qform"].affine, shape)
    if given == ["sform"]:
        notes += _other_voxel_size(header, chosen)
    return Geometry(chosen.affine, chosen.unit_mm, (*notes, *chosen.warnings))


def mgh_geometry(affine: Affine, shape: tuple[int, int, int], *, good: bool, name: str) -> Geometry:
    """Check the affine of an MGH file, whose unit is the millimetre.

    Parameters
    ----------
    affine
        As in the file, shape (4, 4).
    shape
        Of the voxels.
    good
        Whether the file says how the head lies.
    name
        Of the file, for messages.

    Raises
    ------
    InputError
        If the affine is not valid.
    """
    found = _in_mm(affine, shape, MM)
    if found is None:
        raise no_affine(name, _numbers(affine))
    assumed = "the header does not say how the head lies; coronal slices of 1 mm are assumed: look at the result"
    return found if good else Geometry(found.affine, found.unit_mm, (assumed, *found.warnings))


@np.errstate(all="ignore")
def _raw_form(header: Any, form: str) -> Affine | None:
    """One of the two affines, in the header's unit; None where it cannot be made."""
    try:
        return np.asarray(header.get_sform() if form == "sform" else header.get_qform(), np.float64)
    except (ValueError, HeaderDataError):
        return None


@np.errstate(all="ignore")
def _in_mm(raw: Affine | None, shape: tuple[int, int, int], unit: int) -> Geometry | None:
    """An affine in mm, by the header's unit or the one that was meant; None where it is singular or absurd."""
    if raw is None or not _has_three_axes(raw):
        return None
    declared, declared_mm = UNITS.get(unit, UNITS[MM])
    fitting = [known for known in UNITS.values() if is_head_sized(Grid(shape, _scaled(raw, known[1])))]
    name, unit_mm = fitting[0] if fitting else (declared, declared_mm)
    affine = _scaled(raw, unit_mm)
    if np.abs(affine).max() > MAXIMUM_MM or Grid(shape, affine).spacing_mm.min() < MINIMUM_SPACING_MM:
        return None
    notes = []
    if unit not in (UNKNOWN_UNIT, *UNITS):
        notes.append(f"the header has an unknown unit (code {unit}); it is read in {name}")
    if unit_mm != declared_mm:
        told = "without a unit, which means mm" if unit not in UNITS else f"in {declared}"
        there, here = (Grid(shape, _scaled(raw, mm)) for mm in (declared_mm, unit_mm))
        notes.append(
            f"the header is {told}: a field of view of {_sides(there)} mm, which no head scan has; "
            f"it is read in {name} ({_sides(here)} mm) and left as it is"
        )
    elif unit_mm != 1:
        notes.append(f"the header is in {name} and is left so; programs that take its numbers for mm will misread it")
    return Geometry(affine, unit_mm, tuple(notes))


def _has_three_axes(affine: Affine) -> bool:
    """Whether the numbers are finite and the axes independent, whatever the unit."""
    if not np.isfinite(affine).all():
        return False
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / spacing)) >= MINIMUM_INDEPENDENCE)


def _scaled(affine: Affine, factor: float) -> Affine:
    """The affine with its unit changed, rounded as headers are, so that it is the affine of the same header in mm."""
    if factor == 1:
        return affine
    scaled = affine.copy()
    scaled[:3] = np.float32(affine[:3] * factor)
    return scaled


def in_header_unit(affine: Affine, unit_mm: float) -> Affine:
    """An affine in mm, in a header's unit."""
    return _scaled(affine, 1 / unit_mm)


def _disagreement(sform: Affine, qform: Affine, shape: tuple[int, int, int]) -> list[str]:
    """What to warn of where sform and qform put a corner of the volume in two places."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    difference = sform - qform
    apart = float(np.abs(difference[:3, :3] @ corners + difference[:3, 3:]).max())
    if apart <= FORM_TOLERANCE_MM:
        return []
    axes = ["".join(nib.aff2axcodes(affine)) for affine in (sform, qform)]
    sides = f" ({axes[0]} and {axes[1]}: check left and right)" if axes[0] != axes[1] else ""
    return [f"sform and qform disagree by up to {apart:.1f} mm{sides}; the sform is used"]


def _other_voxel_size(header: Any, chosen: Geometry) -> list[str]:
    """What to warn of where ``pixdim``, which some programs read instead, has other voxel sizes than the sform."""
    pixdim = np.asarray(header["pixdim"][1:4], np.float64)
    spacing = np.linalg.norm(chosen.affine[:3, :3], axis=0) / chosen.unit_mm
    if np.allclose(pixdim, spacing, rtol=SPACING_TOLERANCE, atol=0):
        return []
    sizes = [" x ".join(f"{size:.3g}" for size in one) for one in (pixdim, spacing)]
    return [f"the header's voxel size (pixdim) is {sizes[0]} and the sform's {sizes[1]}; the sform is used"]


def _sides(grid: Grid) -> str:
    sides_mm = np.array(grid.shape) * grid.spacing_mm
    return " x ".join(f"{side:,.0f}" if side >= WHOLE_MM else f"{side:.3g}" for side in sides_mm)


def _numbers(affine: Affine | None) -> str:
    return "invalid" if affine is None else " ".join(f"{number:.4g}" for number in affine[:3].ravel())


def no_affine(name: str, received: str) -> InputError:
    """The error of a file without a valid affine."""
    msg = (
        f"{name} has a singular or absurd affine; expected a voxel-to-mm matrix with three independent axes; "
        f"received {received}: convert it again from DICOM"
    )
    return InputError(msg)
