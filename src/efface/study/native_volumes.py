"""Volumes of two sessions, each segmented on its own grid: a rescan in which nothing is registered or resampled.

The rescans of the paper compare a session that was interpolated with one that was not, so part of what they show is
interpolation. A volume needs no common grid. What is left is the position of the head in the grid, and the voxel size
where the sessions differ in it.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.3
(the rescans).
"""

import pandas as pd

from efface.metrics.table import MEASURES
from efface.study.rescan_job import RESAMPLED_HALFWAY, RESCAN_12, RESCAN_21, RESCAN_HALFWAY

UNREGISTERED, OWN_GRIDS = "unregistered", "own grids"
"""Group of these rows in rescan.tsv, and its implementation."""
FIRST_MOVED, SECOND_MOVED = (RESCAN_21, RESAMPLED_HALFWAY), (RESCAN_12, RESCAN_HALFWAY)
"""Groups whose rows name the first and the second session: the one that is resampled."""
_REGION = ["segmenter", "level", "region"]


def native_volume_changes(good: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Change of volume from the first to the second session of each subject, each on its own grid.

    Parameters
    ----------
    good
        Rows of the scan jobs that are ok, in long form; ``volume_ml`` is the volume before defacing.
    again
        Rows of the rescan jobs, also the failed ones: they name the two scans of each subject.

    Returns
    -------
    pandas.DataFrame
        Rows of rescan.tsv: ``volume_ml`` of the first session, ``volume_change_ml`` and ``volume_change_percent`` (of
        the first) from the first to the second. Empty where no volumes were measured.
    """
    names = ["subject", "session", "scan"]
    first, second = (
        again.loc[again.method.isin(groups), names].drop_duplicates("subject") for groups in (FIRST_MOVED, SECOND_MOVED)
    )
    volumes = good[good.measure == "volume_ml"].drop_duplicates(["scan", *_REGION])[["scan", *_REGION, "value"]]
    before = first.merge(volumes, on="scan")
    after = second[["subject", "scan"]].merge(volumes, on="scan").drop(columns="scan")
    both = before.merge(after, on=["subject", *_REGION], suffixes=("", "_after"))
    one, two = both.value.astype("float64"), both.value_after.astype("float64")
    values = dict(zip(MEASURES["volume"].numbers, (one, two - one, 100 * (two - one) / one.where(one > 0)), strict=True))
    about = both.drop(columns=["value", "value_after"]).assign(method=UNREGISTERED, implementation=OWN_GRIDS)
    return pd.concat([about.assign(measure=measure, value=value) for measure, value in values.items()])
