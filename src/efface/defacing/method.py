"""What efface knows about a defacing method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_programs import ExternalProgram
from efface.parameters import Params


@dataclass(frozen=True)
class DefacingMethod:
    """All facts about a method: one record in `efface.defacing.METHODS`.

    Attributes
    ----------
    name
        On the command line and in file names.
    title
        As its authors write it.
    summary
        One line: what it does.
    reference, citation
        The paper, for people; and its key in ``report/citations.bib``.
    colour
        In figures, ``#rrggbb``, from Okabe and Ito's palette for colour-blind readers.
    params
        Frozen dataclass of its parameters, see `efface.parameters`.
    plan
        Decides the edit: ``plan(anatomy, params)``.
    external
        The published program, where efface can run it.
    """

    name: str
    title: str
    summary: str
    reference: str
    citation: str
    colour: str
    params: "type[Params]"
    plan: Callable[[HeadAnatomy, Any], Edit]
    external: ExternalProgram | None = None
