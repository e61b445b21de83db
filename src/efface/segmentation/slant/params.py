"""Parameters of the SLANT segmenter."""

from dataclasses import dataclass

from efface.parameters import param


@dataclass(frozen=True)
class SlantParams:
    """Which networks, and which preprocessing steps.

    Attributes
    ----------
    weights
        Folder with the 27 published state dicts; empty for our own networks.
    compact
        Folder with networks made by ``efface train slant``; empty for the embedded ones.
    align
        Register the brain to the standard space; without it the scan has to lie there already.
    bias
        Correct for intensity non-uniformity (N4).
    normalise
        Fit the brain's intensities to those of the training heads (ours; the published networks scale each tile).
    """

    weights: str = param("", "folder of the 27 published networks; empty for our own")
    compact: str = param("", "folder of networks made by `efface train slant`; empty for the embedded ones")
    align: bool = param(True, "register the brain to the standard space")
    bias: bool = param(True, "correct for intensity non-uniformity (N4)")
    normalise: bool = param(True, "fit the brain's intensities to those of the training heads")
