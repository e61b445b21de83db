"""Parameters: text and Python values become the declared types, or one line says what is wrong."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.errors import InputError
from efface.parameters import ParameterRow, describe, pairs_to_mapping, parse


@dataclass(frozen=True)
class Params:
    buffer: float = field(default=10.0, metadata={"help": "distance", "unit": "mm", "minimum": 0.0, "maximum": 50.0})
    variant: str = field(default="published", metadata={"choices": ("published", "fixed")})
    rounds: int = field(default=3, metadata={"positive": True})
    align: bool = field(default=True)
    weights: Path | None = None
    seed: int | None = None
    nudge: tuple[float, float, float] | None = None
    names: tuple[str, ...] = ()
    weights_of: tuple[float, ...] = field(default=(1.0,), metadata={"minimum": 0.0})
    limit: float = field(default=1.0, metadata={"maximum": 2.0})
    any_number: float = field(default=0.0, metadata={"finite": False})


@dataclass(frozen=True)
class NoParams:
    pass


def parsed(**values):
    return parse(Params, values, what="toy")


def refused(**values):
    with pytest.raises(InputError) as caught:
        parsed(**values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_values_the_defaults_stay():
    assert parse(Params, {}, what="toy") == Params()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("buffer", "10", 10.0),
        ("buffer", 10, 10.0),
        ("buffer", np.float32(2.5), 2.5),
        ("buffer", " 2.5 ", 2.5),
        ("rounds", "4", 4),
        ("rounds", "4.0", 4),
        ("rounds", 4.0, 4),
        ("rounds", np.int64(4), 4),
        ("rounds", str(2**60 + 1), 2**60 + 1),
        ("align", "false", False),
        ("align", "False", False),
        ("align", "no", False),
        ("align", "0", False),
        ("align", 0, False),
        ("align", False, False),
        ("align", np.False_, False),
        ("align", "TRUE", True),
        ("align", "yes", True),
        ("align", "1", True),
        ("variant", "fixed", "fixed"),
        ("weights", "a/b", Path("a/b")),
        ("weights", Path("a/b"), Path("a/b")),
        ("weights", None, None),
        ("weights", "none", None),
        ("seed", "7", 7),
        ("seed", "None", None),
        ("nudge", "1, -2.5,3", (1.0, -2.5, 3.0)),
        ("nudge", [1, -2.5, 3], (1.0, -2.5, 3.0)),
        ("nudge", np.array([1, -2.5, 3]), (1.0, -2.5, 3.0)),
        ("names", "a,b", ("a", "b")),
        ("any_number", "inf", math.inf),
    ],
)
def test_a_value_becomes_the_declared_type(name, value, expected):
    converted = getattr(parsed(**{name: value}), name)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("buffer", "abc", "a number between 0 and 50 (mm)"),
        ("buffer", "", "a number between 0 and 50 (mm)"),
        ("buffer", None, "a number between 0 and 50 (mm)"),
        ("buffer", True, "a number between 0 and 50 (mm)"),
        ("buffer", [1.0], "a number between 0 and 50 (mm)"),
        ("buffer", -0.1, "a number between 0 and 50 (mm)"),
        ("buffer", "50.1", "a number between 0 and 50 (mm)"),
        ("buffer", "nan", "a number between 0 and 50 (mm)"),
        ("buffer", math.inf, "a number between 0 and 50 (mm)"),
        ("variant", "Fixed", "one of published, fixed"),
        ("variant", 1, "one of published, fixed"),
        ("rounds", "2.5", "a whole number above 0"),
        ("rounds", 2.5, "a whole number above 0"),
        ("rounds", "0", "a whole number above 0"),
        ("rounds", True, "a whole number above 0"),
        ("rounds", "inf", "a whole number above 0"),
        ("rounds", math.nan, "a whole number above 0"),
        ("align", "maybe", "true or false"),
        ("align", 2, "true or false"),
        ("align", None, "true or false"),
        ("weights", "", "a path, or none"),
        ("weights", "a\0b", "a path, or none"),
        ("weights", 3, "a path, or none"),
        ("seed", "x", "a whole number, or none"),
        ("nudge", "1,2", "3 numbers separated by commas, or none"),
        ("nudge", "1,2,x", "3 numbers separated by commas, or none"),
        ("nudge", 5, "3 numbers separated by commas, or none"),
        ("names", 5, "some texts separated by commas"),
        ("weights_of", "1,-1", "some numbers separated by commas, each at least 0"),
        ("limit", 3, "a number of at most 2"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected_and_received(name, value, expected):
    message = refused(**{name: value})
    assert message.startswith(f"toy: {name} must be {expected}; received ")


def test_the_received_value_is_shown_on_one_short_line():
    assert refused(buffer="a\nb\x1b[31m").endswith("received a b\N{REPLACEMENT CHARACTER}[31m")
    assert refused(buffer="").endswith("received an empty text")
    assert len(refused(buffer="x" * 10_000)) < 200


def test_unknown_names_are_refused_together_and_the_known_ones_listed():
    message = refused(bufer=1, buffer="also wrong", method="x")
    assert message.startswith("toy has no parameter bufer, method; expected buffer, variant, rounds")
    with pytest.raises(InputError, match="toy has no parameter x; it has no parameters"):
        parse(NoParams, {"x": 1}, what="toy")


@given(st.floats())
def test_every_number_is_accepted_as_itself_or_refused(value):
    if 0 <= value <= 50:
        assert parsed(buffer=value).buffer == value
        assert parsed(buffer=repr(value)).buffer == value
    else:
        refused(buffer=value)
        refused(buffer=repr(value))


@given(st.sampled_from(["buffer", "variant", "rounds", "align", "weights", "seed", "nudge", "names"]), st.text())
def test_any_text_is_converted_or_refused_in_one_line(name, text):
    try:
        parsed(**{name: text})
    except InputError as error:
        message = str(error)
    else:
        message = "converted"
    assert len(message.splitlines()) == 1


@given(st.integers())
def test_whole_numbers_are_exact(value):
    assert parsed(seed=str(value)).seed == value


def test_a_declaration_that_cannot_be_used_is_the_programmers_error():
    @dataclass(frozen=True)
    class Odd:
        x: dict = field(default_factory=dict)

    @dataclass(frozen=True)
    class Misspelt:
        x: float = field(default=1.0, metadata={"minimun": 0})

    for odd in (Odd, Misspelt):
        with pytest.raises(TypeError, match="declaration"):
            parse(odd, {}, what="toy")


def test_rows_describe_each_parameter():
    rows = describe(Params)
    assert [row.name for row in rows] == list(Params.__dataclass_fields__)
    assert rows[0] == ParameterRow("buffer", "float", "10.0", "mm", "0 to 50", "distance")
    assert rows[1].allowed == "published, fixed"
    assert rows[2].allowed == "above 0"
    assert (rows[3].type, rows[3].default) == ("bool", "true")
    assert (rows[4].type, rows[4].default) == ("Path | None", "none")
    assert describe(NoParams) == []


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), st.text()))
def test_pairs_are_split_at_their_first_equals_sign_and_stay_text(values):
    assert pairs_to_mapping([f"{name}={text}" for name, text in values.items()]) == values


@pytest.mark.parametrize("pair", ["buffer", "=3", "", "1a=3", "a b=3", "--buffer=3"])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(InputError, match="--param must look like name=value"):
        pairs_to_mapping([pair])


def test_a_name_given_twice_is_refused():
    with pytest.raises(InputError, match="--param buffer is given twice, as 1 and 2"):
        pairs_to_mapping(["buffer=1", "buffer=2"])
