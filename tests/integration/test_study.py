"""Scan jobs: outputs, resume, failures as rows, group tables; stand-ins replace the slow steps."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import bids_dataset
import phantom
from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.bids.filters import load_filter
from efface.bids.query import find_scans
from efface.defacing import METHODS, Edit
from efface.errors import InputError, OutputError
from efface.quality import DECIDING_MODULES, face
from efface.segmentation import SEGMENTERS
from efface.segmentation.slant import weights_folder
from efface.study import Settings, Study, collect, defaced_scans, load_tables, provenance
from efface.study.output_folder import out_dir_of
from efface.study.provenance import read_recipe
from efface.study.records import Row, read_table, rows_to_tsv
from efface.study.rescan_job import RescanJob, SessionPair
from efface.study.scan_job import ScanJob


@pytest.fixture
def done(monkeypatch):
    return bids_dataset.stand_in(monkeypatch)


@pytest.fixture
def settings(tmp_path):
    return Settings(bids_dataset.make(tmp_path / "bids"), tmp_path / "out")


def run_all(settings):
    return [ScanJob(source, settings).run() for source in find_scans(settings.bids_dir)]


def files(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith("_timing.json")}


def test_two_segmenters_are_both_run_and_the_first_is_reported(done, settings):
    both = replace(settings, methods=("quickshear",), segmenter="atlas", also=("slant",))
    Study(both)._prepare_output()
    ScanJob(find_scans(settings.bids_dir, subjects=["02"])[0], both).run()
    folder = settings.out_dir / "sub-02/ses-1/anat"
    assert (folder / "sub-02_ses-1_desc-quickshear_dseg.nii.gz").is_file()
    assert (folder / "sub-02_ses-1_desc-quickshear_seg-atlas_dseg.nii.gz").is_file()
    tables = collect(settings.out_dir)
    assert set(tables.dice.segmenter) == {"atlas"}
    assert set(read_table(GroupPaths(settings.out_dir).dice).segmenter) == {"slant", "atlas"}
    assert len(tables.edits) == 1
    with pytest.raises(InputError, match="each once; received slant, slant"):
        replace(settings, segmenter="slant", also=("slant",))


def test_a_scan_job_leaves_what_the_layout_promises(done, settings):
    source = find_scans(settings.bids_dir)[0]
    outcome = ScanJob(source, settings).run()
    assert outcome.failures == ()
    folder = settings.out_dir / "sub-01/ses-1"
    for ending in (
        "anat/sub-01_ses-1_desc-quickshear_T1w.nii.gz",
        "anat/sub-01_ses-1_desc-quickshear_T1w.json",
        "anat/sub-01_ses-1_desc-quickshear_mask.nii.gz",
        "anat/sub-01_ses-1_desc-original_dseg.nii.gz",
        "anat/sub-01_ses-1_desc-quickshear_dseg.nii.gz",
        "sub-01_ses-1_results.tsv",
    ):
        assert (folder / ending).is_file(), ending
    assert not list(folder.rglob("*.tmp"))


def test_every_scan_and_method_has_all_dice_rows(done, settings):
    run_all(settings)
    tables = collect(settings.out_dir)
    assert tables.failures.empty
    counts = tables.dice.groupby(["scan", "method"]).size()
    assert len(counts) == 3 * len(METHODS)
    assert (counts == 1 + 1 + 10 + 132).all()
    whole = tables.dice[tables.dice.region == "whole brain"].value
    assert (whole > 0.9).all()
    assert tables.dice[tables.dice.region == "thalamus"].value.isna().all()  # the stand-in knows two labels


def test_only_voxels_in_the_mask_file_differ(done, settings):
    source = find_scans(settings.bids_dir)[0]
    ScanJob(source, settings).run()
    paths = UnitPaths(settings.out_dir, "01", "1", "sub-01_ses-1")
    before, after, mask = (
        np.asarray(nib.load(p).dataobj) for p in (source.path, paths.defaced("pydeface"), paths.mask("pydeface"))
    )
    assert mask.any()
    np.testing.assert_array_equal(before[mask == 0], after[mask == 0])


def test_a_second_run_computes_nothing_and_changes_no_byte(done, settings):
    run_all(settings)
    collect(settings.out_dir)
    before, count = files(settings.out_dir), len(done)
    assert [o.computed for o in run_all(settings)] == [0, 0, 0]
    collect(settings.out_dir)
    assert len(done) == count
    assert files(settings.out_dir) == before


def test_two_runs_give_the_same_bytes(done, settings, tmp_path):
    run_all(settings)
    again = Settings(settings.bids_dir, tmp_path / "again")
    run_all(again)
    first, second = files(settings.out_dir), files(again.out_dir)
    assert [p.relative_to(settings.out_dir) for p in first] == [p.relative_to(again.out_dir) for p in second]
    assert list(first.values()) == list(second.values())


@pytest.mark.parametrize("lost", ["quickshear_T1w.nii.gz", "quickshear_mask.nii.gz", "original_dseg.nii.gz"])
def test_what_is_missing_is_made_again_and_nothing_else(done, settings, lost):
    source = find_scans(settings.bids_dir)[0]
    ScanJob(source, settings).run()
    before = files(settings.out_dir)
    path = settings.out_dir / f"sub-01/ses-1/anat/sub-01_ses-1_desc-{lost}"
    path.unlink()
    assert ScanJob(source, settings).run().computed == 1
    assert files(settings.out_dir) == before


def test_another_input_makes_everything_again(done, settings):
    source = find_scans(settings.bids_dir)[0]
    ScanJob(source, settings).run()
    image = nib.load(source.path)
    data = np.asarray(image.dataobj).copy()
    data[20, 20, 20] += 1
    nib.save(nib.Nifti1Image(data, image.affine, image.header), source.path)
    assert ScanJob(source, settings).run().computed == 1 + 3 * len(METHODS)


def test_another_parameter_makes_that_method_again(done, settings):
    source = find_scans(settings.bids_dir)[0]
    ScanJob(source, settings).run()
    changed = Settings(settings.bids_dir, settings.out_dir, method_params={"quickshear": {"buffer": 2.0}})
    assert ScanJob(source, changed).run().computed == 3
    recipe = read_recipe(UnitPaths(settings.out_dir, "01", "1", "sub-01_ses-1").defaced("quickshear"))
    assert recipe["Parameters"]["buffer"] == 2.0


def test_a_recipe_without_its_image_does_not_count(done, settings):
    source = find_scans(settings.bids_dir)[0]
    ScanJob(source, settings).run()
    path = UnitPaths(settings.out_dir, "01", "1", "sub-01_ses-1").defaced("pydeface")
    half = path.with_name(path.name.replace(".nii.gz", ".json"))
    half.write_text(half.read_text()[:40])
    assert ScanJob(source, settings).run().computed == 1


def test_a_scan_that_cannot_be_read_is_a_row_with_the_reason(done, settings):
    broken = find_scans(settings.bids_dir)[1]
    broken.path.write_bytes(b"\x1f\x8bnot gzip at all")
    outcomes = run_all(settings)
    assert [len(o.failures) for o in outcomes] == [0, 1, 0]
    failures = collect(settings.out_dir).failures
    assert failures.scan.tolist() == ["sub-01_ses-2"]
    assert failures.measure.tolist() == ["load"]
    assert "gzip" in failures.reason[0]


def test_a_method_that_fails_is_a_row_and_the_others_go_on(done, settings, monkeypatch):
    plan = defaced_scans.plan

    def failing(anatomy, method, *args, **params):
        if method == "pydeface":
            msg = "planted"
            raise InputError(msg)
        return plan(anatomy, method, *args, **params)

    monkeypatch.setattr(defaced_scans, "plan", failing)
    outcome = ScanJob(find_scans(settings.bids_dir)[0], settings).run()
    assert [(r.method, r.measure, r.reason) for r in outcome.failures] == [("pydeface", "deface", "planted")]
    rows = read_table(settings.out_dir / "sub-01/ses-1/sub-01_ses-1_results.tsv")
    assert (rows[rows.method == "quickshear"].status == "ok").all()
    monkeypatch.setattr(defaced_scans, "plan", plan)
    assert ScanJob(find_scans(settings.bids_dir)[0], settings).run().failures == ()


def test_an_output_that_cannot_be_written_stops_the_run(done, settings, monkeypatch):
    def full(path, data, *, force=False):
        msg = "no space left"
        raise OutputError(msg)

    monkeypatch.setattr("efface.io.scan.write_atomically", full)
    with pytest.raises(OutputError, match="no space"):
        ScanJob(find_scans(settings.bids_dir)[0], settings).run()


def test_brain_protection_keeps_the_brain_out(done, settings):
    source = find_scans(settings.bids_dir)[0]
    brain = {}
    for protect in (False, True):
        chosen = Settings(
            settings.bids_dir, settings.out_dir, ("quickshear",), protect_brain=protect,
            method_params={"quickshear": {"buffer": 0.0}},
        )  # fmt: skip
        ScanJob(source, chosen).run()
        rows = read_table(settings.out_dir / "sub-01/ses-1/sub-01_ses-1_results.tsv")
        brain[protect] = rows[rows.measure == "edited_brain_ml"].value.item()
    assert brain[True] == 0
    assert brain[False] >= 0


def test_the_original_is_run_where_asked_for_and_every_row_says_so(done, settings, monkeypatch):
    asked = []

    def planned(anatomy, method, _params, *, implementation, **_options):
        asked.append((method, implementation))
        mask = np.zeros(anatomy.scan.shape, bool)
        mask[:, -1] = True
        return Edit(mask, 0.0, method, implementation)

    monkeypatch.setattr(defaced_scans, "plan", planned)
    source = find_scans(settings.bids_dir)[0]
    chosen = replace(settings, methods=("quickshear", "pydeface"), originals=("quickshear",))
    ScanJob(source, chosen).run()
    assert asked == [("quickshear", "original"), ("pydeface", "native")]
    rows = read_table(settings.out_dir / "sub-01/ses-1/sub-01_ses-1_results.tsv")
    said = rows.groupby("method").implementation.unique().map(list).to_dict()
    assert said["quickshear"] == ["original"]
    assert said["pydeface"] == ["native"]
    ScanJob(source, replace(chosen, originals=())).run()
    assert asked[2:] == [("quickshear", "native")], "pydeface is still current"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"methods": ("nose_job",)}, "nose_job"),
        ({"methods": ()}, "none"),
        ({"methods": ("pydeface", "pydeface")}, "once"),
        ({"segmenter": "knife"}, "knife"),
        ({"methods": ("pydeface",), "originals": ("quickshear",)}, "quickshear"),
        ({"method_params": {"knife": {}}}, "knife"),
    ],
)
def test_unknown_names_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        Settings(Path("in"), Path("out"), **bad)


def test_output_into_the_data_set_itself_is_refused(settings):
    with pytest.raises(InputError, match="data set itself"):
        Study(Settings(settings.bids_dir, settings.bids_dir)).run()


def test_output_into_another_data_set_is_refused(settings, tmp_path):
    with pytest.raises(OutputError, match="another data set"):
        Study(Settings(settings.bids_dir, bids_dataset.make(tmp_path / "other"))).run()


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(InputError, match="efface study"):
        out_dir_of(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset_description.json").write_text('{"Name": "of another program"}', encoding="utf-8")
    with pytest.raises(InputError, match="not that of a study by efface"):
        out_dir_of(tmp_path / "other")
    with pytest.raises(InputError, match="participant level first"):
        collect(tmp_path)
    with pytest.raises(InputError, match="group"):
        load_tables(tmp_path)


def test_a_study_whose_scans_all_failed_still_has_tables(settings):
    for source in find_scans(settings.bids_dir):
        source.path.write_bytes(b"")
    run_all(settings)
    tables = collect(settings.out_dir)
    assert len(tables.failures) == 3
    assert tables.dice.empty
    assert load_tables(settings.out_dir).failures.reason.tolist() == tables.failures.reason.tolist()


def test_tables_round_trip_hostile_text_and_missing_numbers(tmp_path):
    row = Row("01", "", "sub-01", "m", "native", "atlas", "dice", "region", "x", math.nan, "failed", 'a\tb\nc "d" <e>')
    path = tmp_path / "t.tsv"
    path.write_bytes(rows_to_tsv([row]))
    back = read_table(path).iloc[0]
    assert back.reason == 'a b c "d" <e>'
    assert back.subject == "01"
    assert back.session == ""
    assert math.isnan(back.value)


def test_a_broken_table_is_named(tmp_path):
    path = GroupPaths(tmp_path).dice
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"dice\.tsv"):
        read_table(path)


def test_recipes_name_versions_and_input(done, settings):
    source = find_scans(settings.bids_dir)[0]
    ScanJob(source, settings).run()
    path = UnitPaths(settings.out_dir, "01", "1", "sub-01_ses-1").defaced("quickshear")
    content = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert content["Recipe"]["input_sha256"]
    assert content["Recipe"]["versions"]["efface"]
    assert content["Recipe"]["method"] == "quickshear"
    assert phantom.head().brain.any()


def test_a_lost_scan_job_leaves_a_row_and_is_tried_again(done, settings):
    job = ScanJob(find_scans(settings.bids_dir)[0], settings)
    (failure,) = job.lost("the worker died").failures
    assert (failure.scan, failure.method, failure.measure) == ("sub-01_ses-1", "original", "unit")
    assert read_table(job.results).reason.tolist() == ["the worker died"]
    assert not job.is_up_to_date()
    assert job.run().failures == ()


# --- what decides a result -------------------------------------------------------------------------------------------


@pytest.fixture
def embedded(monkeypatch, tmp_path):
    """Stand-ins for the files that efface carries; `change` replaces one as an update of efface would."""
    folder = tmp_path / "data"
    (folder / "slant1mm").mkdir(parents=True)
    for name in ("defacer.pt", "face.nii.gz", "slant1mm/whole_brain.pt"):
        (folder / name).write_bytes(b"old")
    monkeypatch.setattr(provenance, "DATA", folder)
    monkeypatch.setattr(weights_folder, "EMBEDDED_WHOLE_BRAIN", folder / "slant1mm")

    def forget():
        provenance.data_digest.cache_clear()
        provenance._segmentation_data.cache_clear()

    def change(name):
        (folder / name).write_bytes(b"newer")
        forget()

    forget()
    yield change
    forget()


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("slant1mm/whole_brain.pt", {"segment original", "segment quickshear"}),
        ("defacer.pt", {"deface quickshear", "qc quickshear"}),
    ],
)
def test_new_embedded_data_make_what_they_decide_again(done, settings, embedded, name, computed):
    job = ScanJob(find_scans(settings.bids_dir)[0], replace(settings, methods=("quickshear",)))
    job.run()
    assert job.is_up_to_date()
    embedded(name)
    assert not job.is_up_to_date()
    job.run()
    steps = json.loads(job.timing.read_text())
    assert {step.removesuffix(" slant") for step in steps} == {"load", *computed}
    assert job.is_up_to_date()


def test_new_data_of_a_third_segmenter_make_its_segmentations_again_and_no_others(done, settings, monkeypatch):
    def register(data):
        record = replace(SEGMENTERS["atlas"], name="third", data=lambda _params: {"model": data})
        for module in ("efface.segmentation", "efface.study.settings"):
            monkeypatch.setattr(f"{module}.SEGMENTERS", {**SEGMENTERS, "third": record})
        provenance._segmentation_data.cache_clear()

    register("old")
    both = replace(settings, methods=("quickshear",), also=("third",))
    job = ScanJob(find_scans(settings.bids_dir)[0], both)
    pair = RescanJob(SessionPair(*find_scans(settings.bids_dir)[:2]), both)
    job.run()
    stored = read_recipe(job.paths.segmentation("quickshear", "third"))["Recipe"]
    assert stored["data_sha256"] == provenance.segmentation_data("third", {})
    before = pair.recipe()
    assert job.is_up_to_date()
    register("new")
    assert not job.is_up_to_date()
    assert pair.recipe() != before
    job.run()
    steps = {step for step in json.loads(job.timing.read_text()) if step != "load"}
    assert steps == {"segment original third", "segment quickshear third"}
    provenance._segmentation_data.cache_clear()


def test_the_note_of_a_step_that_an_earlier_run_had_done_is_removed(done, settings):
    job = ScanJob(find_scans(settings.bids_dir)[0], replace(settings, methods=("quickshear",)))
    job.run()
    before = files(settings.out_dir)
    note, other = (
        job.paths.stopped("segment original slant"),
        job.paths.folder / ".sub-01_ses-1_acq-x_load_stopped.txt",
    )
    note.touch()  # the disk became read-only between the result and the removal of the note
    other.touch()  # of another scan, whose step may be under way
    job.results.unlink()
    job.run()
    assert not note.exists()
    assert files(settings.out_dir) == before | {other: b""}


def test_a_study_with_weights_that_are_not_there_ends_before_the_first_scan(settings, tmp_path):
    missing = replace(settings, segmenter="slant", segmenter_params={"slant": {"weights": str(tmp_path / "none")}})
    with pytest.raises(InputError, match="none do not exist: expected a folder"):
        Study(missing).run(jobs=1)
    assert not settings.out_dir.exists()


def test_new_weights_make_a_rescan_again(done, settings, embedded):
    pair = SessionPair(*find_scans(settings.bids_dir)[:2])
    before = RescanJob(pair, settings).recipe()
    embedded("slant1mm/whole_brain.pt")
    assert RescanJob(pair, settings).recipe() != before


def test_another_version_of_an_external_program_makes_its_scans_again(done, settings, monkeypatch, tmp_path):
    def planned(anatomy, method, _params, *, implementation, **_options):
        mask = np.zeros(anatomy.scan.shape, bool)
        mask[:, -1] = True
        said = {"program": str(tmp_path / "bin/mri_deface"), "log": f"run by {tmp_path}"}
        return Edit(mask, 0.0, method, implementation, said)

    def install(version):
        program = tmp_path / "bin/mri_deface"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho mri_deface v{version}\n")
        program.chmod(0o755)
        provenance.external_version.cache_clear()

    monkeypatch.setattr(defaced_scans, "plan", planned)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    job = ScanJob(
        find_scans(settings.bids_dir)[0], replace(settings, methods=("mri_deface",), originals=("mri_deface",))
    )
    install("1.22")
    job.run()
    made = read_recipe(job.paths.defaced("mri_deface"))
    recipe = made["Recipe"]
    assert made["Parameters"] == {"program": "mri_deface"}, "what it printed may name anybody"
    assert str(tmp_path) not in json.dumps(made)
    assert recipe["external_version"] == "1.22"
    assert job.run().computed == 0
    install("1.23")
    assert not job.is_up_to_date()
    job.run()
    assert "deface mri_deface" in json.loads(job.timing.read_text())
    (tmp_path / "bin/mri_deface").unlink()
    provenance.external_version.cache_clear()
    assert job.is_up_to_date(), "a machine without the program keeps the results"


def test_any_other_constant_of_the_quality_check_makes_verdicts_again(done, settings, monkeypatch):
    job = ScanJob(find_scans(settings.bids_dir)[0], replace(settings, methods=("quickshear", "pydeface")))
    job.run()
    names = [(m, n) for m in DECIDING_MODULES for n, v in vars(m).items() if n.isupper() and isinstance(v, int | float)]
    assert {("face", "FRONT_MM"), ("brain", "LAYER"), ("grid_matching", "SAME"), ("skin", "OTSU_SHARE")} <= {
        (module.__name__.rpartition(".")[2], name) for module, name in names
    }
    for module, name in names:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, getattr(module, name) + 1)
            assert not job.is_up_to_date(), name
    assert job.is_up_to_date()
    monkeypatch.setattr(face, "LOOKS", face.LOOKS[:-1])  # a tuple of tuples
    assert job.run().computed == 2
    assert set(json.loads(job.timing.read_text())) == {"load", "qc quickshear", "qc pydeface"}


def test_a_run_stores_what_is_needed_to_repeat_it(done, settings, monkeypatch):
    monkeypatch.setattr("efface.study.run._outcomes", lambda _executor, jobs: (job.run() for job in jobs))
    study = Study(replace(settings, methods=("quickshear",)), bids_filter=load_filter({"session": "1"}))
    study.run(subjects=["sub-02"])
    stored = json.loads(GroupPaths(settings.out_dir).description.read_text())["Efface"]
    assert (stored["BidsFilter"], stored["ParticipantLabels"]) == ({"ses": ["1"]}, ["02"])
    study.run()
    stored = json.loads(GroupPaths(settings.out_dir).description.read_text())["Efface"]
    assert stored["ParticipantLabels"] == []
    assert len(stored["Runs"]) == 1


# --- group level -----------------------------------------------------------------------------------------------------


def test_measures_are_joined_by_their_keys_in_whatever_order_the_rows_are(done, settings):
    chosen = replace(settings, methods=("quickshear", "pydeface"), measures=("dice", "volume", "distance"))
    run_all(chosen)
    before = collect(settings.out_dir)
    for path in GroupPaths(settings.out_dir).unit_results():
        head, *rows = path.read_text().splitlines()
        random.Random(1).shuffle(rows)
        path.write_text("\n".join([head, *rows]) + "\n")
    after = collect(settings.out_dir)
    keys = ["subject", "session", "scan", "method", "level", "region"]
    for a, b in ((before.volumes, after.volumes), (before.distances, after.distances)):
        one, other = (frame.sort_values(keys, ignore_index=True) for frame in (a, b))
        pd.testing.assert_frame_equal(one, other)


def test_a_number_that_is_there_twice_is_refused(done, settings):
    run_all(replace(settings, methods=("quickshear",), measures=("dice", "volume")))
    path = GroupPaths(settings.out_dir).unit_results()[0]
    rows = path.read_text().splitlines()
    twice = next(row for row in rows if "\tvolume_ml\t" in row)
    path.write_text("\n".join([*rows, twice]) + "\n")
    with pytest.raises(InputError, match="volume_ml of sub-01_ses-1, quickshear, whole brain is there twice"):
        collect(settings.out_dir)
