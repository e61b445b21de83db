"""By how many days the dates of each subject are moved: found in what was shared before, else drawn; stored nowhere."""

from collections.abc import Sequence

from efface.errors import InputError
from efface.share import dates
from efface.share.inventory import Found
from efface.share.settings import ShareSettings


class SubjectDays:
    """Whole days by which the dates of subjects move.

    Parameters
    ----------
    settings
        Of the run.
    tables
        Tables of scans and sessions of the data set: where one was shared before, its dates say how far they moved.
    """

    def __init__(self, settings: ShareSettings, tables: Sequence[Found]) -> None:
        self._days: dict[str, int] = {}
        if settings.dates != dates.SHIFT:
            return
        for table in tables:
            out = settings.out_dir / table.path
            if table.subject in self._days or not out.is_file():
                continue
            try:
                before = dates.read_table((settings.bids_dir / table.path).read_bytes())
                days = dates.days_between(before, dates.read_table(out.read_bytes()))
            except (InputError, OSError):
                continue
            if days:  # 0: an earlier run kept the dates
                self._days[table.subject] = days

    def of(self, subject: str) -> int:
        """The days of one subject."""
        return self._days.setdefault(subject, dates.draw_days())
