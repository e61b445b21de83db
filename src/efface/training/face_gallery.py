"""Learn the shape model from which `efface.privacy.singled_out` draws faces of nobody.

Run: ``efface train face_gallery LABEL_MAPS_DIR [--out src/efface/data]``. Of every label map of a whole head with a
complete face, the outer surface of the face region is laid over the mean of all, rigidly, so that faces keep their
sizes; mirrored faces are faces too. What the modes of all but one person do not show of that person is measured, and
its size is kept: faces are drawn with as much smooth relief of their own.
"""

import argparse
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.upright import rigid_of
from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.privacy import face_model
from efface.privacy.face_map import SHAPE, Map, face_map, face_points, filled
from efface.privacy.face_model import FILE, FaceModel, as_file_content
from efface.privacy.map_fit import MapSurfaces, best_moves
from efface.spatial.affine import invert
from efface.spatial.types import Affine, Volume
from efface.training.face_shape import signed_distance
from efface.training.pose_heads import registered

log = logging.getLogger(__name__)

LEAST_FACES = 6
ROUNDS = 3
"""How often all faces are laid over their mean."""
WRONG_MM = 20.0
"""Surface so far from the median of all faces is none of the face (a cut chin): it is filled from the modes."""
FILLING_MODES, FILLINGS = 8, 30
RELIEF_SMOOTHING = 1.5
"""Rays over which the size of the relief is smoothed."""


@dataclass(frozen=True, eq=False)
class Face:
    """The head of a label map, and its pose: upright mm to its mm, shape (4, 4)."""

    tissue: Volume
    pose: Affine

    def map(self) -> Map:
        """Its face."""
        return face_map(self.tissue, self.pose, 0.5)


def faces_of(label_maps: Sequence[Path]) -> list[Face]:
    """Heads of the label maps with complete faces, in the pose of the average head.

    Raises
    ------
    InputError
        If too few show a face.
    """
    faces = []
    for path in label_maps:
        is_complete = signed_distance(path) is not None
        log.info("%s: %s", path.name, "taken" if is_complete else "left out: its face is not complete")
        if is_complete:
            tissues, affine, found = registered(path)
            faces.append(Face(Volume((tissues > 0).astype(np.float32), affine), rigid_of(found.matrix)))
    if len(faces) < LEAST_FACES:
        msg = f"{len(faces)} of {len(label_maps)} label maps show a complete face; expected {LEAST_FACES} or more: "
        raise InputError(msg + "check the folder")
    return faces


def aligned(faces: Sequence[Face]) -> Map:
    """Maps of all faces, each laid over their symmetric median, shape (n, *SHAPE)."""
    moved = list(faces)
    maps = np.stack([face.map() for face in moved])
    for _ in range(ROUNDS):
        middle = np.nanmedian(_with_mirrored(maps), axis=0)
        surface = MapSurfaces.of(filled(middle)[None])
        for i, face in enumerate(moved):
            points = face_points(np.where(np.abs(maps[i] - middle) < WRONG_MM, maps[i], np.nan))
            turn, shift = best_moves(points.astype(np.float32), surface)
            move = np.eye(4)
            move[:3, :3], move[:3, 3] = turn[0], shift[0, 0]
            moved[i] = Face(face.tissue, face.pose @ invert(move))
        maps = np.stack([face.map() for face in moved])
    return maps


def learn(maps: Map) -> FaceModel:
    """Learn the model of aligned maps, shape (people, *SHAPE); holes (NaN) and what is far from all others are filled.

    Notes
    -----
    The modes are those of all faces and their mirror images. Their variances are those that the modes of all other
    people find in a person, on average: modes of a few people fit these people too well. What they do not find is the
    relief.
    """
    people = len(maps)
    rows = _filled_rows(_with_mirrored(maps))
    mean, modes = _modes(rows, len(rows) - 1)
    unseen, shares = [], []
    for person in range(people):
        others = np.delete(rows, [person, person + people], axis=0)
        middle, axes = _modes(others, len(others) - 1)
        size = np.linalg.norm(axes, axis=1)
        kept = size > 1e-6 * size.max()
        units = axes[kept] / size[kept, None]
        off = rows[[person, person + people]] - middle
        seen = off @ units.T
        unseen.append(off - seen @ units)
        shares.append((seen**2).sum() / (2 * (size**2).sum()))
    relief = np.sqrt((np.concatenate(unseen) ** 2).mean(axis=0)).reshape(SHAPE)
    share = float(np.mean(shares))
    rms = float(np.sqrt((relief**2).mean()))
    log.info(
        "%d people; the modes of others find %.0f %% of their variance, and leave %.1f mm", people, 100 * share, rms
    )
    relief = ndimage.gaussian_filter(relief, RELIEF_SMOOTHING)
    return FaceModel(mean.reshape(SHAPE), np.sqrt(share) * modes.reshape(-1, *SHAPE), relief)


def _with_mirrored(maps: Map) -> Map:
    return np.concatenate([maps, maps[:, ::-1]])


def _filled_rows(maps: Map) -> NDArray[np.float64]:
    """Maps as rows; what is missing or wrong comes from modes that are found again and again."""
    middle = np.nanmedian(maps, axis=0)
    known = (np.abs(maps - middle) < WRONG_MM).reshape(len(maps), -1)
    given = maps.reshape(len(maps), -1)
    rows = np.where(known, given, filled(middle).ravel())
    for _ in range(FILLINGS):
        mean, modes = _modes(rows, FILLING_MODES)
        units = modes / np.linalg.norm(modes, axis=1, keepdims=True)
        rows = np.where(known, given, mean + (rows - mean) @ units.T @ units)
    return rows


def _modes(rows: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and principal modes of rows, each by its standard deviation; its largest number is positive."""
    mean = rows.mean(axis=0)
    _, size, axes = np.linalg.svd(rows - mean, full_matrices=False)
    most = min(most, len(rows) - 1)
    modes = axes[:most] * (size[:most, None] / np.sqrt(len(rows) - 1))
    largest = modes[np.arange(most), np.abs(modes).argmax(axis=1)]
    return mean, modes * np.where(largest < 0, -1.0, 1.0)[:, None]


def save(model: FaceModel, folder: Path) -> Path:
    """Write a model, the same bytes for the same model."""
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    arrays: dict[str, Any] = dict(as_file_content(model))
    np.savez_compressed(content, **arrays)
    write_atomically(folder / FILE, content.getvalue(), force=True)
    return folder / FILE


def main(argv: Sequence[str] | None = None) -> int:
    """Learn from the command line."""
    parser = argparse.ArgumentParser(
        prog="efface train face_gallery", description="Learn the model from which faces of nobody are drawn."
    )
    parser.add_argument("label_maps", type=Path, help="folder of label maps of whole heads, SynthSeg's numbers")
    parser.add_argument("--out", type=Path, default=Path(face_model.__file__).parents[1] / "data", help="where it goes")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = learn(aligned(faces_of(sorted(options.label_maps.glob("*.nii.gz")))))
    path = save(model, options.out)
    log.info("%s: %d modes, %d kB", path.name, len(model.modes), path.stat().st_size // 1000)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
