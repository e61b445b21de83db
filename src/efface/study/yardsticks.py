"""What methods are compared with: the costs of scanning again, by kind of rescan, and the control of each kind."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd

from efface.statistics.inference import Values
from efface.study.native_volumes import OWN_GRIDS, UNREGISTERED
from efface.study.rescan_job import RESAMPLED, RESAMPLED_HALFWAY, RESCAN_12, RESCAN_21, RESCAN_HALFWAY
from efface.study.settings import HALFWAY, TRANSFORMS

Cost: TypeAlias = Callable[[Values], Values]
"""Distance of a measure's values from no effect at all."""
_RESCANS = (RESCAN_12, RESCAN_21, RESCAN_HALFWAY, UNREGISTERED)


def rescan_costs(part: pd.DataFrame, cost: Cost) -> dict[str, pd.Series]:
    """Cost of scanning again for each subject, by kind of rescan: a registration, ``halfway``, ``own grids``.

    Where the sessions are registered to each other, the cost is the mean of both directions, of subjects that have both.

    Parameters
    ----------
    part
        Rows of rescan.tsv of one measure in one region.
    cost
        Of the measure.
    """
    costs = part.assign(cost=cost(part.value.to_numpy(np.float64)))
    found: dict[str, pd.Series] = {}
    for transform in TRANSFORMS:
        again = costs[costs.method.isin((RESCAN_12, RESCAN_21)) & (costs.implementation == transform)]
        if len(again):
            both = again.pivot(index="subject", columns="method", values="cost")
            found[transform] = both.reindex(columns=[RESCAN_12, RESCAN_21]).dropna().mean(axis=1)
    for kind, group in ((HALFWAY, RESCAN_HALFWAY), (OWN_GRIDS, UNREGISTERED)):
        again = costs[costs.method == group]
        if len(again):
            found[kind] = again.dropna(subset=["cost"]).set_index("subject").cost
    return found


def compared(values: Mapping[tuple[str, str], pd.Series], kind: str) -> dict[tuple[str, str], pd.Series]:
    """Of a measure's values by method and implementation, those that are compared with a kind of rescan.

    These are the methods and the control of that kind. Sessions on their own grids are not resampled; the control of
    registered ones stands beside them to show how large the effect of resampling would be.
    """
    other = RESAMPLED if kind == HALFWAY else RESAMPLED_HALFWAY
    return {key: found for key, found in values.items() if key[0] not in (*_RESCANS, other)}
