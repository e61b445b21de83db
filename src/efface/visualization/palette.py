"""Colours and titles of methods, rescans and regions, the same in every figure, table and page."""

from collections.abc import Mapping
from types import MappingProxyType

from efface.defacing import METHODS

RESCAN_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "rescan-1-2": "Rescan(1-2)",
        "rescan-2-1": "Rescan(2-1)",
        "resampled": "Resampled only",
        "rescan-halfway": "Rescan, half-way",
        "resampled-halfway": "Resampled only, half-way",
        "unregistered": "Sessions, own grids",
    }
)
RESCAN_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "rescan-1-2": "#1b1b1b",
        "rescan-2-1": "#555555",
        "resampled": "#8a8a8a",
        "rescan-halfway": "#3a3a3a",
        "resampled-halfway": "#9a9a9a",
        "unregistered": "#b0b0b0",
    }
)
"""Greys: rescans are the yardstick, not a method."""
REGION_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "ventricles": "#332288",
        "caudate": "#CC6677",
        "cerebral WM": "#DDDDDD",
        "cerebral GM": "#88CCEE",
        "brainstem": "#882255",
        "putamen": "#DDCC77",
        "thalamus": "#AA4499",
        "cerebellar GM": "#44AA99",
        "cerebellar WM": "#999933",
        "other": "#117733",
    }
)
"""Tol's muted scheme, for the segmentation in Figure 3."""
LOST, GAINED, MOVED = "#D55E00", "#0072B2", "#F0E442"
"""In the difference of two segmentations: brain before only, brain after only, another region."""
UNKNOWN = "#666666"


def colour_of(method: str) -> str:
    """Colour of a method or a rescan group, as ``#rrggbb``."""
    return METHODS[method].colour if method in METHODS else RESCAN_COLOURS.get(method, UNKNOWN)


def title_of(method: str) -> str:
    """The name that its authors write."""
    return METHODS[method].title if method in METHODS else RESCAN_TITLES.get(method, method)
