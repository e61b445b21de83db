"""One colour and one name a method, the same in every figure, table and page."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "defacer": "#CC79A7",
        "quickshear": "#E69F00",
        "mri_deface": "#56B4E9",
        "pydeface": "#0072B2",
        "fsl_deface": "#009E73",
        "mri_reface": "#D55E00",
    }
)
"""Okabe and Ito's colours, which colour-blind people tell apart; the same method has the same colour everywhere."""
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "defacer": "Defacer",
        "quickshear": "QuickShear",
        "mri_deface": "MRI_Deface",
        "pydeface": "PyDeface",
        "fsl_deface": "FSL_deface",
        "mri_reface": "mri_reface",
        "rescan-1-2": "Rescan 1→2",
        "rescan-2-1": "Rescan 2→1",
        "resampled": "Resampled only",
    }
)
RESCAN_COLOURS: Mapping[str, str] = MappingProxyType(
    {"rescan-1-2": "#1b1b1b", "rescan-2-1": "#555555", "resampled": "#8a8a8a"}
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
    return COLOURS.get(method) or RESCAN_COLOURS.get(method, UNKNOWN)


def title_of(method: str) -> str:
    """The name that its authors write."""
    return TITLES.get(method, method)


def listed(items: Sequence[str]) -> str:
    """Write a list as in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def counted(number: int, what: str) -> str:
    """Write ``1 scan``, ``2 scans``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
