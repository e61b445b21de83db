"""efface: remove faces from head MRI, and measure what that costs.

>>> import efface
>>> defaced = efface.deface("sub-01_T1w.nii.gz", method="quickshear")  # doctest: +SKIP
>>> nibabel.save(defaced.image, "sub-01_desc-defaced_T1w.nii.gz")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from efface._version import __version__

if TYPE_CHECKING:
    from efface.api import Defaced, Segmented, deface, dice, qc, segment
    from efface.study import Settings, Study

__all__ = ["Defaced", "Segmented", "Settings", "Study", "__version__", "deface", "dice", "qc", "segment"]

_PLACES = {"Study": "study", "Settings": "study", "Defaced": "api", "Segmented": "api", "dice": "api"}


def __getattr__(name: str) -> Any:
    """Load the public names when they are first used: `import efface` stays light."""
    import importlib

    if name in ("deface", "qc", "segment"):  # packages that can be called
        return importlib.import_module(f"efface.{name}")
    if name not in _PLACES:
        msg = f"module 'efface' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"efface.{_PLACES[name]}"), name)
