"""The table of defacing methods. A new method is one file with a `METHOD` record, and one line here."""

from collections.abc import Mapping
from types import MappingProxyType

from efface.defacing import defacer, fsl_deface, mri_deface, mri_reface, pydeface, quickshear, reshape
from efface.defacing.method import DefacingMethod

_METHODS: dict[str, DefacingMethod] = {
    method.name: method
    for method in (
        defacer.METHOD,
        quickshear.METHOD,
        mri_deface.METHOD,
        pydeface.METHOD,
        fsl_deface.METHOD,
        mri_reface.METHOD,
        reshape.METHOD,
    )
}
METHODS: Mapping[str, DefacingMethod] = MappingProxyType(_METHODS)
"""Methods by name, in the order in which listings and figures show them."""
