"""The registration engine (greedy), run in this process; the only module that calls it.

References
----------
Yushkevich et al. "Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3
Tesla and 7 Tesla T2-weighted MRI." Alzheimer's & Dementia 12 (2016), P126-P127.
"""

import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from efface._switch import SharedSwitch
from efface.spatial.types import Affine, Displacement, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def run_greedy(command: str, images: dict[str, Any], output: str, matrix: Affine) -> Any:
    """Run one greedy command in this process; `{matrix}` stands for a file holding `matrix`.

    This build of greedy does not take matrices from memory, and its optimiser prints harmless line-search
    messages past Python's streams; both are dealt with here and nowhere else.
    """
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    log = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="efface-") as folder, QUIET_STDOUT.on():
        path = Path(folder) / "initial.mat"
        np.savetxt(path, matrix, fmt="%.17g")
        greedy.execute(command.format(matrix=path) + " -V 0 -seed 1", out=log, err=log, **images)
    return greedy[output]


def _redirect_stdout() -> int:
    """Point file descriptor 1 at the null device (C code writes to it directly); gives a copy of what it was."""
    sys.stdout.flush()
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return saved


def _restore_stdout(saved: int) -> None:
    """Point file descriptor 1 at what it was."""
    os.dup2(saved, 1)
    os.close(saved)


QUIET_STDOUT = SharedSwitch(_redirect_stdout, _restore_stdout)


def to_sitk(volume: Volume) -> Any:
    """A SimpleITK image (LPS mm) of a RAS+ volume; shear in the affine is refused by ITK, and never occurs here."""
    affine = RAS_TO_LPS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.data.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def displacement_ras(field: Any) -> Displacement:
    """RAS+ mm displacement (x, y, z, 3) of an ITK vector image (LPS mm, stored z, y, x)."""
    array = SimpleITK.GetArrayFromImage(field).transpose(2, 1, 0, 3)
    displacement: Displacement = (array * np.array([-1.0, -1.0, 1.0], array.dtype)).astype(np.float32)
    return displacement
