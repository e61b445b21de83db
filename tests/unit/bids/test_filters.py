"""The filter that other BIDS programs take too."""

import json

import pytest

from efface.bids.filters import load_filter
from efface.errors import InputError

SCAN = {"sub": "01", "ses": "02", "acq": "mprage", "run": "01", "suffix": "T1w", "ext": ".nii.gz", "datatype": "anat"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, True),
        ({"session": "02"}, True),
        ({"session": "2"}, False),
        ({"session": "ses-02"}, True),
        ({"acquisition": ["mp2rage", "mprage"]}, True),
        ({"acquisition": None}, False),
        ({"acquisition": [None, "mprage"]}, True),
        ({"reconstruction": None}, True),
        ({"reconstruction": "*"}, False),
        ({"run": 1}, True),
        ({"run": "1"}, True),
        ({"run": 2}, False),
        ({"run": "*"}, True),
        ({"datatype": "anat", "suffix": "T1w", "extension": "nii.gz"}, True),
        ({"suffix": "T2w"}, False),
        ({"session": "02", "run": 2}, False),
    ],
)
def test_a_scan_matches_when_every_entity_does(query, expected):
    assert load_filter({"t1w": query}).matches(SCAN) is expected


def test_a_file_and_text_and_a_flat_object_mean_the_same(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text('{"t1w": {"acquisition": "mprage"}, "bold": {"task": "rest"}}')
    same = [load_filter(path), load_filter(path.read_text()), load_filter('{"acquisition": "mprage"}')]
    assert same[0] == same[1] == same[2]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "cannot be read"),
        ('{"a":' * 100_000, "is not JSON"),
        ("nowhere.json", "nowhere.json cannot be read"),
        ('{"bold": {"task": "rest"}}', "no query t1w"),
        ('{"t1w": "mprage"}', "must be an object"),
        ('{"t1w": {"acqisition": "mprage"}}', "unknown entity 'acqisition'"),
        ('{"t1w": {"acquisition": true}}', "must be a label"),
        ('{"t1w": {"acquisition": []}}', "must be a label"),
        ('{"t1w": {"acquisition": {"a": 1}}}', "must be a label"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused_in_one_line(source, words):
    with pytest.raises(InputError, match=words) as caught:
        load_filter(source)
    assert "\n" not in str(caught.value)


def test_a_file_that_holds_no_object_is_refused(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text("[1]")
    with pytest.raises(InputError, match="must be a JSON object"):
        load_filter(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not text"):
        load_filter(path)


def test_a_filter_prints_as_json():
    assert json.loads(str(load_filter({"t1w": {"run": 1, "acq": None}}))) == {"run": ["1"], "acq": [None]}
