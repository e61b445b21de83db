"""Remove faces from head MRI, and measure what that costs."""

from efface._version import __version__

__all__ = ["__version__"]
