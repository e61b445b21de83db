"""JSON that may be missing, damaged or hostile."""

import json
from pathlib import Path
from typing import Any, NoReturn

DEEPEST = 64
"""More levels of lists and objects are no JSON of ours, nor of a scanner: who walks through them runs out of stack."""


def parse_json(text: str | bytes, *, strict: bool = False) -> Any:
    """Parse JSON of at most `DEEPEST` levels.

    Parameters
    ----------
    text
        UTF-8 where it is bytes.
    strict
        Refuse what JSON does not know or leaves open as well: NaN and infinities, a key that is given twice, and half
        a surrogate pair, which no UTF-8 can hold.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    words = text if isinstance(text, str) else text.decode("utf-8-sig")
    try:
        content = json.loads(
            words, parse_constant=_refused if strict else None, object_pairs_hook=_once if strict else None
        )
    except RecursionError as error:
        msg = f"it has more than {DEEPEST} levels"
        raise ValueError(msg) from error
    _check_depth(content)
    if strict:
        json.dumps(content, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where the file is missing, unreadable, or holds anything else."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, list | dict)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    if any(isinstance(value, list | dict) for value in level):
        msg = f"it has more than {DEEPEST} levels"
        raise ValueError(msg)


def _refused(constant: str) -> NoReturn:
    msg = f"{constant} is no number"
    raise ValueError(msg)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        msg = "a key is given twice"
        raise ValueError(msg)
    return content
