"""Values of measures on empty regions, decided once.

==================  ====================  =====================
measure             region empty in both  region empty in one
==================  ====================  =====================
Dice                NaN                   0
volume change, ml   0                     the other's volume
volume change, %    NaN                   NaN if the original's is empty, else -100
surface distances   NaN                   NaN
ICC                 NaN where no volume differs between subjects, before or after
==================  ====================  =====================

NaN is written as ``n/a``, and is left out of every statistic, which then says so by its n.
"""

import math


def ratio(part: float, whole: float) -> float:
    """``part / whole``, and NaN where there is no whole.

    Examples
    --------
    >>> ratio(1, 4)
    0.25
    >>> ratio(0, 0)
    nan
    """
    return part / whole if whole else math.nan
