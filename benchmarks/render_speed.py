"""Seconds for the surface and for each view of a 192x256x256 head, 0.9 mm: ``python benchmarks/render_speed.py``.

The head is the average head, resampled; set ``OMP_NUM_THREADS=1`` for one core.
"""

import time

import numpy as np

from efface.anatomy.skin import head_surface
from efface.anatomy.templates import average_head
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume
from efface.visualization.face_rendering import SIZE_PX, VIEWS, render_view

SHAPE, SPACING_MM = (192, 256, 256), 0.9
REPEATS = 3


def main() -> None:
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = (-88.0, -104.0, -130.0)
    volume = Volume(resample(average_head(), Grid(SHAPE, affine), np.eye(4)), affine)
    seconds: dict[str, list[float]] = {"surface": [], **{view: [] for view in VIEWS}}
    for _ in range(REPEATS):
        start = time.perf_counter()
        surface = head_surface(volume)
        surface.empty_blocks  # noqa: B018 - made once, on first use
        seconds["surface"].append(time.perf_counter() - start)
        for view in VIEWS:
            start = time.perf_counter()
            render_view(surface, view, np.eye(4))
            seconds[view].append(time.perf_counter() - start)
    print(f"{SHAPE[0]}x{SHAPE[1]}x{SHAPE[2]}, {SPACING_MM} mm, pictures of {SIZE_PX[0]}x{SIZE_PX[1]} px")
    for what, times in seconds.items():
        print(f"{what:20} median {np.median(times):.2f} s, slowest {max(times):.2f} s of {REPEATS}")


if __name__ == "__main__":
    main()
