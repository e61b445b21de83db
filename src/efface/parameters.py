"""Typed parameters of methods and segmenters: conversion from text, checks, and rows that describe them.

A method declares its parameters as a frozen dataclass in which every field has a default::

    @dataclass(frozen=True)
    class Params:
        buffer: float = param(10.0, "distance to the brain", unit="mm", minimum=0.0)
        variant: str = param("published", "which formula", choices=("published", "fixed"))

Field types are ``int``, ``float``, ``str``, ``bool``, ``Path``, tuples of these (``tuple[float, float, float]`` or
``tuple[str, ...]``), or one of them with ``| None``. Metadata keys, all optional:

========== ==========================================================================
help       one line for people, no full stop
unit       such as ``mm`` or ``voxels``
choices    the allowed values
minimum    the smallest allowed number
maximum    the largest allowed number
positive   true: the number must be greater than 0
finite     false: infinity and NaN are allowed too
pattern    a regular expression that the whole text must match
========== ==========================================================================

In a tuple, choices and bounds apply to each item.
"""

import dataclasses
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from efface.errors import InputError, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "NoParams", "ParameterRow", "Params", "as_text", "describe", "pairs_by_owner", "pairs_to_mapping", "param", "parse",
]  # fmt: skip

P = TypeVar("P", bound="DataclassInstance")
Params: TypeAlias = "DataclassInstance"
"""An instance of a dataclass of parameters."""

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_NONE = "none"
_NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", bool: "times true or false", Path: "paths"}
_KEYS = frozenset({"help", "unit", "choices", "minimum", "maximum", "positive", "finite", "pattern"})
_LONGEST_SHOWN = 80


@dataclasses.dataclass(frozen=True)
class NoParams:
    """For what has no parameters."""


@dataclasses.dataclass(frozen=True)
class ParameterRow:
    """One parameter in words, for tables and listings.

    Attributes
    ----------
    name, type, default, unit, help
        As declared; `unit` and `help` may be empty.
    allowed
        Choices or bounds, such as ``published, fixed`` or ``0 to 50``; may be empty.
    """

    name: str
    type: str
    default: str
    unit: str
    allowed: str
    help: str


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What a field accepts."""

    name: str
    item_type: type
    length: int | None
    """None: a single value; 0: a tuple of any length; else a tuple of this length."""
    optional: bool
    unit: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    positive: bool = False
    finite: bool = True
    pattern: str = ""
    example: str = ""

    @property
    def allowed(self) -> str:
        """Choices or bounds in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        low, high = self.minimum, self.maximum
        if self.pattern:
            return f"like {self.example}"
        above = "above 0" if self.positive else "" if low is None else f"at least {low:g}"
        below = "" if high is None else f"at most {high:g}"
        if low is not None and high is not None and not self.positive:
            return f"{low:g} to {high:g}"
        return " and ".join(filter(None, (above, below)))

    @property
    def expected(self) -> str:
        """What an error message says after "must be"."""
        if self.choices:
            limits = f"one of {self.allowed}"
        elif self.minimum is not None and self.maximum is not None and not self.positive:
            limits = f"between {self.minimum:g} and {self.maximum:g}"
        else:
            limits = self.allowed
        if self.length is not None:
            words = f"{self.length or 'some'} {_PLURALS[self.item_type]} separated by commas"
            words += f", each {limits}" if limits else ""
        elif self.choices:
            words = limits
        else:
            words = " ".join(filter(None, (_NOUNS[self.item_type], "of" if limits.startswith("at ") else "", limits)))
        words += f" ({self.unit})" if self.unit and not self.choices else ""
        return f"{words}, or none" if self.optional else words


def param(default: Any, help: str, **rules: Any) -> Any:
    """Declare a parameter: a dataclass field with its default and metadata.

    Parameters
    ----------
    default
        Its default.
    help
        One line for people, no full stop.
    **rules
        The other metadata keys of the module's description.
    """
    return dataclasses.field(default=default, metadata={"help": help, **rules})


def parse(params_type: type[P], values: Mapping[str, Any], *, what: str) -> P:
    """Convert and check the parameters of a method or a segmenter.

    Parameters
    ----------
    params_type
        A frozen dataclass whose fields all have defaults; see the module's description.
    values
        By name: text (as typed on a command line) or Python values. Names that are not given keep their defaults.
    what
        Whose parameters these are, for messages: ``quickshear``.

    Raises
    ------
    InputError
        If a name is unknown, a value has the wrong type, or a value is out of bounds.
    """
    rules = {rule.name: rule for rule in map(_rule, *_fields(params_type))}
    unknown = [one_line(str(name)) for name in values if name not in rules]
    if unknown:
        known = f"expected {', '.join(rules)}" if rules else "it has no parameters"
        msg = f"{what} has no parameter {', '.join(unknown)}; {known}"
        raise InputError(msg)
    converted = {}
    for name, value in values.items():
        try:
            converted[name] = _convert(value, rules[name])
        except (ValueError, OverflowError):
            msg = f"{what}: {name} must be {rules[name].expected}; received {_shown(value)}"
            raise InputError(msg) from None
    return params_type(**converted)


