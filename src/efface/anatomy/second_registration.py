"""A second opinion on where the head is: niimath's affine registration, where its package is installed.

It is asked only where our own search is refused. Its result passes the same checks, or is refused too.

References
----------
niimath, ``-allineate`` (https://github.com/rordenlab/niimath); after AFNI's 3dAllineate: Saad et al. "A new method for
improving functional-to-structural MRI alignment using local Pearson correlation." NeuroImage 44 (2009) 839-848.
"""

import importlib.util
import json
import os
import subprocess
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np

from efface.anatomy import templates
from efface.io.scratch import private_temporary_folder
from efface.spatial.registration import AffineResult, judge_affine
from efface.spatial.types import Affine, Volume

PACKAGE = "niimath"
TIME_LIMIT_S = 300.0
"""It takes seconds; a program that hangs must not stop a study."""


def installed_version() -> str:
    """Version of the niimath package in this environment; empty where there is none, or it has no program."""
    try:
        return metadata.version(PACKAGE) if _program() else ""
    except metadata.PackageNotFoundError:
        return ""


def second_registration(volume: Volume) -> AffineResult | None:
    """Register the average head to a scan by niimath.

    Parameters
    ----------
    volume
        The scan, RAS+. It is written into a private temporary folder, which is removed.

    Returns
    -------
    AffineResult or None
        Average head mm to scan mm, with the verdict of correlation and stretch; None where niimath is not installed, or
        gave no matrix.
    """
    program = _program()
    matrix = None if program is None else _registered(program, volume)
    if matrix is None:
        return None
    return replace(judge_affine(templates.average_head(), volume, matrix), by=f"{PACKAGE} {installed_version()}")


def _program() -> Path | None:
    """The program inside the package, which is found without being imported."""
    spec = importlib.util.find_spec(PACKAGE)
    name = f"{PACKAGE}.exe" if os.name == "nt" else PACKAGE
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / name
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def _registered(program: Path, volume: Volume) -> Affine | None:
    average = templates.data_file("pydeface", "data/mean_reg2mean.nii.gz")
    with private_temporary_folder() as folder:
        image = nib.Nifti1Image(volume.data, volume.affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / "scan.nii")
        words = [str(program), "scan.nii", "-allineate", str(average), "-savemat", "matrix.json", "registered.nii"]
        try:
            subprocess.run(
                words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=TIME_LIMIT_S, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            found = np.array(json.loads((folder / "matrix.json").read_bytes())["fixed_to_moving"], dtype=np.float64)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
            return None  # a second opinion that cannot be had
    return found if found.shape == (4, 4) and np.isfinite(found).all() else None
