"""Parameters of the SLANT segmenter."""

from dataclasses import dataclass

from efface.parameters import param


@dataclass(frozen=True)
class SlantParams:
    """Choice of networks and of preprocessing steps.

    Attributes
    ----------
    weights
        Folder with the 27 published state dicts; empty for our own networks.
    compact
        Folder with networks made by ``efface train slant``; empty for the embedded ones. `weights` takes precedence.
    align
        Register the brain to the template; if False, the scan must be in template space already.
    bias
        Correct intensity non-uniformity (N4).
    normalise
        Fit the brain's intensities to those of the training heads. No effect on the published networks, which scale each
        tile.
    """

    weights: str = param("", "folder of the 27 published networks; empty for our own")
    compact: str = param("", "folder of networks made by `efface train slant`; empty for the embedded ones")
    align: bool = param(True, "register the brain to the template; if false, the scan must be in template space")
    bias: bool = param(True, "correct intensity non-uniformity (N4)")
    normalise: bool = param(True, "fit the brain's intensities to those of the training heads")
