"""The table of segmenters, the parsing of their parameters, and the data that decide a segmentation."""

import dataclasses
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from efface.errors import DataPackageError, InputError
from efface.parameters import describe
from efface.segmentation import SEGMENTERS, data_digest, registry, segment
from efface.segmentation.slant.weights_folder import (
    EMBEDDED_WEIGHTS,
    EMBEDDED_WHOLE_BRAIN,
    weights_digest,
)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmenter_describes_itself_and_its_parameters(name):
    segmenter = SEGMENTERS[name]
    assert segmenter.name == name
    assert segmenter.title
    assert segmenter.summary
    assert segmenter.citations
    rows = describe(segmenter.params)
    assert [row.name for row in rows] == [field.name for field in dataclasses.fields(segmenter.params)]
    assert all(row.help for row in rows)


def test_an_unknown_segmenter_is_refused():
    for function in (lambda: segment(SimpleNamespace(), "atlsa"), lambda: data_digest("atlsa")):
        with pytest.raises(InputError, match=r"no segmenter is named 'atlsa': expected one of slant, atlas"):
            function()


def test_slant_depends_on_the_weights_in_use(tmp_path):
    embedded = data_digest("slant")
    assert embedded["weights"] == weights_digest(EMBEDDED_WHOLE_BRAIN)
    assert data_digest("slant", {"networks": "tiles"})["weights"] == weights_digest(EMBEDDED_WEIGHTS)
    assert embedded["deepmriprep"] == metadata.version("deepmriprep")
    (tmp_path / "1_1_1.pth").write_bytes(b"network")
    given = data_digest("slant", {"weights": str(tmp_path)})
    assert given["weights"] == weights_digest(tmp_path) != embedded["weights"]
    assert data_digest("slant", {"align": "no"}) == {name: embedded[name] for name in ("weights", "cells")}
    assert "cells" not in given


def test_the_atlas_depends_on_the_packages_with_its_data():
    versions = {name: metadata.version(name) for name in ("deepmriprep", "pydeface")}
    assert data_digest("atlas") == data_digest("atlas", {"radius": 3}) == versions


def test_data_of_wrong_parameters_are_refused():
    with pytest.raises(InputError, match="the segmenter slant has no parameter sharpen"):
        data_digest("slant", {"sharpen": 1})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(registry, "TEMPLATE_PACKAGES", ("efface-no-such-package",))
    with pytest.raises(DataPackageError, match="run `pip install efface-no-such-package`"):
        data_digest("atlas")


def test_the_table_and_the_digests_need_neither_numerics_of_networks_nor_registration():
    program = (
        "import sys; from efface.segmentation import data_digest; data_digest('slant'); data_digest('atlas'); "
        "print(sorted({'torch', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_networks_are_whole_or_tiles():
    with pytest.raises(InputError, match=r"networks must be one of whole, tiles; received 27"):
        data_digest("slant", {"networks": "27"})
