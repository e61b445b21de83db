"""efface: remove faces from head MRI, and measure what that costs.

>>> import efface
>>> defaced = efface.deface("sub-01_T1w.nii.gz", method="quickshear")  # doctest: +SKIP
>>> nibabel.save(defaced.image, "sub-01_desc-defaced_T1w.nii.gz")  # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING

from efface._lazy import attach
from efface._version import __version__

if TYPE_CHECKING:
    from efface._api import Defaced, Segmented, deface, dice, qc, segment
    from efface.study import Settings, Study

# Sums of Intel's MKL, by which torch multiplies matrices, depend on the number of threads otherwise. It must be said
# before torch is loaded; worker processes inherit it.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

__all__ = ["Defaced", "Segmented", "Settings", "Study", "__version__", "deface", "dice", "qc", "segment"]

__getattr__, _public_names = attach(
    __name__,
    {
        **dict.fromkeys(("Defaced", "Segmented", "deface", "dice", "qc", "segment"), "efface._api"),
        **dict.fromkeys(("Settings", "Study"), "efface.study"),
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
