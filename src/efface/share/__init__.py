"""A BIDS data set, ready to share: `efface share`."""

from efface.share.records import Became, FileRow
from efface.share.run import Shared, share
from efface.share.settings import ShareSettings

__all__ = ["Became", "FileRow", "ShareSettings", "Shared", "share"]
