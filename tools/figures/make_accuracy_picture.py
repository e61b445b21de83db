"""Draw SLANT's Dice of every label of scans that it has not seen, by region: ``tools/figures/make_accuracy_picture.py``.

The numbers are those of ``validation/whole_brain_accuracy.py``, in docs/validation/data/slant_labels.tsv.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from panels import PICTURES, save
from PIL import Image

from efface.segmentation.labels import REGIONS, region_of

TABLE = PICTURES.parent / "validation/data/slant_labels.tsv"
KINDS = (
    ("manual", "#0072B2", "manual labels, {} scans of 1 mm"),
    ("dlmuse", "#D55E00", "DLMUSE labels, {} heads of 2 mm"),
)
"""References, from left to right."""
WIDTH = 0.36
FEW = 12
"""With fewer points they are drawn without a violin."""


def main() -> None:
    rows = pd.read_csv(TABLE, sep="\t").dropna()
    rows["region"] = [region_of(label) for label in rows.label]
    figure, axes = plt.subplots(figsize=(10, 4.4), layout="constrained")
    for side, (kind, colour, title) in zip((-0.2, 0.2), KINDS, strict=True):
        chosen = rows[rows.reference == kind]
        for place, region in enumerate(REGIONS):
            draw(axes, chosen[chosen.region == region].dice.to_numpy(), place + side, colour)
        axes.plot([], [], "s", color=colour, label=title.format(chosen.scan.nunique()))
    axes.set_xticks(range(len(REGIONS)), [f"{r.replace(' ', chr(10))}\n({len(ids)})" for r, ids in REGIONS.items()])
    axes.set_ylabel("Dice of one label in one scan")
    axes.set_ylim(0, 1)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    save(Image.open(buffer).convert("RGB"), "slant_violins")


def draw(axes: Axes, values: np.ndarray, place: float, colour: str) -> None:
    """A violin where there are enough points, every point, and their median."""
    if len(values) >= FEW:
        for body in axes.violinplot(values, [place], widths=WIDTH, showextrema=False)["bodies"]:
            body.set(facecolor=colour, alpha=0.3)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(values)) * WIDTH
    axes.plot(place + spread, values, "o", color=colour, markersize=2, markeredgewidth=0, alpha=0.5)
    axes.plot([place - WIDTH / 2, place + WIDTH / 2], [np.median(values)] * 2, color="black", linewidth=1.2)


if __name__ == "__main__":
    main()
