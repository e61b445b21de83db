"""Draw the priors over the average head, which is nobody: ``python tools/figures/make_prior_pictures.py``."""

import numpy as np
from numpy.typing import NDArray
from panels import Panel, grey_slice, row, save, stack, tinted_slice, voxel_of
from PIL import Image
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.skin import Surface, head_surface
from efface.anatomy.templates import FEATURE_LABELS, PRIOR_GRID
from efface.spatial import resampling
from efface.spatial.types import FloatVolume, Volume
from efface.visualization.face_rendering import Highlight, Rgb, render_view

AT_MM = (1.0, 78.0, -41.0)
"""On the midline, through nose and mouth; and below the eyes, through the nose's root and the ears."""
OUTWARDS_MM = 7.0
"""How far the labels of ``features``, which are tissue, are drawn out towards the skin of the average head."""
PX_PER_MM = 0.62
RENDER_PX = (300, 262)
COLOURS: dict[str, Rgb] = {"eyes": (0.0, 0.45, 0.7), "nose": (0.84, 0.37, 0.0), "ears": (0.1, 0.7, 0.2)}
COLOURS["mouth"] = (0.5, 0.0, 0.7)
LEVELS = ((0.001, (0.95, 0.9, 0.35)), (0.25, (0.9, 0.6, 0.0)), (0.75, (0.75, 0.2, 0.0)))
"""A probability from which on a colour is used; the highest that applies is."""
WHITE = 98.0


def main() -> None:
    average = templates.average_head()
    grey = resampling.resample(average, PRIOR_GRID, np.eye(4))
    white = float(np.percentile(grey[grey > 0.1 * grey.max()], WHITE))
    save(stack([slices(grey, white, plane) for plane in ("sagittal", "axial")]), "priors_slices", few=False)
    save(stack([row(p) for p in renders(average)]), "priors_faces", few=False)


def slices(grey: FloatVolume, white: float, plane: str) -> Image.Image:
    """Every prior over the average head in one plane."""
    index = voxel_of(AT_MM, np.eye(4), PRIOR_GRID)[("sagittal", "coronal", "axial").index(plane)]
    where = (plane, index, PRIOR_GRID.spacing_mm, PX_PER_MM)
    panels = []
    for name in templates.PRIORS:
        data = templates.prior(name).data
        if name == "tissue":
            panels.append((name, grey_slice(data, *where, 150.0)))
            continue
        picture = grey_slice(grey, *where, white)
        for number, colour in _parts(name).items():
            tinted = tinted_slice(grey, _labels(name, data) == number, *where, white, 255 * np.array(colour))
            plain = grey_slice(grey, *where, white)
            changed = np.any(np.asarray(tinted) != np.asarray(plain), axis=-1)
            picture.paste(tinted, mask=Image.fromarray(changed))
        panels.append((name, picture))
    return row(panels)


def renders(average: Volume) -> list[list[Panel]]:
    """The average head with a prior in colour, and the surface of the prior ``head``: from the front, from the left."""
    surface = head_surface(average)
    drawn: list[tuple[str, Surface, Highlight | None]] = []
    for name in ("face", "features", "face_and_ears"):
        prior = templates.prior(name)
        labels = Volume(_outwards(name, _labels(name, prior.data)).astype(np.float32), prior.affine)
        drawn.append((name, surface, Highlight(labels, _parts(name))))
    drawn.append(("head, its own surface", head_surface(templates.prior("head"), threshold=0.5), None))
    return [
        [(name, Image.fromarray(render_view(s, v, np.eye(4), size_px=RENDER_PX, highlight=h))) for name, s, h in drawn]
        for v in ("frontal", "three_quarter_left")
    ]


def _parts(name: str) -> dict[int, Rgb]:
    """Colour of each label of `_labels`."""
    if name == "features":
        return {number: COLOURS[feature] for feature, number in FEATURE_LABELS.items()}
    if name in ("brain", "face", "head"):
        return {number: colour for number, (_, colour) in enumerate(LEVELS, start=1)}
    return {1: LEVELS[1][1]}


def _labels(name: str, data: FloatVolume) -> NDArray[np.int_]:
    """Labels to colour: a prior's own, or the number of `LEVELS` that a probability reaches."""
    if name in ("brain", "face", "head"):
        return np.asarray(np.digitize(data, [level for level, _ in LEVELS]))
    return np.rint(data).astype(int)


def _outwards(name: str, labels: NDArray[np.int_]) -> NDArray[np.int_]:
    """Give voxels near a feature the label of the nearest, so that it reaches the skin; other priors stay."""
    if name != "features":
        return labels
    distance, nearest = ndimage.distance_transform_edt(labels == 0, sampling=PRIOR_GRID.spacing_mm, return_indices=True)
    return np.where(distance <= OUTWARDS_MM, labels[tuple(nearest)], 0)


if __name__ == "__main__":
    main()
