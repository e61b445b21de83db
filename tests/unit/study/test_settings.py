"""Settings: what is converted, what is refused; the arguments of a study that contradict each other."""

from pathlib import Path

import pytest

from efface import Settings, Study
from efface.cli.main import main
from efface.errors import InputError
from efface.study.backends import Local


def test_paths_may_be_text_and_names_a_list():
    settings = Settings("bids", "out", ["quickshear"], originals=["quickshear"], also=["atlas"], measures=["dice"])
    assert (settings.bids_dir, settings.out_dir) == (Path("bids"), Path("out"))
    assert settings.methods == settings.originals == ("quickshear",)
    assert settings.segmenters == ("slant", "atlas")
    assert hash(settings.methods)
    assert Study("bids", "out", methods=["pydeface"]).settings.methods == ("pydeface",)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"bids_dir": 3}, "bids_dir must be a path; received 3"),
        ({"methods": "quickshear"}, r"methods must be a list of names; received 'quickshear': give \['quickshear'\]"),
        ({"method_params": {"quickshear": 3}}, "method_params must be a mapping of mappings"),
        ({"step_limit_s": "long"}, "number of seconds above 0; received long"),
        ({"method_params": {"quickshear": {"buffer": "ten"}}}, "quickshear: buffer must be a number"),
        ({"method_params": {"quickshear": {"bufer": 1}}}, "quickshear has no parameter bufer; expected buffer"),
        ({"segmenter_params": {"slant": {"bias": "perhaps"}}}, "the segmenter slant: bias must be true or false"),
        (
            {"originals": ["quickshear"], "method_params": {"quickshear": {"variant": "x"}}},
            "the external program of quickshear has no parameter variant",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_first_scan(bad, words):
    with pytest.raises(InputError, match=words):
        Settings(**{"bids_dir": "bids", "out_dir": "out", **bad})


def test_parameters_of_an_external_program_are_accepted():
    params = {"pydeface": {"program": "/opt/pydeface", "timeout_s": 10, "cost": "mutualinfo"}}
    assert Settings("bids", "out", ["pydeface"], originals=["pydeface"], method_params=params).method_params == params


def test_settings_exclude_further_options():
    settings = Settings("bids", "out")
    for further in ({"methods": ["quickshear"]}, {"out_dir": "elsewhere"}):
        with pytest.raises(InputError, match=f"Settings hold all options; received {next(iter(further))} too"):
            Study(settings, **further)


def test_jobs_exclude_a_cluster(tmp_path):
    with pytest.raises(InputError, match="jobs and cluster exclude each other; received jobs=2"):
        Study(Settings(tmp_path / "bids", tmp_path / "out")).run(jobs=2, cluster=Local(1))


def test_a_folder_without_output_folder_and_an_unknown_setting_are_refused():
    with pytest.raises(InputError, match=r"Give a folder: Study\('bids', OUT_DIR\)"):
        Study("bids")
    with pytest.raises(InputError, match="a study has no such setting"):
        Study("bids", "out", method="quickshear")


def test_the_command_ends_with_code_2_where_a_setting_is_wrong(tmp_path, capsys):
    assert main(["study", str(tmp_path), str(tmp_path / "out"), "participant", "--step-limit", "-1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
