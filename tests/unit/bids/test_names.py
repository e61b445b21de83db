"""Names of masks in a raw data set are those of the BIDS schema."""

import pytest
from bidsschematools.schema import load_schema

from efface.bids.names import AFTER_MOD, BEFORE_MOD, deface_mask_name
from efface.errors import InputError


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_mod-T1w_defacemask.nii.gz"),
        ("sub-01_ses-1_acq-a_run-2_FLAIR.nii", "sub-01_ses-1_acq-a_run-2_mod-FLAIR_defacemask.nii.gz"),
        ("sub-01_run-2_chunk-3_T2w.nii.gz", "sub-01_run-2_mod-T2w_chunk-3_defacemask.nii.gz"),
    ],
)
def test_the_mask_is_named_after_the_image_and_its_kind(image, mask):
    assert deface_mask_name(image) == mask


@pytest.mark.parametrize("image", ["a.nii.gz", "T1w.nii.gz", "sub-_T1w.nii", "sub-01_x_T1w.nii", "sub-01_T1w.mgz", ""])
def test_an_image_without_a_bids_name_is_refused(image):
    with pytest.raises(InputError, match="has no BIDS name"):
        deface_mask_name(image)


def test_an_entity_that_a_mask_cannot_have_is_refused():
    with pytest.raises(InputError, match="its entity echo has no place"):
        deface_mask_name("sub-01_echo-1_T1w.nii.gz")


def test_entities_and_their_order_are_those_of_the_schema():
    schema = load_schema()
    rule = next(rule for rule in schema.rules.files.raw.anat.values() if "defacemask" in rule.suffixes)
    short = {name: schema.objects.entities[name]["name"] for name in schema.rules.entities}
    ordered = [short[name] for name in schema.rules.entities if name in rule.entities]
    assert ordered == [*BEFORE_MOD, "mod", *AFTER_MOD]
