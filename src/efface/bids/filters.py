"""Selection of scans by BIDS entities, in the format of fMRIPrep's ``--bids-filter-file``.

A filter is JSON: ``{"t1w": {"session": "02", "acquisition": ["mprage", "mp2rage"], "run": null}}``. A value is a
label, a list of labels of which one must match, ``null`` (the entity must be absent) or ``"*"`` (it must be there).
Queries of other names than t1w (bold, fmap and so on) are for other programs, and are ignored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.io.absent_content import check_content

QUERY = "t1w"
ANY = "*"
SHORT = {
    "subject": "sub", "session": "ses", "acquisition": "acq", "reconstruction": "rec", "direction": "dir", "run": "run",
    "ceagent": "ce", "part": "part", "inversion": "inv", "echo": "echo", "flip": "flip", "mt": "mt", "sample": "sample",
    "modality": "mod", "processing": "proc", "chunk": "chunk", "space": "space", "task": "task", "tracer": "trc",
    "suffix": "suffix", "extension": "ext", "datatype": "datatype", "resolution": "res", "density": "den",
    "label": "label", "segmentation": "seg", "atlas": "atlas", "description": "desc",
}  # fmt: skip
"""Long names of entities, as pybids has them, and how they are spelled in file names; a filter may use either."""
NUMBERS = frozenset({"run", "echo", "inv", "flip", "chunk"})
"""Entities whose values are numbers: ``run-01`` is run 1. ``ses-01`` is not session 1."""
BYTE_ORDER_MARK = "\ufeff"
EXAMPLE = '{"t1w": {"acquisition": "mprage", "run": 1}}'

Value = str | None
"""A label, None for absent, or `ANY`."""


@dataclass(frozen=True)
class BidsFilter:
    """Conditions on the entities of a file name.

    Attributes
    ----------
    conditions
        Allowed values by the short name of the entity.
    """

    conditions: Mapping[str, tuple[Value, ...]]

    def matches(self, entities: Mapping[str, str]) -> bool:
        """Whether the entities of a file (short names) meet every condition."""
        return all(
            any(_meets(name, entities.get(name), value) for value in allowed)
            for name, allowed in self.conditions.items()
        )

    def __str__(self) -> str:
        return json.dumps({name: list(values) for name, values in self.conditions.items()})


def load_filter(source: str | Path | Mapping[str, Any]) -> BidsFilter:
    """Read a filter.

    Parameters
    ----------
    source
        JSON text (which begins with a brace), the path of a JSON file, or its content.

    Raises
    ------
    InputError
        If it cannot be read, is no JSON object, or has an entity or a value that no filter has.
    """
    content = source if isinstance(source, Mapping) else _parsed(str(source))
    query = content.get(QUERY)
    if query is None and any(isinstance(value, Mapping) for value in content.values()):
        msg = f"the BIDS filter has no query {QUERY} ({_names(content)}): expected for example {EXAMPLE}"
        raise InputError(msg)
    query = content if query is None else query
    if not isinstance(query, Mapping):
        msg = f"the BIDS filter's {QUERY} must be an object like {EXAMPLE}; received {query!r}"
        raise InputError(msg)
    return BidsFilter({_short(name): _values(name, value) for name, value in query.items()})


def _parsed(text: str) -> Mapping[str, Any]:
    what = "the BIDS filter"
    text = text.removeprefix(BYTE_ORDER_MARK)
    if not text.lstrip().startswith("{"):
        what = f"the BIDS filter {text}"
        check_content(Path(text))
        try:
            text = Path(text).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            msg = f"{what} cannot be read ({reason}): give a JSON file, or JSON like {EXAMPLE}"
            raise InputError(msg) from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{what} is not JSON ({error}): expected for example {EXAMPLE}"
        raise InputError(msg) from error
    if not isinstance(content, dict):
        msg = f"{what} must be a JSON object like {EXAMPLE}; received a {type(content).__name__}"
        raise InputError(msg)
    return content


def _short(name: str) -> str:
    short = SHORT.get(name, name)
    if short not in SHORT.values():
        msg = f"the BIDS filter has the unknown entity {name!r}; expected among {_names(SHORT)}"
        raise InputError(msg)
    return short


def _values(name: str, value: Any) -> tuple[Value, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(v is None or (isinstance(v, str | int) and not isinstance(v, bool)) for v in values):
        msg = f'the BIDS filter\'s {name} must be a label, a list of labels, null or "*"; received {value!r}'
        raise InputError(msg)
    short = _short(name)
    return tuple(v if v is None or v == ANY else _plain(short, str(v)) for v in values)


def _plain(short: str, value: str) -> str:
    """A label without its prefix; an ending with its dot."""
    return f".{value.lstrip('.')}" if short == "ext" else value.removeprefix(f"{short}-")


def _meets(name: str, value: str | None, wanted: Value) -> bool:
    if wanted is None or value is None:
        return wanted is value
    return wanted in (ANY, value) or (name in NUMBERS and wanted.lstrip("0") == value.lstrip("0"))


def _names(content: Mapping[str, Any]) -> str:
    return ", ".join(map(str, content)) or "nothing"
