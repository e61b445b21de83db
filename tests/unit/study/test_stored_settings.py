"""Stored settings: everything that is needed to repeat a study is in its description."""

import json

import pytest

from efface.bids.derivatives import GroupPaths
from efface.bids.filters import load_filter
from efface.study import Settings
from efface.study.stored_settings import LABELS, RUNS, add_run, options_of, write_description


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "out").mkdir()
    return Settings(
        tmp_path / "bids", tmp_path / "out", ("quickshear", "pydeface"), segmenter="atlas", also=("slant",),
        method_params={"quickshear": {"buffer": 5.0}}, segmenter_params={"slant": {"weights": "/models/weights"}},
        originals=("pydeface",), measures=("dice", "volume"), rescan="rigid", header="keep", protect_brain=True,
        step_limit_s=60.0, keep_rescans=True, rescan_pairs="/data/pairs.tsv", sidecar_keep=("ProtocolName",),
    )  # fmt: skip


def stored(settings):
    return json.loads(GroupPaths(settings.out_dir).description.read_text())["Efface"]


def test_every_option_is_stored(settings):
    condition = {"t1w": {"session": "02", "acquisition": ["mprage", None]}}
    options = options_of(
        settings, bids_filter=load_filter(condition), subjects=["sub-02", "01"], sessions=["1"], validate=False
    )
    write_description(settings, options)
    expected = {
        "Methods": ["quickshear", "pydeface"],
        "MethodParameters": {"quickshear": {"buffer": 5.0}},
        "Original": ["pydeface"],
        "Segmenter": "atlas",
        "Segmenters": ["atlas", "slant"],
        "SegmenterParameters": {"slant": {"weights": "weights"}},
        "SlantWeights": "weights",
        "ProtectBrain": True,
        "Measures": ["dice", "volume"],
        "Rescan": "rigid",
        "RescanPairs": "pairs.tsv",
        "KeepRescans": True,
        "Header": "keep",
        "SidecarKeep": ["ProtocolName"],
        "StepLimit": 60.0,
        "BidsFilter": {"ses": ["02"], "acq": ["mprage", None]},
        "ParticipantLabels": ["01", "02"],
        "SessionLabels": ["1"],
        "SkipBidsValidation": True,
    }
    assert stored(settings) == {**expected, RUNS: [expected]}
    assert load_filter(json.dumps(expected["BidsFilter"])) == load_filter(condition)


def test_the_same_run_again_changes_no_byte(settings):
    path = GroupPaths(settings.out_dir).description
    write_description(settings, options_of(settings, subjects=["01"]))
    before = path.read_bytes()
    write_description(settings, options_of(settings, subjects=["01"]))
    assert path.read_bytes() == before


def run(labels, header="scrub"):
    return {"Header": header, LABELS: labels}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run(["01"]), run(["02"])], [run(["01", "02"])]),
        ([run(["01"]), run([])], [run([])]),
        ([run([]), run(["01"])], [run([])]),
        ([run(["01"]), run(["01"], "keep")], [run(["01"]), run(["01"], "keep")]),
        ([run(["01"]), run(["01"], "keep"), run(["01"])], [run(["01"], "keep"), run(["01"])]),
        ([run(["01"]), run(["01"], "keep"), run(["02"])], [run(["01"]), run(["01"], "keep"), run(["02"])]),
    ],
)
def test_runs_are_listed_so_that_running_them_in_order_makes_the_study_again(runs, expected):
    listed = []
    for one in runs:
        listed = add_run(listed, one)
    assert listed == expected


def test_many_runs_of_one_participant_each_are_one_entry(settings):
    for i in range(20):
        write_description(settings, options_of(settings, subjects=[f"{i:02d}"]))
    assert [len(one[LABELS]) for one in stored(settings)[RUNS]] == [20]
    assert len(stored(settings)[LABELS]) == 20


@pytest.mark.parametrize("old", ["{", '{"Efface": {}}', '{"Efface": {"Runs": 3}}', "[]"])
def test_a_description_without_runs_is_replaced(settings, old):
    GroupPaths(settings.out_dir).description.write_text(old)
    write_description(settings, options_of(settings))
    assert len(stored(settings)[RUNS]) == 1
