"""The headline compares methods on the same scans, leaves faces out of the order, and says what was tested."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from efface.report.headline import headline
from efface.report.summary import against_rescan, own_grids
from efface.study.comparisons import CONFOUNDED
from efface.study.quality_tables import QUALITY_COLUMNS
from efface.study.records import COLUMNS, STATISTICS
from efface.study.statistics_table import SMALLER
from efface.study.tables import Tables

METHODS = ["pydeface", "quickshear", "defacer"]
VALUES = {"pydeface": [0.99, 0.99, 0.95], "quickshear": [0.98, 0.98, 0.98], "defacer": [1.0, 1.0, 1.0]}


def tables(verdicts=None, values=None, rescan=(), statistics=()):
    """A study of three scans; `verdicts` gives exceptions from Success, or is None where nothing was judged."""
    rows = [
        (f"{i:02d}", "1", f"s{i}", m, "native", "atlas", "dice", "whole brain", "whole brain", v)
        for m, column in (VALUES if values is None else values).items()
        for i, v in enumerate(column)
    ]
    dice = pd.DataFrame(rows, columns=list(COLUMNS[:10]))
    given = {("s0", "x"): ""} if verdicts is None else {(r[2], r[3]): "Success" for r in rows} | verdicts
    quality = pd.DataFrame([(s, m, v) for (s, m), v in given.items()], columns=["scan", "method", "verdict"])
    empty = {field.name: dice.iloc[:0] for field in dataclasses.fields(Tables)}
    return Tables(**empty | {
        "dice": dice, "quality": quality.reindex(columns=list(QUALITY_COLUMNS)),
        "rescan": dice[:len(rescan)].assign(method="rescan-1-2", implementation="affine", value=list(rescan)),
        "statistics": pd.DataFrame([
            {"test": "superiority", "measure": "dice", "level": "whole brain", "region": "whole brain", "method": m,
             "reference": "rescan (affine)", "n": n, "effect": effect, "verdict": verdict}
            for m, n, effect, verdict in statistics
        ]).reindex(columns=list(STATISTICS)),
    })  # fmt: skip


NOTHING = {(f"s{i}", "defacer"): "Failure I" for i in range(3)}


def test_a_method_that_changes_nothing_does_not_come_first():
    said = " ".join(headline(tables(NOTHING), METHODS))
    assert "is: PyDeface 0.9900 and QuickShear 0.9800. This order is not tested" in said
    assert "no scan is left: Defacer" in said
    assert "PyDeface 3 of 3, QuickShear 3 of 3 and Defacer 0 of 3" in said


def test_without_verdicts_the_methods_are_not_put_in_order():
    said = " ".join(headline(tables(), METHODS))
    assert "not put in order" in said
    assert "0.99" not in said


def test_methods_are_compared_on_the_scans_that_all_have():
    """PyDeface failed on the hard scan s2: its median of two easy scans is not set against others' three."""
    hard = {m: [0.99, 0.99, 0.5] for m in METHODS} | {"pydeface": [0.985, 0.985, np.nan]}
    said = " ".join(headline(tables({}, hard), METHODS))
    assert "On the 2 scans of 2 subjects that have such a result of 3 methods" in said
    assert "QuickShear 0.9900, Defacer 0.9900 and PyDeface 0.9850" in said
    assert "PyDeface 2 of 2" in said


def test_brain_damage_counts_in_the_order_and_not_among_the_scans_that_passed():
    said = headline(tables(NOTHING | {("s2", "pydeface"): "Failure II"}), METHODS)
    assert any("On the 3 scans of 3 subjects that have such a result of 2 methods" in x for x in said)
    assert any("On the 2 scans of 2 subjects that passed the quality check with 2 methods" in x for x in said)


def test_against_the_rescan_the_verdicts_of_the_same_subjects_are_said():
    rows = [("pydeface", 9, -0.1, SMALLER), ("quickshear", 8, 0.1, "not decided"), ("defacer", 3, -0.1, "")]
    said = " ".join(headline(tables({}, rescan=[0.9], statistics=rows), METHODS))
    assert f"in the same subjects: PyDeface (n = 9): {SMALLER}; QuickShear (n = 8): not decided" in said
    assert "Defacer (n = 3): median below it, not tested" in said


def test_volumes_without_resampling_are_said_with_their_own_verdict_and_tabled():
    made = tables({}, rescan=[0.9])
    assert "needs --measures dice,volume" in " ".join(headline(made, METHODS))
    whole = made.dice.assign(measure="volume_change_percent")
    own = whole[:3].assign(method="unregistered", implementation="own grids", value=[2.0, -3.0, np.nan])
    mine = whole[whole.method == "pydeface"].assign(value=[0.1, -0.3, 9.0])
    row = {"test": "superiority", "measure": "volume_change_percent", "level": "whole brain", "region": "whole brain",
           "method": "pydeface", "reference": "rescan (own grids)", "n": 2, "effect": -2.3, "verdict": "",
           "reason": "2 subjects"}  # fmt: skip
    statistics = pd.DataFrame([row]).reindex(columns=list(STATISTICS))
    made = dataclasses.replace(made, rescan=pd.concat([made.rescan, own, mine]), statistics=statistics)
    said = " ".join(headline(made, METHODS))
    assert "by 2.50 % (median of 2 subjects)" in said
    assert "PyDeface (n = 2): median below it, not tested" in said
    (found,) = own_grids(made, ["pydeface", "defacer"])
    assert (found["region"], found["sessions"]) == ("whole brain", 2.5)
    assert found["cells"][0] == {"size": pytest.approx(0.2), "said": "2 subjects"}, "of the same two subjects"
    assert found["cells"][1] is None


def test_half_way_is_said_beside_the_papers_yardstick_with_its_own_control_and_verdict():
    made = tables({}, rescan=[0.9], statistics=[("pydeface", 9, -0.1, CONFOUNDED)])
    whole = made.dice[:3]
    there = [
        whole.assign(method="rescan-halfway", implementation="halfway", value=[0.97, 0.96, np.nan]),
        whole.assign(method="resampled-halfway", implementation="resample", value=[0.99, 0.99, np.nan]),
    ]
    row = made.statistics.assign(reference="rescan (halfway)", verdict=SMALLER, n=2)
    made = dataclasses.replace(
        made, rescan=pd.concat([made.rescan, *there]), statistics=pd.concat([made.statistics, row])
    )
    said = headline(made, METHODS)
    at = next(i for i, sentence in enumerate(said) if sentence.startswith("Half-way between the sessions"))
    assert "Dice 0.9650 in 2 subjects. Resampling alone gives 0.9900 there." in said[at]
    assert f"PyDeface (n = 2): {SMALLER}" in said[at + 1]
    assert any(f"PyDeface (n = 9): {CONFOUNDED}" in sentence for sentence in said[:at])
    registered = [row for row in against_rescan(made.statistics, ["pydeface"]) if row["region"] == "whole brain"]
    (halfway,) = against_rescan(made.statistics, ["pydeface"], halfway=True)
    assert registered[0]["cells"][0]["verdict"] == CONFOUNDED
    assert halfway["cells"][0]["verdict"] == SMALLER


def test_a_yardstick_that_cannot_decide_gives_no_conclusion():
    said = " ".join(headline(tables({}, rescan=[0.9], statistics=[("pydeface", 9, -0.1, CONFOUNDED)]), METHODS))
    assert f"PyDeface (n = 9): {CONFOUNDED}." in said
    assert "smaller" not in said
    assert "below" not in said