def describe(params_type: "type[DataclassInstance]") -> list[ParameterRow]:
    """List the parameters of a method or a segmenter in words.

    Parameters
    ----------
    params_type
        As for `parse`.
    """
    rows = []
    for field, hint in zip(*_fields(params_type), strict=True):
        rule = _rule(field, hint)
        default = field.default_factory() if callable(field.default_factory) else field.default
        text = field.metadata.get("help", "")
        rows.append(ParameterRow(rule.name, _type_name(hint), _default_text(default), rule.unit, rule.allowed, text))
    return rows


def pairs_to_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """Split ``name=value`` pairs of a command line; values stay text.

    Raises
    ------
    InputError
        If a pair does not look like ``name=value``, or a name is given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            msg = f"--param must look like name=value, for example buffer=10; received {_shown(pair)}"
            raise InputError(msg)
        if name in found:
            msg = f"--param {name} is given twice, as {_shown(found[name])} and {_shown(text)}: give it once"
            raise InputError(msg)
        found[name] = text
    return found


def pairs_by_owner(pairs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Split ``owner.name=value`` pairs of a command line, by owner (a method or a segmenter); values stay text.

    Raises
    ------
    InputError
        If a pair does not look like ``owner.name=value``, or a name is given twice.
    """
    found: dict[str, list[str]] = {}
    for pair in pairs:
        owner, dot, rest = pair.partition(".")
        if not dot or not owner.isidentifier():
            msg = f"--param must look like method.name=value, for example quickshear.buffer=10; received {_shown(pair)}"
            raise InputError(msg)
        found.setdefault(owner, []).append(rest)
    return {owner: pairs_to_mapping(rest) for owner, rest in found.items()}


def as_text(value: Any) -> str:
    """A value as `parse` reads it from a command line.

    Examples
    --------
    >>> as_text((1.5, 2)), as_text(None), as_text(False)
    ('1.5,2', 'none', 'false')
    """
    if isinstance(value, list | tuple):
        return ",".join(as_text(one) for one in value)
    return _NONE if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _fields(params_type: "type[DataclassInstance]") -> tuple[list["dataclasses.Field[Any]"], list[Any]]:
    fields = [field for field in dataclasses.fields(params_type) if field.init]
    hints = typing.get_type_hints(params_type)
    return fields, [hints[field.name] for field in fields]


def _rule(field: "dataclasses.Field[Any]", hint: Any) -> _Rule:
    """Read a field's declaration; a mistake in it is the programmer's, hence TypeError."""
    strange = set(field.metadata) - _KEYS
    members = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
    optional = len(members) < len(typing.get_args(hint)) and members != [hint]
    item, length = members[0], None
    if typing.get_origin(item) is tuple:
        items = typing.get_args(item)
        length = 0 if items[-1] is Ellipsis else len(items)
        item = items[0]
    if strange or len(members) > 1 or item not in _NOUNS:
        msg = f"parameter {field.name} has a declaration that cannot be used: {hint}, metadata {sorted(field.metadata)}"
        raise TypeError(msg)
    facts = {key: field.metadata[key] for key in _KEYS - {"help"} if key in field.metadata}
    return _Rule(field.name, item, length, optional, **facts, example=str(field.default))


def _convert(value: Any, rule: _Rule) -> Any:
    """Convert a value, or raise ValueError."""
    if rule.optional and (value is None or (isinstance(value, str) and value.lower() == _NONE)):
        return None
    if rule.length is None:
        return _convert_item(value, rule)
    items = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, bytes | Mapping):
        raise ValueError
    converted = tuple(_convert_item(item, rule) for item in items)
    if rule.length and len(converted) != rule.length:
        raise ValueError
    return converted


def _convert_item(value: Any, rule: _Rule) -> Any:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a NumPy scalar; NumPy itself need not be imported for this
    converted = _CONVERTERS[rule.item_type](value)
    if rule.choices and converted not in rule.choices:
        raise ValueError
    if rule.pattern and not re.fullmatch(rule.pattern, str(converted)):
        raise ValueError
    if isinstance(converted, float) and rule.finite and not math.isfinite(converted):
        raise ValueError
    # Compared as "not within", so that NaN fails.
    if rule.minimum is not None and not converted >= rule.minimum:
        raise ValueError
    if rule.maximum is not None and not converted <= rule.maximum:
        raise ValueError
    if rule.positive and not converted > 0:
        raise ValueError
    return converted


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE):
        return value.strip().lower() in _TRUE
    raise ValueError


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    return float(value)


def _to_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)  # exact, also beyond the whole numbers that a float holds
        except ValueError:
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError
    return int(value)


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _to_path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in str(value):
        raise ValueError
    return Path(value)


_CONVERTERS: Mapping[type, typing.Callable[[Any], Any]] = {
    int: _to_int,
    float: _to_float,
    str: _to_text,
    bool: _to_bool,
    Path: _to_path,
}


def _shown(value: Any) -> str:
    text = one_line(str(value))
    if not text:
        return "an empty text"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("pathlib.", "")


def _default_text(default: Any) -> str:
    if isinstance(default, bool) or default is None:
        return str(default).lower()
    return ",".join(map(_default_text, default)) if isinstance(default, tuple) else str(default)
