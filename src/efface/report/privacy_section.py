"""The report's section on re-identification: what was attacked, what it says, and what it does not."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from efface.privacy.cohort import ANOTHER_SCAN, CONTROLS
from efface.privacy.looks import FLAT, UNTOUCHED
from efface.privacy.registry import ATTACKS
from efface.report.frontier_figure import defaced
from efface.visualization.palette import title_of
from efface.wording import counted, listed

CONTROL_TITLES = {UNTOUCHED: "not defaced (control)", FLAT: "cut flat (control)"}
THREAT = (
    "Whoever attacks has a defaced scan, and scans with faces of everybody in this study, the person's own among them: "
    "for the same scan the very one that was defaced, else another one of the person. The pose is found in the defaced "
    "scan alone. A real attacker seldom has so much; one who has a photograph, or scans of many thousands of people, is "
    "not measured here."
)
LIMITS = (
    "These numbers are of these attacks and these people. They do not say what somebody finds with photographs, with a "
    "network that reconstructs a face before it compares, by the brain (it stays, and links scans of one person), or in "
    "a larger group of people: rank 1 becomes harder in it, the AUC does not."
)


def privacy_section(summary: pd.DataFrame, methods: Sequence[str]) -> dict[str, Any] | None:
    """What the template shows; None where re-identification was not measured.

    Parameters
    ----------
    summary
        The study's privacy_summary.tsv.
    methods
        Of the study, in order.
    """
    if summary.empty:
        return None
    attacks = []
    for (name, gallery_scan), rows in summary.groupby(["attack", "gallery_scan"], sort=False):
        attack = ATTACKS.get(str(name))
        order = {m: i for i, m in enumerate([*methods, *CONTROLS])}
        shown = rows[rows.method.isin(order)].sort_values("method", key=lambda m: m.map(order), kind="stable")
        attacks.append(
            {
                "title": attack.title if attack else str(name),
                "summary": attack.summary if attack else "",
                "scan": "another scan of the person" if gallery_scan == ANOTHER_SCAN else "the scan that was defaced",
                "unusable": str(rows.unusable.iloc[0]),
                "rows": [_row(row) for row in shown.to_dict("records")],
            }
        )
    return {"threat": THREAT, "limits": LIMITS, "attacks": attacks, "sentences": sentences(summary)}


def sentences(summary: pd.DataFrame) -> list[str]:
    """What each attack found, most exposed method first."""
    said = []
    for (name, gallery_scan), rows in summary.groupby(["attack", "gallery_scan"], sort=False):
        attack = ATTACKS.get(str(name))
        title = f"{attack.title if attack else name}, {gallery_scan}"
        if rows.unusable.iloc[0]:
            said.append(f"{title}: these numbers cannot be used, because {rows.unusable.iloc[0]}.")
            continue
        mine = defaced(rows).sort_values("auc", ascending=False, kind="stable")
        if mine.empty:
            continue
        parts = [
            f"{title_of(str(row.method))} {row.rank1:.0%} ({row.rank1_low:.0%} to {row.rank1_high:.0%}), "
            f"AUC {row.auc:.2f}"
            for row in mine.itertuples()
        ]
        first = mine.iloc[0]
        people = counted(int(first.people), "person").replace("persons", "people")
        said.append(f"{title}, found at rank 1 of {first.gallery:.0f} by {people}: {listed(parts)}.")
        lost = mine[mine.not_attacked > 0]
        if len(lost):
            counts = listed([f"{row.not_attacked:.0f} of {title_of(str(row.method))}" for row in lost.itertuples()])
            said.append(
                f"Scans that could not be attacked, counted as not found (and in the upper end as found): {counts}."
            )
    return said


def _row(row: dict[Any, Any]) -> dict[str, Any]:
    method = str(row["method"])
    return {
        "method": method,
        "title": CONTROL_TITLES.get(method, title_of(method)),
        **{name: float(row[name]) for name in _NUMBERS},
    }


_NUMBERS = (
    "people", "probes", "not_attacked", "gallery", "rank1", "rank1_low", "rank1_high", "chance", "auc", "auc_low",
    "auc_high",
)  # fmt: skip
