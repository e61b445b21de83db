"""The report is rebuilt from files, is self-contained, shows failures, and shows no face unless it may."""

import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bids_dataset
import phantom
from efface.bids.dataset_links import link_to
from efface.bids.derivatives import UNNAMED_SEGMENTER, GroupPaths, UnitPaths
from efface.bids.query import find_scans
from efface.defacing import METHODS
from efface.metrics.dice import NINE_REGIONS
from efface.report import (
    build_report,
    builder,
    dice_figures,
    head_figures,
    image_loading,
    inputs,
    methods_section,
    narrative,
    plot_effects,
    plot_rescans,
    scan_selection,
)
from efface.report.dice_figures import GROUPS, figure_bytes
from efface.report.pages import units_of
from efface.report.reproduction import commands
from efface.study import Settings, Study, collect, load_tables
from efface.study.quality_tables import QUALITY_COLUMNS, UNIT
from efface.study.records import STATISTICS, write_table
from efface.study.scan_job import ScanJob
from efface.study.statistics_table import SMALLER
from efface.study.study_content import LEFT_OUT_COLUMNS
from efface.visualization.camera import pose_of_brain
from efface.visualization.slices import EDIT_COLOUR, GAP, PLANES, Views, strip

PANELS = head_figures.method_panels
"""The real ones: a stand-in takes their place where whole reports are made."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    settings = Settings(bids_dataset.make(root / "bids"), root / "out")
    sources = find_scans(settings.bids_dir)
    sources[-1].path.write_bytes(b"not <b>an</b> image")
    with pytest.MonkeyPatch.context() as monkeypatch:
        bids_dataset.stand_in(monkeypatch)
        Study(settings)._prepare_output()
        for source in sources:
            ScanJob(source, settings).run()
    collect(settings.out_dir)
    return settings


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """A copy of the study, and small pictures: what is in them does not depend on their size. All cases are shown."""
    monkeypatch.setattr(builder, "GALLERY", 2 * len(METHODS))
    monkeypatch.setattr(head_figures, "FACE_PX", (36, 32))
    monkeypatch.setattr(dice_figures, "DPI", 40)
    monkeypatch.setattr(
        builder, "figure_bytes", lambda figure, kind: b"a picture"
    )  # drawn in the tests of figures below
    monkeypatch.setattr(
        head_figures, "method_panels", lambda *_: {"before": (head_figures.Panel(None, "not drawn"),) * 2}
    )
    shutil.copytree(made.out_dir, tmp_path / "out")
    description = tmp_path / "out/dataset_description.json"
    links = {"DatasetLinks": {"raw": link_to(made.bids_dir, tmp_path / "out")}}
    description.write_text(json.dumps(json.loads(description.read_text()) | links))
    return Settings(made.bids_dir, tmp_path / "out")


def test_report_is_self_contained(study):
    page = build_report(study.out_dir).read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "The scans that passed the quality check with every method" in page
    assert page.count("data:image/jpeg") == 2 * len(METHODS)  # two scans
    assert "default-src 'none'" in page
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (study.out_dir / link).is_file(), link
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page, anchor


def test_every_scan_has_a_page_and_failures_and_what_was_left_out_are_listed_with_reasons(study):
    cells = [("verdict", "09", "sub-09", method, "the scan is gone") for method in METHODS]
    write_table(GroupPaths(study.out_dir).left_out, pd.DataFrame(cells, columns=list(LEFT_OUT_COLUMNS)))
    page = build_report(study.out_dir).read_text()
    assert "sub-02_ses-1" in page
    assert "is not a NIfTI" in page
    assert len(list(study.out_dir.rglob("*_report.html"))) == 3
    assert "verdict of 1 scan (the scan is gone)." in page
    counts = load_tables(study.out_dir).table1.set_index(["method", "source"]).loc[("quickshear", "automatic")]
    assert counts[["scans", "failure_i", "failed_runs"]].tolist() == [3, 1, 1], "one of three scans is not a NIfTI"
    (table,) = re.findall(r"<h2 id=\"table1\">.*?</table>", page, re.DOTALL)
    assert "<td>2</td><td>1</td>" in table, "defaced, failed to run"


def test_text_from_files_is_escaped(study):
    tables = load_tables(study.out_dir)
    tables.failures.loc[0, "reason"] = "<script>alert(1)</script>"
    tables.failures.to_csv(study.out_dir / "failures.tsv", sep="\t", index=False)
    page = build_report(study.out_dir).read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_originals_are_shown_only_when_asked_for(study):
    shown = build_report(study.out_dir, include_originals=True).read_text()
    hidden = build_report(study.out_dir).read_text()
    assert "Not for sharing" in shown
    assert "Not for sharing" not in hidden
    assert "before, edit in orange" in shown
    assert "before, edit in orange" not in hidden


def test_the_page_of_a_scan_that_left_the_study_goes_with_it(study):
    build_report(study.out_dir, include_originals=True)
    tables = GroupPaths(study.out_dir)
    for name in ("edits.tsv", "failures.tsv"):
        frame = pd.read_csv(tables.out_dir / name, sep="\t", dtype=str)
        frame[frame.subject != "01"].to_csv(tables.out_dir / name, sep="\t", index=False)
    build_report(study.out_dir)
    pages = [page.name for page in study.out_dir.rglob("*_report.html")]
    assert pages
    assert not any("sub-01" in name for name in pages)
    assert not any("Not for sharing" in page.read_text() for page in study.out_dir.rglob("*_report.html"))


def test_a_rebuilt_report_is_the_same_file(study, monkeypatch):
    monkeypatch.setattr(builder, "figure_bytes", figure_bytes)
    first = {p: p.read_bytes() for p in (build_report(study.out_dir), *(study.out_dir / "figures").iterdir())}
    build_report(study.out_dir)
    assert {p: p.read_bytes() for p in first} == first


def test_without_originals_no_original_is_read_but_near_its_brain(study, monkeypatch):
    reads = []
    real = image_loading.load_original

    def load(paths, method):
        scan = real(paths, method)
        reads.append(scan)
        return scan

    monkeypatch.setattr(image_loading, "load_original", load)
    monkeypatch.setattr(head_figures, "load_original", load)
    unit = UnitPaths(study.out_dir, "01", "1", "sub-01_ses-1")
    seen = image_loading.load_comparison(unit, "pydeface", UNNAMED_SEGMENTER, image_loading.DisplayPolicy())
    brain = seen.brain
    far = ~image_loading.near_brain(brain, seen.affine)
    assert (seen.before[far] == 0).all()
    assert (seen.before[brain] == reads[0].data[brain]).all()
    reads.clear()
    panels = PANELS(unit, ["pydeface"], image_loading.DisplayPolicy())
    assert reads == []
    assert panels["before"][1].picture is not None


def test_a_face_that_the_quality_check_found_is_not_drawn(study):
    row = {"subject": "01", "session": "1", "scan": "sub-01_ses-1", "method": "pydeface", "implementation": "native"}
    verdict = pd.DataFrame([{**row, "verdict": "Failure I", "reason": "the nose is left", "face_failed": 1}])
    verdict.reindex(columns=list(QUALITY_COLUMNS)).to_csv(study.out_dir / "qc.tsv", sep="\t", index=False, na_rep="n/a")
    page = build_report(study.out_dir).read_text()
    assert page.count("data:image/jpeg") == 2 * len(METHODS) - 1
    assert "the face is left (Failure I)" in next(study.out_dir.rglob("sub-01_ses-1_report.html")).read_text()
    shown = build_report(study.out_dir, include_originals=True).read_text().count("data:image/jpeg")
    assert shown == 2 * len(METHODS)


def rescans(subjects=("01", "02", "03")):
    rng = np.random.default_rng(0)
    groups = (("pydeface", "native", 0.99), ("rescan-1-2", "affine", 0.9), ("rescan-2-1", "affine", 0.9))
    rows = [
        (s, "1", f"sub-{s}_ses-1", m, i, UNNAMED_SEGMENTER, "dice", "region", region, base - rng.uniform(0, 0.05))
        for s in subjects
        for m, i, base in groups
        for region in GROUPS
    ]
    return pd.DataFrame(rows, columns=[*UNIT, "segmenter", "measure", "level", "region", "value"])


def test_figure_4_comes_with_rescans_and_goes_with_them(study):
    volumes = {"measure": "volume_change_percent", "value": 2.5, "level": "whole brain"}
    own = rescans(("01",)).assign(method="unregistered", implementation="own grids", **volumes)
    table = pd.concat([rescans(), own[own.region == "whole brain"].iloc[:1]])
    table.to_csv(study.out_dir / "rescan.tsv", sep="\t", index=False)
    page = build_report(study.out_dir).read_text()
    assert 'aria-label="Volumes without resampling"' in page
    assert "by 2.50 % (median of 1 subject)" in page
    assert "Figure 4" in page
    assert "The yardstick, the same person scanned again" in page
    assert (study.out_dir / "figures/figure4_rescan.svg").is_file()
    (study.out_dir / "rescan.tsv").unlink()
    assert "Figure 4" not in build_report(study.out_dir).read_text()
    assert not (study.out_dir / "figures/figure4_rescan.svg").exists()


def test_figure_4_has_a_point_a_subject_and_group():
    figure = plot_rescans(rescans(), ["pydeface"])
    assert len(figure.axes) == len(GROUPS)
    for axes in figure.axes:
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert [len(p.get_xdata()) for p in points] == [3, 3, 3]


def test_figure_4_shows_half_way_after_the_papers_groups_and_its_table_follows(study):
    there = [
        rescans().assign(method=method, implementation=how)
        for method, how in (("rescan-halfway", "halfway"), ("resampled-halfway", "resample"))
    ]
    there = [table.drop_duplicates(["subject", "region"]) for table in there]
    table = pd.concat([rescans(), *there])
    titles = [label.get_text() for label in plot_rescans(table, ["pydeface"]).axes[-1].get_xticklabels()]
    assert titles == ["PyDeface", "Rescan(1-2)", "Rescan(2-1)", "Rescan, half-way", "Resampled only, half-way"]
    table.to_csv(study.out_dir / "rescan.tsv", sep="\t", index=False)
    rows = [
        {"test": "superiority", "measure": "dice", "level": "region", "region": region, "method": "pydeface",
         "reference": "rescan (halfway)", "n": 9, "effect": -0.02, "verdict": SMALLER, "p_corrected": 0.01}
        for region in NINE_REGIONS
    ]  # fmt: skip
    statistics = pd.DataFrame(rows).reindex(columns=list(STATISTICS))
    statistics.to_csv(study.out_dir / "statistics.tsv", sep="\t", index=False, na_rep="n/a")
    page = build_report(study.out_dir).read_text()
    assert page.count('aria-label="Against a rescan, half-way"') == 1
    assert "Half-way: both sessions resampled once" in page
    assert "half-way between them (rigid registration" in page, "the methods paragraph"


def test_the_sentence_counts_the_regions_in_which_a_rescan_changes_more(study):
    rows = [
        {"test": "superiority", "measure": "dice", "level": "region", "region": region, "method": "pydeface",
         "reference": "rescan (affine)", "n": 9, "effect": -0.02,
         "verdict": SMALLER if place < 7 else "not decided"}
        for place, region in enumerate(NINE_REGIONS)
    ]  # fmt: skip
    statistics = pd.DataFrame(rows).reindex(columns=list(STATISTICS))
    tables = replace(inputs.read_tables(study.out_dir), statistics=statistics)
    said = narrative.method_sentences(tables, ["pydeface"])[0]
    assert "smaller than a rescan in 7 of 9 regions; not decided in 2 of 9 regions" in said


def test_the_worst_case_is_the_lowest_dice_and_the_typical_scan_the_median():
    rows = [
        {"scan": f"s{i}", "method": "pydeface", "level": level, "region": region, "value": value}
        for i, value in enumerate((0.9, 0.5, 0.7))
        for level, region in (("whole brain", "whole brain"), ("region", "thalamus"))
    ]
    dice = pd.DataFrame(rows)
    assert scan_selection.worst_scans(dice, ["pydeface"]) == {"pydeface": ("s1", 0.5)}
    assert scan_selection.typical_scan(dice, ["pydeface"]) == "s2"
    assert scan_selection.typical_scan(dice[dice.scan == "none"], ["pydeface"]) is None


def test_figure_3_shows_the_slice_that_changed_most(study):
    unit = UnitPaths(study.out_dir, "01", "1", "sub-01_ses-1")
    seen = image_loading.load_comparison(unit, "pydeface", UNNAMED_SEGMENTER, image_loading.DisplayPolicy())
    labels = seen.labels_before.copy()
    labels[:, :, 25][seen.labels_before[:, :, 25] > 0] = 23
    assert head_figures._most_changed(replace(seen, labels_after=labels)) == (2, 25)


def test_the_camera_is_placed_by_the_brain():
    truth = phantom.head()
    straight = pose_of_brain(truth.brain, truth.affine)
    turned = pose_of_brain(truth.brain, phantom.rotation(20) @ truth.affine)
    np.testing.assert_allclose(phantom.rotation(20) @ straight, turned, atol=1e-6)
    assert np.degrees(np.arccos((np.trace(straight[:3, :3]) - 1) / 2)) < 20


def test_every_citation_of_the_paragraph_is_in_the_bibliography(study):
    tables = inputs.read_tables(study.out_dir)
    made = methods_section.read_record(GroupPaths(study.out_dir), units_of(study.out_dir, tables))
    said, entries = methods_section.paragraph(made, tables), methods_section.bibliography(made, tables)
    keys = set(re.findall(r"@([a-z]+\d*)", said))
    assert {"gao2022", "efface", *(spec.citation for spec in METHODS.values())} <= keys
    for key in keys:
        assert f"{{{key}," in entries, key
    assert "--methods " + ",".join(METHODS) in commands(made.settings, "bids", study.out_dir)
    assert set(made.inputs) == {"sub-01_ses-1", "sub-01_ses-2"}


def test_a_lost_image_is_said_and_the_rest_shown(study):
    next(study.out_dir.rglob("sub-01_ses-1_desc-pydeface_T1w.nii.gz")).unlink()
    page = build_report(study.out_dir).read_text()
    assert "there is no defaced scan" in next(study.out_dir.rglob("sub-01_ses-1_report.html")).read_text()
    assert page.count("data:image/jpeg") == 2 * len(METHODS) - 1


def views(**changes):
    rng = np.random.default_rng(0)
    before = rng.uniform(50, 100, (20, 30, 24)).astype(np.float32)
    mask = np.zeros(before.shape, bool)
    mask[:, 20:, :10] = True
    after = np.where(mask, 0, before)
    given = {"before": before, "after": after, "mask": mask, "brain": None, "spacing_mm": np.array([1.0, 2.0, 3.0])}
    return Views(**{**given, **changes})


def test_slices_have_the_aspect_of_the_head_and_three_panels():
    for plane, (wide, tall) in zip(PLANES, ((60, 72), (20, 72), (20, 60)), strict=True):
        picture = Image.open(io.BytesIO(strip(views(), plane, 144)))
        panel = (picture.width - 2 * GAP) / 3
        assert picture.height == 144
        assert panel == pytest.approx(144 * wide / tall, abs=1)


def test_anterior_is_right_and_superior_is_up_in_a_sagittal_slice():
    picture = np.asarray(Image.open(io.BytesIO(strip(views(), "sagittal", 72)))).astype(int)
    panel = (picture.shape[1] - 2 * GAP) // 3
    after = picture[:, -panel:]
    assert after[-10:, -10:].mean() < 20 < after[:10, :10].mean()  # the cut: lower right
    overlay = picture[:, panel + GAP : 2 * panel + GAP]
    orange = np.abs(overlay[-10:, -10:] - np.array(EDIT_COLOUR)).mean()
    assert orange < np.abs(overlay[:10, :10] - np.array(EDIT_COLOUR)).mean()


def test_without_the_original_nothing_of_what_was_cut_is_drawn():
    first = strip(views(before=None), "sagittal", 72)
    changed = views()
    assert strip(Views(None, changed.after, changed.mask, None, changed.spacing_mm), "sagittal", 72) == first
    assert Image.open(io.BytesIO(first)).width < Image.open(io.BytesIO(strip(views(), "sagittal", 72))).width


def table(values):
    rows = [
        {"scan": f"s{i}", "method": "pydeface", "level": "region", "region": region, "value": value}
        for i, value in enumerate(values)
        for region in GROUPS
    ]
    return pd.DataFrame(rows)


def test_the_figure_has_ten_groups_and_a_point_a_scan():
    figure = plot_effects(table([0.9, 0.95, float("nan")]), ["pydeface"])
    axes = figure.axes[0]
    assert [t.get_text().replace("\n", " ") for t in axes.get_xticklabels()] == list(GROUPS)
    assert len(GROUPS) == 1 + len(NINE_REGIONS) == 10
    points = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert sum(len(line.get_xdata()) for line in points) == 20


def test_the_same_table_gives_the_same_figure():
    for kind in ("svg", "png"):
        first, second = (figure_bytes(plot_effects(table([0.9, 0.95]), ["pydeface"]), kind) for _ in range(2))
        assert first == second


def test_each_method_has_its_own_colour():
    assert len({spec.colour for spec in METHODS.values()}) == len(METHODS)


def test_the_sentence_says_what_the_table_says(study):
    tables = inputs.read_tables(study.out_dir)
    whole = tables.dice[(tables.dice.method == "pydeface") & (tables.dice.region == "whole brain")].value
    sentence = narrative.method_sentences(tables, ["pydeface"])[0]
    assert f"Median whole-brain Dice {whole.median():.4f}" in sentence
    assert "2 scans" in sentence
