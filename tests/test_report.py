"""The report is rebuilt from files, is self-contained, shows failures, and shows no face unless it may."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bids
from efface.dataset import find_scans
from efface.deface import METHODS
from efface.measure.dice import NINE_REGIONS
from efface.report import build_report, plot_effects
from efface.report.figures import COLOURS, GROUPS, figure_bytes
from efface.report.slices import EDIT_COLOUR, GAP, PLANES, Views, strip
from efface.report.words import method_sentences
from efface.study import Settings, Study, collect, load_tables
from efface.study.unit import run_unit


@pytest.fixture
def study(monkeypatch, tmp_path):
    bids.stand_in(monkeypatch)
    settings = Settings(bids.make(tmp_path / "bids"), tmp_path / "out")
    sources = find_scans(settings.bids_dir)
    sources[-1].path.write_bytes(b"not <b>an</b> image")
    Study(settings)._prepare_output()
    for source in sources:
        run_unit(source, settings)
    collect(settings.out_dir)
    return settings


def test_report_is_self_contained(study):
    page = build_report(study.out_dir).read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert page.count("data:image/jpeg") == 2 * len(METHODS)  # two scans
    for link in re.findall(r'href="([^"]+)"', page):
        assert (study.out_dir / link).is_file(), link


def test_every_scan_has_a_page_and_failures_are_listed_with_reasons(study):
    page = build_report(study.out_dir).read_text()
    assert "sub-02_ses-1" in page
    assert "is not a NIfTI" in page
    assert len(list(study.out_dir.rglob("*_report.html"))) == 3


def test_text_from_files_is_escaped(study):
    tables = load_tables(study.out_dir)
    tables.failures.loc[0, "reason"] = "<script>alert(1)</script>"
    tables.failures.to_csv(study.out_dir / "failures.tsv", sep="\t", index=False)
    page = build_report(study.out_dir).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_without_originals_the_notice_and_the_first_picture_go(study):
    shown = build_report(study.out_dir).read_text()
    hidden = build_report(study.out_dir, originals=False).read_text()
    assert "Not for sharing" in shown
    assert "Not for sharing" not in hidden
    assert "before, edit in orange" in shown
    assert "before, edit in orange" not in hidden


def test_a_rebuilt_report_is_the_same_file(study):
    first = {p: p.read_bytes() for p in (build_report(study.out_dir), *(study.out_dir / "figures").iterdir())}
    build_report(study.out_dir)
    assert {p: p.read_bytes() for p in first} == first


def test_a_lost_image_is_said_and_the_rest_shown(study):
    next(study.out_dir.rglob("sub-01_ses-1_desc-pydeface_T1w.nii.gz")).unlink()
    page = build_report(study.out_dir).read_text()
    assert "there is no defaced scan" in page
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


def test_each_of_the_six_methods_has_its_own_colour():
    assert len(set(COLOURS.values())) == len(COLOURS) == 6


def test_the_sentence_says_what_the_table_says(study):
    tables = load_tables(study.out_dir)
    whole = tables.dice[(tables.dice.method == "pydeface") & (tables.dice.region == "whole brain")].value
    sentence = method_sentences(tables, ["pydeface"])[0]
    assert f"median whole-brain Dice {whole.median():.4f}" in sentence
    assert "2 scans" in sentence
