"""Keys of sidecars that BIDS requires of more than anatomy, and what does not pass under their names."""

import pytest

from efface.io.sidecar_keys import is_acquisition_parameter


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TaskName", "rest"), ("IntendedFor", ["ses-1/func/sub-01_ses-1_task-rest_bold.nii.gz"]),
        ("IntendedFor", "bids::sub-01/func/sub-01_task-rest_bold.nii.gz"), ("TimeZero", "10:02:31"),
        ("TracerName", "FDG"),
        ("InjectedRadioactivityUnits", "MBq"), ("InjectedMass", "n/a"), ("ReconMethodParameterUnits", ["none", "mm"]),
        ("ArterialSpinLabelingType", "PCASL"), ("BackgroundSuppression", True), ("Units", "rad/s"),
    ],
)  # fmt: skip
def test_what_bids_requires_of_series_field_maps_perfusion_and_pet_is_kept(key, value):
    assert is_acquisition_parameter(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("IntendedFor", "/data/miller/sub-01_bold.nii.gz"), ("IntendedFor", "../sub-01/anat/x.nii.gz"),
        ("IntendedFor", "func/sub-01_20190301_bold.nii.gz"), ("TimeZero", "2019-03-01T10:02:31"),
        ("TaskName", "rest 2019-03-01"), ("Units", "Miller"), ("PatientName", "n/a"),
    ],
)  # fmt: skip
def test_under_their_names_nothing_else_passes(key, value):
    assert not is_acquisition_parameter(key, value)
