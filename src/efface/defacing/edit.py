"""The edit: which voxels change, their new values, and the only function that changes intensities."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from efface.anatomy.wraparound import Wrap
from efface.errors import InputError
from efface.io.scan import Scan
from efface.spatial.types import BoolVolume, FloatVolume


@dataclass(frozen=True, eq=False)
class Edit:
    """Which voxels a method changes, and their new values.

    Attributes
    ----------
    mask
        The edited region, on the scan's RAS+ grid: all voxels that change, and air that has the value of its fill.
        `efface.defacing.plan` closes it outward to the border of the image, so that it does not show the skin.
    values
        Their new intensities, shape (mask.sum(),), in the order of ``data[mask]``; or one for all, the
        scan's air.
    method, implementation, params
        What produced the edit: method, ``native`` or ``original``, parameters and facts for the record.
    warnings
        For the user, one line each.
    protected_voxels
        Number of voxels that the brain protection removed from the edit.
    leaves_face
        Whether the method was asked to leave a part of the face: then no record says that the face was removed.
    """

    mask: BoolVolume
    values: FloatVolume | float
    method: str
    implementation: str = "native"
    params: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    protected_voxels: int = 0
    leaves_face: bool = False


def without(edit: Edit, protected: BoolVolume) -> Edit:
    """Remove voxels from an edit, and count them in `Edit.protected_voxels`.

    Parameters
    ----------
    edit
        Is not changed.
    protected
        Voxels to remove, shape of ``edit.mask``.
    """
    keep = ~protected[edit.mask]
    values = edit.values if isinstance(edit.values, int | float) else edit.values[keep]
    mask = edit.mask & ~protected
    saved = edit.protected_voxels + int(keep.size - keep.sum())
    return replace(edit, mask=mask, values=values, protected_voxels=saved)


def extended(edit: Edit, added: BoolVolume, values: FloatVolume) -> Edit:
    """Add voxels to an edit.

    Parameters
    ----------
    edit
        Is not changed; has an intensity for each voxel.
    added
        Voxels outside ``edit.mask``, same shape.
    values
        Their new intensities, shape (added.sum(),).
    """
    mask = edit.mask | added
    both = np.empty(mask.shape, dtype=np.float32)
    both[edit.mask], both[added] = edit.values, values
    return replace(edit, mask=mask, values=both[mask])


def carried_around(edit: Edit, wrap: Wrap) -> Edit:
    """Bring an edit of the whole head back to a scan in which a part of the head wraps around.

    Parameters
    ----------
    edit
        On the larger image of `wrap`.
    wrap
        Of the scan.

    Returns
    -------
    Edit
        On the scan's grid, with a warning of what wraps around.
    """
    mask = wrap.back(edit.mask)
    values = edit.values
    if not isinstance(values, int | float):
        large = np.zeros(edit.mask.shape, dtype=np.float32)
        large[edit.mask] = values
        values = wrap.back(large)[mask]
    return replace(edit, mask=mask, values=values, warnings=(*edit.warnings, wrap.warning))


def apply_edit(scan: Scan, edit: Edit) -> Scan:
    """Return the scan with the edited voxels changed; all others keep their stored bits.

    Parameters
    ----------
    scan
        Is not changed.
    edit
        On the RAS+ grid of the scan.

    Raises
    ------
    InputError
        If the edit's mask has another shape than the scan, or its values another length than the mask has voxels.
    """
    if edit.mask.shape != scan.shape:
        msg = f"the edit must have the scan's shape {scan.shape}; received {edit.mask.shape}"
        raise InputError(msg)
    count = int(edit.mask.sum())
    if not isinstance(edit.values, int | float) and edit.values.shape != (count,):
        msg = f"the edit changes {count} voxels; received values of shape {edit.values.shape}"
        raise InputError(msg)
    ras = np.array(scan.stored_to_ras(scan.stored))
    ras[edit.mask] = scan.encode(np.asarray(edit.values))
    return scan.with_stored(scan.ras_to_stored(ras))
