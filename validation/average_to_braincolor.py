"""Make `AVERAGE_TO_TEMPLATE` (efface.segmentation): the affine from the average head to the BrainCOLOR template.

    python validation/average_to_braincolor.py

Brain mask of the average head (deepbet), N4, multi-start affine to the composed template; prints 12 numbers.
"""

import numpy as np
from deepbet import BrainExtraction

from efface.anatomy.templates import average_head
from efface.segmentation.atlas.atlas_prior import load_prior
from efface.segmentation.atlas.pipeline import prepare_brain
from efface.spatial.registration import register_affine


def main() -> None:
    head = average_head()
    network = BrainExtraction(no_gpu=True)
    mask = network.postprocess(network.run_model(head.data.copy()) > 0.5).astype(bool)
    brain, inside, _ = prepare_brain(head, mask)
    result = register_affine(brain, load_prior().template, weight=inside)
    print(f"brain {np.count_nonzero(mask) / 1000:.0f} thousand voxels, score {result.score:.3f} {result.reason}")
    print(np.array2string(result.matrix, precision=6, separator=", ", suppress_small=True))


if __name__ == "__main__":
    main()
