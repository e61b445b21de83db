"""No absolute path is left in text that a study writes, and nothing else is lost."""

import math
from pathlib import Path

import pytest

from efface.bids.shareable import names_only, shareable, without_paths

BIDS, OUT = Path("/home/j doe/my bids"), Path("/home/j doe/out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/j doe/my bids/sub-01/anat/a.nii has no head", "bids:raw:sub-01/anat/a.nii has no head"),
        ("cannot write /home/j doe/out/sub-01/x.tsv (full)", "cannot write bids::sub-01/x.tsv (full)"),
        ("/home/j doe/my bids: no scan", "bids:raw:: no scan"),
        ("no program at /opt/fsl/bin/fsl_deface: install it", "no program at fsl_deface: install it"),
        ("see '/opt/x/y' or (~/z/w.nii) or ../a/b", "see 'y' or (w.nii) or b"),
        (r"C:\Users\jdoe\x.nii is odd", "x.nii is odd"),
        ("C:/Users/jdoe/x.nii is odd", "x.nii is odd"),
        ("n/a, 3 mm/s, 1 / 2, and/or, native/original", "n/a, 3 mm/s, 1 / 2, and/or, native/original"),
        ("anat/sub-01_T1w.nii is odd", "anat/sub-01_T1w.nii is odd"),
        ("bids:raw:sub-01/anat/a.nii", "bids:raw:sub-01/anat/a.nii"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("/home/j doe/outer/x is odd", "x is odd"),
    ],
)  # fmt: skip
def test_paths_become_uris_or_names(text, expected):
    assert shareable(text, bids_dir=BIDS, out_dir=OUT) == expected


def test_json_is_looked_through_and_numbers_stay():
    given = {"a": [1, 2.5, True, None, "/opt/x/y"], "b": {"c": (Path("/opt/x/z"),)}}
    assert shareable(given, bids_dir=BIDS, out_dir=OUT) == {"a": [1, 2.5, True, None, "y"], "b": {"c": ["z"]}}
    assert math.isnan(shareable(math.nan, bids_dir=BIDS, out_dir=OUT))


def test_the_folders_of_the_user_are_known_with_their_blanks(tmp_path, monkeypatch):
    home = tmp_path / "jane doe"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert without_paths(f"{home}/x.nii is odd") == "x.nii is odd"
    assert without_paths(str(home / "work")) == "work"


def test_parameters_keep_the_names_of_files():
    given = {"weights": "/models/w", "program": Path("/opt/fsl_deface"), "buffer": 5, "relative": "a/b", "cost": "mi"}
    expected = {"weights": "w", "program": "fsl_deface", "buffer": 5, "relative": "b", "cost": "mi"}
    assert names_only(given) == expected
