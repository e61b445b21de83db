"""Which scans the figures show, chosen by a rule and never by hand."""

from collections.abc import Sequence

import pandas as pd

from efface.metrics.dice import NINE_REGIONS, WHOLE_BRAIN

TYPICAL_RULE = "the scan whose whole-brain Dice, averaged over the methods, is the median of all scans"
WORST_RULE = (
    "for each method, the scan with the lowest whole-brain Dice (equal ones: the lowest mean of the nine regions), in "
    "the slice on which most voxels have another label"
)


def scores(dice: pd.DataFrame) -> pd.DataFrame:
    """Whole-brain Dice and mean of the nine regions, a row a scan and method, worst first.

    Returns
    -------
    pandas.DataFrame
        Columns scan, method, whole, regions; rows without a whole-brain Dice are left out.
    """
    whole = dice[dice.region == WHOLE_BRAIN].set_index(["scan", "method"]).value.rename("whole")
    nine = dice[dice.region.isin(NINE_REGIONS) & (dice.level == "region")]
    regions = nine.groupby(["scan", "method"]).value.mean().rename("regions")
    table = pd.concat([whole, regions], axis=1).dropna(subset=["whole"]).reset_index()
    return table.sort_values(["whole", "regions", "scan", "method"], ignore_index=True)


def typical_scan(dice: pd.DataFrame, methods: Sequence[str]) -> str | None:
    """The scan of Figure 1, by `TYPICAL_RULE`; of those with all methods, where there are any."""
    table = scores(dice).pivot(index="scan", columns="method", values="whole")
    table = table.reindex(columns=list(methods))
    complete = table.dropna()
    means = (complete if len(complete) else table).mean(axis=1).dropna().sort_values(kind="stable")
    return None if means.empty else str(means.index[(len(means) - 1) // 2])


def worst_scans(dice: pd.DataFrame, methods: Sequence[str]) -> dict[str, tuple[str, float]]:
    """The scan of Figure 3 for each method that has one, and its whole-brain Dice, by `WORST_RULE`."""
    table = scores(dice)
    found = {}
    for method in methods:
        mine = table[table.method == method]
        if len(mine):
            found[method] = (str(mine.scan.iloc[0]), float(mine.whole.iloc[0]))
    return found
