"""The anatomy of a phantom: its brain, registration and landmarks are known and are not searched for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import phantom
from efface import defacing
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit
from efface.io.scan import Scan, load_scan
from efface.spatial import registration
from efface.spatial.registration import AffineResult
from efface.spatial.types import Affine, BoolVolume

PARAMS: dict[str, dict[str, Any]] = {"quickshear": {"buffer": 2.0}}
"""The default buffer is in voxels, which are large in the phantom."""


def registered_at(matrix: Affine, *, converged: bool = True) -> AffineResult:
    """A registration of the average head."""
    return AffineResult(matrix, 0.9, converged, "" if converged else "the score is 0.1, expected 0.5", 12, 1)


def known(scan: Scan, brain: BoolVolume, orientation: str = "RAS", *, converged: bool = True) -> HeadAnatomy:
    """The anatomy of a phantom in memory."""
    return located(scan, brain, registered_at(phantom.pose(orientation), converged=converged))


def located(scan: Scan, brain: BoolVolume, result: AffineResult) -> HeadAnatomy:
    """An anatomy with this registration."""
    return HeadAnatomy(scan, brain=brain, registration=result)


def stored(folder: Path, orientation: str = "RAS", dtype: str = "int16", **options: Any) -> HeadAnatomy:
    """The anatomy of a phantom in a file."""
    truth = phantom.write(folder / f"{orientation}.nii", orientation, dtype, **options)
    return known(load_scan(truth.path), truth.brain, orientation)


def planned(anatomy: HeadAnatomy, method: str, *, protect_brain: bool = True, **options: Any) -> Edit:
    """Plan with parameters that suit the phantom."""
    return defacing.plan(anatomy, method, {**PARAMS.get(method, {}), **options}, protect_brain=protect_brain)


@contextmanager
def no_search() -> Iterator[None]:
    """Replace what is slow: registrations, the networks of landmarks and pose, and the fine voxels of reshape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "refine_affine", lambda fixed, moving, initial: registered_at(initial))
        patch.setattr(registration, "register_deformable", phantom.no_warp)
        phantom.give_landmarks(patch)
        phantom.simple_reshape(patch)
        phantom.see_nothing(patch)
        yield


def nose() -> BoolVolume:
    """Voxels inside the nose of the phantom."""
    return np.asarray(phantom.ellipsoid((-3, 100, -38), (8, 8, 12)))
