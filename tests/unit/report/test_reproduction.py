"""The commands of a report make the same study: they are parsed by the command line itself, or run as Python."""

import itertools
import shlex

import pytest

from efface.bids.filters import load_filter
from efface.cli import build_parser
from efface.cli import study as command_line
from efface.report.reproduction import commands
from efface.study import Settings
from efface.study.stored_settings import options_of

OPTIONS = {
    "methods": (("quickshear",), ("pydeface", "defacer")),
    "header": ("scrub", "keep"),
    "protect_brain": (False, True),
    "rescan": ("affine", "none"),
    "rescan_pairs": (None, "pairs.tsv"),
    "keep_rescans": (False, True),
    "sidecar_keep": ((), ("ProtocolName", "SeriesNumber")),
    "measures": (("dice",), ("dice", "volume")),
    "also": ((), ("atlas",)),
    "originals": ((), ("pydeface",)),
    "step_limit_s": (7200.0, 600.0),
}
CHOSEN = (
    {},
    {"subjects": ["01", "02"], "sessions": ["1"]},
    {"bids_filter": load_filter({"t1w": {"acquisition": "mp rage", "run": [1, 2]}})},
    {"validate": False},
)


def combinations():
    """Every option away from its default, alone, and all of them together."""
    yield {}
    for name, values in OPTIONS.items():
        yield {name: values[1]}
    yield {name: values[1] for name, values in OPTIONS.items() if name != "rescan"}


@pytest.mark.parametrize("given", list(combinations()), ids=lambda given: "+".join(given) or "defaults")
@pytest.mark.parametrize("chosen", CHOSEN, ids=["all", "labels", "filter", "no validation"])
def test_the_printed_command_makes_the_same_settings(tmp_path, monkeypatch, given, chosen):
    out = tmp_path / "out with space"
    settings = Settings(tmp_path / "bids", out, **given) if "methods" in given else Settings(
        tmp_path / "bids", out, ("pydeface", "quickshear"), **given
    )  # fmt: skip
    stored = options_of(settings, **chosen)
    first, group = commands(stored, str(settings.bids_dir), out).splitlines()
    again = parsed(monkeypatch, first)
    assert again == stored
    assert build_parser().parse_args(shlex.split(group)[1:]).level == "group"


def parsed(monkeypatch, line):
    """What the command line makes of a command: the options that a study would store."""
    seen = {}

    class Recorder:
        def __init__(self, settings, *, validate, bids_filter):
            seen.update(settings=settings, validate=validate, bids_filter=bids_filter)

    def run(_study, _cluster, subjects, sessions):
        seen.update(subjects=subjects, sessions=sessions)

    monkeypatch.setattr("efface.study.run.Study", Recorder)
    monkeypatch.setattr(command_line, "run_participants", run)
    words = shlex.split(line)
    assert words[0] == "efface"
    options = build_parser().parse_args(words[1:])
    options.run(options)
    settings = seen.pop("settings")
    return options_of(settings, **seen)


def test_weights_of_slant_have_their_option(tmp_path, monkeypatch):
    settings = Settings(tmp_path, tmp_path / "out", segmenter_params={"slant": {"weights": str(tmp_path)}})
    stored = options_of(settings)
    first = commands(stored, str(tmp_path), tmp_path / "out").splitlines()[0]
    assert f"--slant-weights {tmp_path}" in first
    assert parsed(monkeypatch, first) == stored


@pytest.mark.parametrize("chosen", CHOSEN, ids=["all", "labels", "filter", "no validation"])
def test_parameters_of_methods_and_segmenters_come_back(tmp_path, monkeypatch, chosen):
    settings = Settings(
        tmp_path / "bids",
        tmp_path / "out",
        ("quickshear", "fsl_deface"),
        method_params={"quickshear": {"buffer": "5"}, "fsl_deface": {"nudge": "1.5,0,-2"}},
        segmenter_params={"slant": {"bias": "no"}},
        measures=("dice", "volume"),
    )
    stored = options_of(settings, **chosen)
    line = commands(stored, str(settings.bids_dir), settings.out_dir).splitlines()[0]
    assert "--param quickshear.buffer=5 --param fsl_deface.nudge=1.5,0,-2 --param slant.bias=no" in line
    assert parsed(monkeypatch, line) == stored


def test_every_run_of_a_study_is_shown_in_order(tmp_path):
    runs = [
        options_of(Settings(tmp_path, tmp_path / "out", (method,)), subjects=[subject])
        for method, subject in itertools.product(("quickshear", "pydeface"), ("01",))
    ]
    lines = commands({**runs[-1], "Runs": runs}, str(tmp_path), tmp_path / "out").splitlines()
    assert ["quickshear" in lines[0], "pydeface" in lines[1], lines[2].endswith("group")] == [True] * 3


def test_a_study_of_an_older_version_is_still_shown(tmp_path):
    old = {"Methods": ["pydeface"], "Segmenter": "atlas"}
    line = commands(old, "/bids", tmp_path).splitlines()[0]
    assert build_parser().parse_args(shlex.split(line)[1:]).segmenter == "atlas"
