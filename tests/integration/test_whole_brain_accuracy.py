"""SLANT's network on people whom it has not seen: accuracy, and sides. Needs the development data."""

import functools

import nibabel as nib
import numpy as np
import pytest

from development_heads import HEADS
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.label_images import load_labels
from efface.io.scan import load_scan
from efface.metrics.dice import compare_labels
from efface.segmentation import segment

CASES = {
    "brain without a head, 1 mm": (HEADS.parent / "brains", "manual", "sub-1011/ses-1/anat/sub-1011_ses-1", 0.79),
    "head, 2 mm": (HEADS, "dlmuse", "sub-14/anat/sub-14", 0.82),
}

pytestmark = [
    pytest.mark.heads,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning"),
]


@functools.cache
def dice_of_regions(case: str) -> dict[str, float]:
    folder, kind, stem, _ = CASES[case]
    stored, affine = load_labels(folder / "derivatives" / kind / f"{stem}_desc-{kind}_dseg.nii.gz")
    truth = np.asarray(nib.as_closest_canonical(nib.Nifti1Image(stored, affine)).dataobj, dtype=np.int32)
    found = segment(HeadAnatomy(load_scan(folder / f"{stem}_T1w.nii.gz")), "slant")
    assert not found.warnings
    return {f"{one.level}: {one.region}": one.dice for one in compare_labels(truth, found.values)}


@pytest.mark.parametrize("case", CASES)
def test_people_not_seen_in_training_are_segmented_well(case):
    dice = dice_of_regions(case)
    labels = [value for name, value in dice.items() if name.startswith("label")]
    assert len(labels) == 132
    assert np.nanmean(labels) > CASES[case][3]
    assert min(labels) > 0.3  # a label on the wrong side has none
    assert min(value for name, value in dice.items() if name.startswith("region")) > 0.85
