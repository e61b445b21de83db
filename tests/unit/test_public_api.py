"""The public names: there, typed, and light to import."""

import inspect
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import efface
import phantom


def test_the_public_names_are_these():
    expected = ["Defaced", "Segmented", "Settings", "Study", "__version__", "deface", "dice", "qc", "segment"]
    assert sorted(efface.__all__) == expected
    assert dir(efface) == expected
    assert all(getattr(efface, name) is not None for name in expected)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'reface'"):
        efface.reface  # noqa: B018


@pytest.mark.parametrize("name", ["deface", "dice", "qc", "segment"])
def test_functions_are_plain_functions_with_a_typed_signature(name):
    function = getattr(efface, name)
    assert inspect.isfunction(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert next(iter(signature.parameters)) in ("image", "a", "original")
    assert all(section in inspect.getdoc(function) for section in ("Parameters", "Raises"))


def test_importing_efface_is_light():
    code = "import sys, efface; dir(efface); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "nibabel", "pandas", "SimpleITK"} & set(loaded)


def test_the_functions_take_images_and_give_images(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    image = nib.load(phantom.write(tmp_path / "in.nii.gz", "LPS").path)
    defaced = efface.deface(image, method="quickshear", buffer=5)
    assert defaced.image.shape == image.shape
    assert defaced.edit.params["buffer"] == 5
    changed = np.asarray(defaced.mask.dataobj) > 0
    np.testing.assert_array_equal(np.asarray(defaced.image.dataobj)[~changed], np.asarray(image.dataobj)[~changed])
    frame = efface.dice(defaced.mask, defaced.mask)
    assert frame.attrs["warnings"]  # 1 is no BrainCOLOR label
