"""Parameters of the SLANT segmenter."""

from dataclasses import dataclass

from efface.parameters import param


@dataclass(frozen=True)
class SlantParams:
    """Choice of networks and of preprocessing steps.

    Attributes
    ----------
    networks
        Which of our own embedded networks: ``whole``, one network for the whole brain at 1 mm, or ``tiles``, 27 networks
        at 2 mm. A folder in `weights` or `compact` takes precedence.
    weights
        Folder with the 27 published state dicts; empty for our own networks.
    compact
        Folder with networks of our own, made by ``efface train slant`` or by ``training/slant1mm``; empty for the
        embedded ones. `weights` takes precedence.
    align
        ``brain`` registers the brain to the template, and takes bias field and z-scores from the brain mask. ``head``
        registers the whole head to the average head, and takes the bias field from the whole head and z-scores from
        where the template has brain, like the published pipeline. With ``no``, the scan must be in template space
        already.
    bias
        Correct intensity non-uniformity (N4).
    normalise
        Fit the brain's intensities to those of the training heads. For our tile networks only: the published ones scale
        each tile, and the network for the whole brain takes z-scores.
    mirror
        Average with the prediction for the mirror image. For the network for the whole brain only.
    """

    networks: str = param("whole", "our own networks: one for the whole brain, or 27 tiles", choices=("whole", "tiles"))
    weights: str = param("", "folder of the 27 published networks; empty for our own")
    compact: str = param(
        "", "folder of networks of our own (`efface train slant`, training/slant1mm); empty for the embedded ones"
    )
    align: str = param(
        "brain",
        "what is registered to the template: the brain, or the whole head; no: the scan must be in template space",
        choices=("brain", "head", "no"),
    )
    bias: bool = param(True, "correct intensity non-uniformity (N4)")
    normalise: bool = param(True, "fit the brain's intensities to those of the training heads (tiles only)")
    mirror: bool = param(False, "average with the mirror image: twice the time (whole only)")
