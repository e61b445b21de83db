"""Parameters of the atlas segmenter."""

from dataclasses import dataclass

from efface.parameters import param


@dataclass(frozen=True)
class AtlasParams:
    """Parameters of the deformable registration and of the label smoothing.

    Attributes
    ----------
    iterations
        Iterations of the deformable registration at its levels of 6, 3 and 1.5 mm.
    radius
        Half width of the window of local correlation, in voxels of 1.5 mm.
    agreement
        Log-probability that a voxel gains for each of its six neighbours with the same group.
    """

    iterations: str = param("100x50x10", "of the deformable registration, for each level", pattern=r"\d+(x\d+)*")
    radius: int = param(2, "half width of the correlation window, in voxels of 1.5 mm", minimum=1, maximum=20)
    agreement: float = param(0.3, "log-probability gained for each neighbour with the same group", minimum=0)
