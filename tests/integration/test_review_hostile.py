"""The review server and values that it did not make: of requests, and of files that lie in the study's folder."""

import http.client
import json
import shutil
import socket
from dataclasses import asdict
from urllib.parse import urlsplit

import pytest

import review_study
from efface.bids.derivatives import recipe_of
from efface.io.json_files import DEEPEST
from efface.review.app import _json
from efface.review.cases import find_cases
from efface.review.faces import Faces
from efface.review.session import Session
from efface.study.ratings import Rating, current_ratings, ratings_path, read_ratings

CASE = "sub-00_desc-mri_deface"
DEEP = b"[" * 100_000 + b"]" * 100_000
HARDLY_DEEP = b"[" * 800 + b"]" * 800
LONG = "x" * 9000
VOTE = Rating("2026-01-01T00:00:00Z", "Ann", "00", "", "sub-00", "mri_deface", "Success")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return review_study.make(tmp_path_factory.mktemp("made"), subjects=1)


@pytest.fixture(scope="module")
def served(made):
    with review_study.serving(made, "--reviewer", "Ann") as (server, url):
        yield made, review_study.enter(url)
        server.kill()
        assert "Traceback" not in server.stderr.read()


@pytest.fixture
def copied(made, tmp_path):
    """A study of its own, to be damaged."""
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def ask(door, path, body=None, **headers):
    at = urlsplit(door.url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
    connection.request("GET" if body is None else "POST", at.path + path, body, {"Cookie": door.cookie, **headers})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def vote(door, body):
    return ask(door, "api/vote", body, **{"Content-Type": "application/json"})


def a_body(**changes):
    fields = {"case": CASE, "reviewer": "Ann", "verdict": "Success", "note": "", **changes}
    return json.dumps(fields).encode()


BODIES = {
    "half a surrogate pair in the note": (a_body(note="\ud800"), "UTF-8"),
    "half a surrogate pair in the name": (a_body(reviewer="A\udfff"), "UTF-8"),
    "half a surrogate pair in the case": (a_body(case="\udc80"), "UTF-8"),
    "half a surrogate pair in a key": (a_body(**{"\ud800": ""}), "UTF-8"),
    "not UTF-8": (b'{"note": "\xff"}', "UTF-8"),
    "UTF-16": (a_body().decode().encode("utf-16"), "UTF-8"),
    "deep": (DEEP[:9_000] + DEEP[-9_000:], f"more than {DEEPEST} levels"),
    "deep within": (b'{"case": ' + HARDLY_DEEP + b"}", f"more than {DEEPEST} levels"),
    "NaN": (b'{"case": NaN}', "NaN is no number"),
    "infinity": (b'{"case": -Infinity}', "-Infinity is no number"),
    "a huge number": (b'{"case": 1e999999}', "case must be text"),
    "more digits than can be": (b'{"case": ' + b"9" * 9_000 + b"}", "must be a JSON object"),
    "a key twice": (a_body()[:-1] + b', "verdict": "Failure I"}', "a key is given twice"),
    "a list": (b'["case"]', "received a list"),
    "a number as verdict": (a_body(verdict=1), "verdict must be text"),
    "an object as note": (a_body(note={"a": ["b" * 5000]}), "note must be text"),
    "nothing as case": (a_body(case=None), "case must be text"),
    "a control character in the note": (a_body(note="a\x00b"), "received U+0000 in it"),
    "an escape sequence in the note": (a_body(note="\x1b[31mred"), "received U+001B in it"),
    "a C1 control in the note": (a_body(note="\x9b31m"), "received U+009B in it"),
    "a long verdict": (a_body(verdict="x" * 15_000), "must be one of"),
    "a long name": (a_body(reviewer="x" * 15_000), "reviewer's name"),
    "cut short": (a_body()[:-1], "must be a JSON object"),
    "two objects": (a_body() * 2, "must be a JSON object"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_vote_that_no_file_or_page_could_hold_is_refused_in_one_line(served, what):
    out, door = served
    body, reason = BODIES[what]
    before = ratings_path(out).read_bytes() if ratings_path(out).exists() else b""
    status, content = vote(door, body)
    said = json.loads(content)["error"]
    assert (status, reason in said) == (400, True), said
    assert said.isprintable()
    assert len(said) < 300
    assert (ratings_path(out).read_bytes() if ratings_path(out).exists() else b"") == before
    assert ask(door, f"api/case/{CASE}?reviewer=Ann")[0] == 200


def test_a_note_with_lines_tabs_and_every_script_is_taken(served):
    out, door = served
    note = "two\nlines,\ta tab, 脳, \U0001f9e0, e\u0301, \u2028."
    assert vote(door, a_body(note=note))[0] == 201
    assert read_ratings(out).ratings[-1].note == note


def test_a_vote_that_breaks_off_leaves_the_server_well(served):
    out, door = served
    at, before = urlsplit(door.url), read_ratings(out)
    for _ in range(3):
        with socket.create_connection((at.hostname, at.port)) as connection:
            head = f"POST {at.path}api/vote HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {door.cookie}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{{".encode())
    assert ask(door, "api/study")[0] == 200
    assert read_ratings(out) == before


@pytest.mark.parametrize(
    "path",
    [
        "api/study?reviewer=%ED%A0%80", "api/study?reviewer=%FF", "api/study?reviewer=a%00b", "api/study?reviewer=%20x",
        f"api/study?reviewer={LONG}", "api/study?reviewer=A&reviewer=%0a", "api/study?reviewer",
        "api/study?%FF=%00",
        f"api/case/{CASE}?reviewer=%C2%9B", "api/case/%ED%A0%80", "api/case/%F0%9F%A7%A0", f"api/case/{LONG}",
        f"volume/{CASE}/%00/x", f"volume/{CASE}/%ED%A0%80/x", f"face/{CASE}/%00/%ED%A0%80", f"face/{CASE}/after/{LONG}",
        "%00", "%ED%A0%80", "%FF.js", LONG, "vendor/%00/x", "./././", "%2e%2e%2f%00", "con", "review.js/x", "vendor",
    ],
)  # fmt: skip
def test_no_address_makes_the_server_fail(served, path):
    status, content = ask(served[1], path)
    assert status < 500, content
    if status == 400 and content.startswith(b"{"):
        said = json.loads(content)["error"]
        assert said.isprintable()
        assert len(said) < 400


LINES = {
    "half a surrogate pair": json.dumps({**asdict(VOTE), "note": "odd \ud800 note"}).encode(),
    "controls": json.dumps({**asdict(VOTE), "note": "\x00\x1b[2J\x9b"}).encode(),
}


@pytest.mark.parametrize("what", LINES)
def test_a_note_that_an_earlier_version_stored_is_healed(copied, what):
    ratings_path(copied).parent.mkdir(exist_ok=True)
    ratings_path(copied).write_bytes(LINES[what] + b"\n")
    note = shown(Session(copied).details(CASE, "Bo"))["others"][0]["note"]
    assert "\N{REPLACEMENT CHARACTER}" in note
    assert note.isprintable()
    answers(copied)
    assert ratings_path(copied).read_bytes().startswith(LINES[what] + b"\n")  # lines are never changed


def test_a_case_with_such_a_note_is_served_to_everybody(copied):
    ratings_path(copied).parent.mkdir(exist_ok=True)
    ratings_path(copied).write_bytes(LINES["half a surrogate pair"] + b"\n")
    with review_study.serving(copied) as (_, url):
        door = review_study.enter(url)
        for path in (f"api/case/{CASE}?reviewer=Bo", f"api/case/{CASE}?reviewer=Ann", "api/study", "api/agreement"):
            assert ask(door, path)[0] == 200


@pytest.mark.parametrize(
    "line",
    [
        DEEP, b'{"note": ' + DEEP + b"}", b'{"note": ' + HARDLY_DEEP + b"}", b"\xff\xfe", b"\x00", b"NaN", b"1e999",
        b"9" * 9000, json.dumps({**asdict(VOTE), "scan": "a\x00b"}).encode(),
        json.dumps({**asdict(VOTE), "scan": "\ud800"}).encode(),
        json.dumps({**asdict(VOTE), "scan": "../../x"}).encode(),
        json.dumps({**asdict(VOTE), "method": "x\n"}).encode(),
        json.dumps({**asdict(VOTE), "automatic_shown": 1}).encode(),
    ],
)  # fmt: skip
def test_a_line_that_can_be_no_vote_is_counted_and_left_out(copied, line):
    ratings_path(copied).parent.mkdir(exist_ok=True)
    ratings_path(copied).write_bytes(line + b"\n" + json.dumps(asdict(VOTE)).encode() + b"\n")
    log = read_ratings(copied)
    assert (log.ratings, log.broken) == ((VOTE,), 1)
    assert current_ratings(copied) == [VOTE]
    session = Session(copied)
    assert session.study("Ann")["broken"] == 1
    assert session.export() == "1 votes in qc.tsv and table1.tsv"


NUMBER = b"1" + b"0" * 400
EVIDENCE = {
    "deep": DEEP,
    "deep, but parsed": b'{"unit": {}, "reason": ' + HARDLY_DEEP + b"}",
    "not UTF-8": b'{"reason": "\xff"}',
    "no object": b"[1]",
    "empty": b"",
    "wrong types": json.dumps({
        "verdict": ["Success"], "score": {}, "reason": 3, "warnings": 7, "unit": [], "brain": [], "face": 1,
        "surface_threshold": "high", "from_average": "here",
    }).encode(),
    "wrong types within": json.dumps({
        "verdict": "Success", "score": "x", "unit": {"scan": [1], "method": {}}, "warnings": {"a": 1},
        "brain": {"damaged_ml": "x", "edited_ml": [], "deepest_mm": {}, "where": [1], "centre_mm": ["x", 1, 2]},
        "face": {"changed": "x", "left": 3, "features": {"nose": [], "": {"changed": True, "left": "yes"}}},
        "surface_threshold": True, "from_average": [[1, 2], [3]],
    }).encode(),
    "NaN and infinities": b'{"verdict": "Failure I", "score": NaN, "brain": {"damaged_ml": Infinity, "deepest_mm": NaN, '
                          b'"edited_ml": -Infinity, "centre_mm": [NaN, 0, 1]}, "surface_threshold": NaN, '
                          b'"from_average": [[NaN]], "face": {"changed": Infinity}}',
    "huge numbers": b'{"verdict": "Failure I", "score": N, "brain": {"damaged_ml": N, "deepest_mm": -N, "edited_ml": N, '
                    b'"centre_mm": [N, 0, 1]}, "surface_threshold": N, "from_average": [[N, 0, 0, 0], [0, 1, 0, 0], '
                    b'[0, 0, 1, 0], [0, 0, 0, 1]], "face": {"changed": N}}'.replace(b"N", NUMBER),
    "a pose beyond all measure": b'{"from_average": [[1e99, 0, 0, 0], [0, 1e99, 0, 0], [0, 0, 1e99, 0], [0, 0, 0, 1]]}',
    "half a surrogate pair": b'{"verdict": "Failure I", "score": 0.5, "reason": "\\ud800", "warnings": ["\\udfff"]}',
    "a key twice": b'{"verdict": "Failure I", "verdict": "Success", "score": 0.5}',
}  # fmt: skip


@pytest.mark.parametrize("what", EVIDENCE)
def test_damaged_evidence_keeps_nobody_from_reviewing(copied, what):
    case = next(case for case in find_cases(copied) if case.id == CASE)
    case.evidence.write_bytes(EVIDENCE[what])
    recipe_of(case.defaced).write_bytes(EVIDENCE[what])
    answers(copied)


@pytest.mark.parametrize(
    "what", ["wrong types within", "NaN and infinities", "huge numbers", "a pose beyond all measure"]
)
def test_damaged_evidence_keeps_no_face_from_being_drawn(copied, what):
    case = next(case for case in find_cases(copied) if case.id == CASE)
    case.evidence.write_bytes(EVIDENCE[what])
    assert Faces().png(case, "before", "frontal").startswith(b"\x89PNG")


RECIPES = {
    "wrong types": {"Sources": [3], "Implementation": [1], "Parameters": [1], "Warnings": "text"},
    "nothing": {"Sources": None, "Implementation": None, "Parameters": None, "Warnings": None},
    "a source that is no name": {"Sources": ["\x00.nii.gz"], "Parameters": {"\ud800": "\udfff"}, "Warnings": ["\ud800"]},
    "a source that is half a surrogate pair": {"Sources": ["/\ud800.nii.gz"], "Warnings": [[], {}, 1]},
    "a long source": {"Sources": ["/" + "x" * 100_000 + ".nii"]},
}


@pytest.mark.parametrize("what", RECIPES)
def test_a_damaged_recipe_keeps_nobody_from_reviewing(copied, what):
    case = next(case for case in find_cases(copied) if case.id == CASE)
    recipe_of(case.defaced).write_text(json.dumps(RECIPES[what]))
    answers(copied)


SETTINGS = {
    "wrong methods": {"Methods": ["mri_deface", 3, None, ["x"], "\ud800"], "Segmenter": "atlas"},
    "a wrong segmenter": {"Methods": ["mri_deface"], "Segmenter": {"name": "x"}},
    "a segmenter that is a path": {"Methods": ["mri_deface"], "Segmenter": "../../x"},
}


@pytest.mark.parametrize("what", SETTINGS)
def test_damaged_settings_keep_nobody_from_reviewing(copied, what):
    (copied / "dataset_description.json").write_text(json.dumps({"Efface": SETTINGS[what]}))
    answers(copied)


@pytest.mark.parametrize(
    "table",
    [
        b"scan\tmethod\tverdict\tscore\nsub-00\tmri_deface\tFailure I\t\xff\n", b"\xff\xfe\x00", b"\x00\n\x00",
        b"scan\tmethod\tverdict\tscore\nsub-00\tmri_deface\tFailure I\t1e999\n", b"x" * 300_000, b"",
        b"verdict\nSuccess\tmore\tand more\n",
    ],
    ids=["not UTF-8", "UTF-16", "NUL", "infinite", "one long cell", "empty", "cells without a column"],
)  # fmt: skip
def test_a_damaged_table_of_verdicts_keeps_nobody_from_reviewing(copied, table):
    (copied / "qc.tsv").write_bytes(table)
    answers(copied)


def test_a_study_whose_name_is_not_text_can_be_reviewed(copied, tmp_path):
    named = tmp_path / "study\udce9"
    try:
        copied.rename(named)
    except OSError:
        pytest.skip("this file system wants text")
    answers(named)
    answers(named, blind=True)


def shown(content):
    """What a browser is sent."""
    return json.loads(_json(content).body.decode())


def answers(out, *, blind=False):
    """Every question about a case has an answer, and a vote can be given."""
    session = Session(out, blind=blind)
    assert CASE in {row[0] for row in shown(session.study("Ann"))["cases"]}
    details = shown(session.details(CASE, "Ann"))
    assert isinstance(details["parameters"], dict)
    assert all(isinstance(details[name], str) for name in ("implementation", "reason"))
    assert "after" in details["volumes"]
    assert shown(session.vote(CASE, "Ann", "Success", "")) == shown(session.details(CASE, "Ann"))
    shown(asdict(session.agreement()))
    assert "in qc.tsv and table1.tsv" in session.export()
    session.refresh()
