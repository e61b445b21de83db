"""Figure 5 and the words beside it: a point a method, the threat in words, and no number of a failed control."""

import pytest

import privacy_study
from efface.report.dice_figures import figure_bytes
from efface.report.frontier_figure import changed_ml, plot_frontier, regional_dice
from efface.report.privacy_section import privacy_section, sentences
from efface.study import load_tables
from efface.study.privacy_tables import measure_privacy


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        privacy_study.stand_in(monkeypatch)
        out = privacy_study.make(tmp_path_factory.mktemp("privacy"))
        measure_privacy(out)
        return load_tables(out)


def test_the_frontier_shows_everything_that_is_found_however_low(tables):
    privacy = tables.privacy.copy()
    privacy.loc[privacy.method == privacy_study.METHODS[0], ["auc", "auc_low"]] = [0.15, 0.05]
    figure = plot_frontier(privacy, tables.dice, tables.edits, privacy_study.METHODS)
    assert all(axes.get_ylim()[0] < 0.05 for axes in figure.axes)
    usual = plot_frontier(tables.privacy, tables.dice, tables.edits, privacy_study.METHODS)
    assert all(axes.get_ylim()[0] <= 0.3 for axes in usual.axes)


def test_the_frontier_has_a_point_with_intervals_a_method(tables):
    figure = plot_frontier(tables.privacy, tables.dice, tables.edits, privacy_study.METHODS)
    dice, changed = figure.axes
    assert len(dice.containers) == len(changed.containers) == 2
    (x,), (y,) = dice.containers[1][0].get_data()
    assert y == pytest.approx(tables.privacy.set_index("method").auc["pydeface"])
    assert x == pytest.approx(0.99 - 0.0055 - 0.01)
    left, right = changed.get_xlim()
    assert left > right  # less changed is to the right, as more Dice is


def test_the_same_tables_give_the_same_figure(tables):
    drawn = [
        figure_bytes(plot_frontier(tables.privacy, tables.dice, tables.edits, privacy_study.METHODS), "svg")
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_utility_is_over_subjects(tables):
    assert regional_dice(tables.dice, "quickshear").n == 12
    assert changed_ml(tables.edits, "quickshear").effect == pytest.approx(105.5)
    assert regional_dice(tables.dice, "no such method").n == 0


def test_the_section_says_who_has_what_and_what_is_not_said(tables):
    section = privacy_section(tables.privacy, privacy_study.METHODS)
    assert "scans with faces of everybody" in section["threat"]
    assert "photographs" in section["limits"]
    (attack,) = section["attacks"]
    assert [row["title"] for row in attack["rows"]][-2:] == ["not defaced (control)", "cut flat (control)"]
    (said,) = sentences(tables.privacy)
    assert "QuickShear 100% (76% to 100%), AUC 1.00 and PyDeface 8%" in said


def test_where_a_control_failed_no_number_is_told(tables):
    spoilt = tables.privacy.assign(unusable="heads cut flat are found")
    (said,) = sentences(spoilt)
    assert "cannot be used, because heads cut flat are found" in said
    assert "%" not in said
    assert (
        plot_frontier(spoilt, tables.dice, tables.edits, privacy_study.METHODS)
        .axes[0]
        .get_title("left")
        .endswith("not to be used")
    )


def test_a_study_without_the_table_has_no_section(tables):
    assert privacy_section(tables.privacy.iloc[:0], privacy_study.METHODS) is None
