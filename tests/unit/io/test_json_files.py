"""JSON that is deep, doubled, or no JSON at all."""

import json

import pytest

from efface.io.json_files import DEEPEST, parse_json, read_object


def nested(levels):
    return "[" * levels + "]" * levels


def test_json_of_people_is_read():
    content = {"a": [1, 2.5, None, True, {"é": "脳\n"}]}
    for strict in (False, True):
        assert parse_json(json.dumps(content), strict=strict) == content
        assert parse_json(json.dumps(content, ensure_ascii=False).encode("utf-8-sig"), strict=strict) == content
        assert parse_json(nested(DEEPEST), strict=strict)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 900, 200_000])
def test_what_is_deep_is_refused(levels, tmp_path):
    with pytest.raises(ValueError, match=f"more than {DEEPEST} levels"):
        parse_json(nested(levels))
    (tmp_path / "deep.json").write_text(f'{{"a": {nested(levels)}}}')
    assert read_object(tmp_path / "deep.json") == {}


@pytest.mark.parametrize("text", ['{"a": NaN}', "[Infinity]", "[-Infinity]", '{"a": 1, "a": 2}', r'["\ud800"]'])
def test_what_json_leaves_open_is_refused_only_where_strict(text):
    parse_json(text)
    with pytest.raises(ValueError, match=r"no number|twice|surrogates not allowed"):
        parse_json(text, strict=True)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b"7", b"{", b'{"a": ' + b"9" * 9000 + b"}"])
def test_what_is_no_object_reads_as_empty(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    assert read_object(tmp_path / "x.json") == {}
    assert read_object(tmp_path / "missing.json") == read_object(tmp_path) == {}
