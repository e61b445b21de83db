"""Published downloads, put into the BIDS form that `efface study` reads."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from efface.bids.importers.copying import Imported
from efface.bids.importers.kirby21 import import_kirby21
from efface.bids.importers.oasis3 import import_oasis3

__all__ = ["IMPORTERS", "Imported", "import_kirby21", "import_oasis3"]

IMPORTERS: Mapping[str, Callable[..., Imported]] = MappingProxyType({"kirby21": import_kirby21, "oasis3": import_oasis3})
"""By the name of the data set."""
