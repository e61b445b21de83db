"""The review server: who may ask, what is shown, what blind keeps back, and that nothing but votes is written."""

import csv
import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import review_study
from efface.cli import main
from efface.errors import InputError
from efface.review import evidence
from efface.review.access import HEADERS
from efface.review.agreement import agreement
from efface.review.app import PAGE
from efface.review.cases import find_cases
from efface.review.session import Session, label_colours
from efface.study.quality_tables import write_quality
from efface.study.ratings import read_ratings

CASE = "sub-00_desc-mri_deface"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    out = review_study.make(tmp_path_factory.mktemp("study"), subjects=2)
    with review_study.serving(out, "--reviewer", "Ann") as (_, url):
        yield out, review_study.enter(url)


def ask(door, path="", *, method="GET", body=None, **headers):
    """One raw request: the path goes out as it is, nothing is normalised."""
    url, cookie = (door, "") if isinstance(door, str) else door
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
    given = {"Cookie": cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, at.path + path, body, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def post(url, content, **headers):
    return ask(
        url, "api/vote", method="POST", body=json.dumps(content), **{"Content_Type": "application/json", **headers}
    )


def a_vote(**changes):
    return {"case": CASE, "reviewer": "Ann", "verdict": "Failure II", "note": "", **changes}


def files(folder: Path):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "review" not in p.parts}


def test_the_page_and_its_parts_come_with_every_protecting_header(served):
    for path in ("", "review.js", "viewer.js", "list.js", "style.css", "vendor/niivue.min.js", "api/study", "none"):
        answer, content = ask(served[1], path)
        assert answer.status == (404 if path == "none" else 200), path
        assert content
        for name, value in HEADERS.items():
            assert answer.getheader(name) == value


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script():
    page = (PAGE / "index.html").read_text()
    assert "http" not in page
    assert "onclick" not in page
    assert page.count("<script") == 1
    assert "<style" not in page
    for script in ("review.js", "viewer.js", "list.js"):
        code = (PAGE / script).read_text()
        assert not any(word in code for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("))


@pytest.mark.parametrize(
    "path", ["", "x", "x/", "api/study", "../", "%00/", "open/", "open/x", "open", "%ff/", "%ed%a0%80/"]
)
def test_without_ticket_or_cookie_there_is_nothing(served, path):
    at = urlsplit(served[1].url)
    answer, content = ask(f"http://{at.netloc}/", path)
    assert answer.status == 404
    assert b"efface review printed" in content
    assert str(served[0]).encode() not in content


def test_neither_the_place_nor_the_cookie_is_enough_alone(served):
    _, door = served
    name, _, key = door.cookie.partition("=")
    at = urlsplit(door.url)
    assert ask(door, "api/study")[0].status == 200
    for other in (
        door.url,
        door._replace(cookie=f"{name}={key[:-1]}"),
        door._replace(cookie=f"{name}=\xff"),
        door._replace(cookie=f"efface-review-00000000={key}"),
        door._replace(url=f"http://{at.netloc}/"),
        door._replace(url=f"http://{at.netloc}/{key}/"),
    ):
        assert ask(other, "api/study")[0].status == 404


def test_each_run_has_other_long_secrets(served):
    with review_study.serving(served[0]) as (_, url):
        doors = (served[1], review_study.enter(url))
    places, names, keys = zip(*((urlsplit(d.url).path.strip("/"), *d.cookie.split("=")) for d in doors), strict=True)
    assert len({*places, *names, *keys, urlsplit(url).path.split("/")[-1]}) == 7
    assert all(len(secret) >= 32 for secret in (*places, *keys, urlsplit(url).path.split("/")[-1]))


def test_an_address_works_once_and_the_cookie_is_strict(served):
    with review_study.serving(served[0]) as (server, url):
        assert ask(url, method="HEAD")[0].status == 404  # looks do not count
        assert ask(url, Sec_Purpose="prefetch;prerender")[0].status == 503
        answer, content = ask(url)
        cookie = answer.getheader("Set-Cookie")
        page = re.search(r'url=(/[^"]+/)"', content.decode())[1]
        assert {part.strip() for part in cookie.split(";")[1:]} == {"HttpOnly", f"Path={page}", "SameSite=strict"}
        for name, value in HEADERS.items():
            assert answer.getheader(name) == value
        again, said = ask(url)
        assert (again.status, again.getheader("Set-Cookie")) == (404, None)
        assert b"works once" in said
        other = review_study.next_address(server)
        assert other != url
        door = review_study.enter(other)
        assert ask(door, "api/study")[0].status == 200
        assert door.cookie == cookie.partition(";")[0]


BROWSER = """#!{python}
import sys, urllib.request
from pathlib import Path
page = urllib.request.urlopen(sys.argv[1]).read().decode()
Path("{shown}.new").write_text(sys.argv[1] + page)
Path("{shown}.new").rename("{shown}")
"""


def test_what_is_on_the_command_line_of_the_browser_is_worth_nothing_later(served, tmp_path, monkeypatch):
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(BROWSER.format(python=sys.executable, shown=shown))
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setenv("DISPLAY", ":99")
    with review_study.serving(served[0], browser=True) as (server, url):
        review_study.next_address(server)
        assert ask(url)[0].status == 404
        while not shown.is_file():
            time.sleep(0.05)
        text = shown.read_text()
        assert text.startswith(url)
        assert "efface-review-" not in text  # the cookie is in no page


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_gets_nothing_even_with_the_cookie(served, site):
    assert ask(served[1], "api/study", Sec_Fetch_Site=site)[0].status == 403
    assert ask(served[1], "api/study", Sec_Fetch_Site="same-origin")[0].status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_another_host_name_is_refused(served, host):
    assert ask(served[1], Host=host)[0].status == 400


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1"])
def test_a_tunnel_from_another_port_is_let_in(served, host):
    assert ask(served[1], Host=host)[0].status == 200


def test_a_vote_from_another_page_is_refused(served):
    before = read_ratings(served[0])
    assert post(served[1], a_vote(), Origin="http://evil.example")[0].status == 403
    assert read_ratings(served[0]) == before


@pytest.mark.parametrize(
    "path",
    [
        "../dataset_description.json", "..%2f..%2fetc%2fpasswd", "../../../../../../etc/passwd", "%2e%2e/%2e%2e/app.py",
        "..%5capp.py", "vendor/../../app.py", "//etc/passwd", "volume/..%2f..%2fx/after/a.nii.gz",
        f"volume/{CASE}/..%2fafter/a.nii.gz", f"volume/{CASE}/passwd/a.nii.gz", "api/case/..%2f..",
        f"face/{CASE}/before/..%2f..", f"face/{CASE}/x/frontal", "face/x/before/frontal", "api/case/%00",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(served, path):
    answer, content = ask(served[1], path)
    assert answer.status in (400, 404), content
    assert b"root:" not in content
    assert b"import" not in content


def test_only_this_machine_is_listened_on(served):
    port = urlsplit(served[1].url).port
    try:
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    except OSError:
        others = set()
    for address in {*others, "127.0.0.2"} - {"127.0.0.1"}:
        with socket.socket() as probe:
            assert probe.connect_ex((address, port)) != 0


def test_images_come_as_the_files_are(served):
    out, url = served
    for kind, name in (("after", "mrideface_T1w"), ("edit", "mrideface_mask"), ("labels-after", "mrideface_dseg"),
                       ("labels-before", "original_dseg"), ("brain", "brain_mask")):  # fmt: skip
        content = ask(url, f"volume/{CASE}/{kind}/x.nii.gz")[1]
        assert content == (out / f"sub-00/anat/sub-00_desc-{name}.nii.gz").read_bytes()
    assert ask(url, f"volume/{CASE}/before/x.nii.gz")[1] == next(out.parent.rglob("bids/sub-00/anat/*.gz")).read_bytes()


def test_faces_are_drawn_and_show_the_cut(served):
    pictures = [ask(served[1], f"face/sub-00_desc-quickshear/{when}/frontal") for when in ("before", "after", "after")]
    assert [answer.status for answer, _ in pictures] == [200, 200, 200]
    before, after, again = (content for _, content in pictures)
    assert before.startswith(b"\x89PNG")
    assert before != after == again


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "fine"}, "must be one of"), ({"reviewer": ""}, "reviewer's name"), ({"reviewer": "a\nb"}, "printa"),
        ({"case": "../x"}, "no case"), ({"note": "x" * 2001}, "2000 characters"), ({"note": 3}, "must be text"),
        ({"note": "x" * 30_000}, "20000 bytes"),
    ],
)  # fmt: skip
def test_a_vote_that_cannot_be_taken_is_one_line(served, changes, reason):
    before = read_ratings(served[0])
    answer, content = post(served[1], a_vote(**changes))
    assert answer.status == 400
    assert reason in json.loads(content)["error"]
    assert read_ratings(served[0]) == before


@pytest.mark.parametrize("body", ["", "[1]", "nonsense"])
def test_what_is_no_json_object_is_refused(served, body):
    answer, _ = ask(served[1], "api/vote", method="POST", body=body, Content_Type="application/json")
    assert answer.status == 400
    assert ask(served[1], "api/vote", method="POST", body=json.dumps(a_vote()))[0].status == 400  # as a form would


def test_a_vote_is_kept_as_said_and_nothing_else_is_written(served):
    out, url = served
    before = files(out.parent)
    name = '<script>alert("x")</script>'
    answer, content = post(url, a_vote(reviewer=name, note=f" {name} "))
    assert answer.status == 201
    assert json.loads(content)["vote"]["note"] == name
    vote = read_ratings(out).ratings[-1]
    assert (vote.reviewer, vote.subject, vote.session, vote.scan, vote.method) == (
        name,
        "00",
        "",
        "sub-00",
        "mri_deface",
    )
    assert (vote.verdict, vote.note, vote.automatic_shown) == ("Failure II", name, True)
    assert len(vote.image) == 16
    assert files(out.parent) == before
    assert name in json.loads(ask(url, "api/study")[1])["reviewers"]


def test_worst_comes_first(served):
    rows = json.loads(ask(served[1], "api/study?reviewer=Bo")[1])["cases"]
    assert [row[2] for row in rows] == ["mri_deface"] * 2 + ["pydeface"] * 2 + ["quickshear"] * 2


def test_blind_tells_nothing_before_the_vote_and_all_after(tmp_path):
    session = Session(review_study.make(tmp_path, subjects=2), blind=True)
    session.vote(CASE, "Bo", "Success", "looks fine")
    hidden = [session.study("Ann"), session.details(CASE, "Ann")]
    said = json.dumps(hidden)
    assert not any(word in said for word in ("Failure", "Success", "damaged", "0.93", "looks fine"))
    assert [row[0] for row in session.study("Ann")["cases"]] != [row[0] for row in session.study("Cy")["cases"]]
    shown = session.vote(CASE, "Ann", "Failure I", "")
    assert (shown["automatic"], shown["score"]) == ("Failure II", 0.93)
    assert [other["note"] for other in shown["others"]] == ["looks fine"]
    session.vote(CASE, "Ann", "Failure II", "")
    assert [v.automatic_shown for v in read_ratings(session.out_dir).ratings] == [False, False, True]


def test_a_vote_after_one_that_was_taken_back_is_not_blind(tmp_path):
    """The first vote showed the automatic verdict."""
    session = Session(review_study.make(tmp_path, subjects=1), blind=True)
    for verdict in ("Success", "", "Failure II"):
        session.vote(CASE, "Ann", verdict, "")
    assert [v.automatic_shown for v in read_ratings(session.out_dir).ratings] == [False, True, True]


def test_kappa_of_a_review_is_of_blind_votes_and_anchored_ones_are_counted_apart(tmp_path):
    session = Session(review_study.make(tmp_path, subjects=2), blind=True)
    ids = sorted(session.cases)
    for case in ids:
        session.vote(case, "Ann", "Success", "")
        session.vote(case, "Ann", session.cases[case].automatic, "")  # now that it is in sight
    session.blind = False
    for case in ids[:2]:
        session.vote(case, "Bo", session.cases[case].automatic, "")
    pairs = {(p.a, p.b): p for p in session.agreement().pairs}
    ann, bo = pairs["Ann", "automatic"], pairs["Bo", "automatic"]
    assert (ann.cases, ann.anchored, ann.anchored_same) == (6, 6, 1.0)
    assert ann.same == pytest.approx(1 / 3)
    assert ann.kappa == pytest.approx(0)
    assert (bo.cases, bo.anchored, bo.anchored_same) == (0, 2, 1.0)
    assert np.isnan(bo.kappa)
    assert (pairs["Ann", "Bo"].cases, pairs["Ann", "Bo"].anchored) == (0, 2)


def test_who_comes_back_finds_the_own_votes_before_the_page_knows_the_name(tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    Session(out).vote(CASE, "Ann", "Success", "")
    again = Session(out, reviewer="Ann").study("")
    assert again["reviewer"] == "Ann"
    assert next(row for row in again["cases"] if row[0] == CASE)[5] == "Success"


def test_a_study_without_verdicts_can_be_reviewed(tmp_path):
    session = Session(review_study.make(tmp_path, subjects=1, verdicts=False))
    details = session.details(CASE, "Ann")
    assert (details["automatic"], details["evidence"], details["reason"]) == (None, [], "")
    session.vote(CASE, "Ann", "Success", "")
    assert session.agreement().pairs == ()


def test_the_table_of_verdicts_is_used_where_it_is(tmp_path):
    out = review_study.make(tmp_path, subjects=1, verdicts=False)
    (out / "qc.tsv").write_text(
        "scan\tmethod\tverdict\tscore\nsub-00\tpydeface\tFailure I\t0.7\nsub-00\tquickshear\tn/a\tn/a\n"
    )
    verdicts = {case.method: (case.automatic, case.score) for case in find_cases(out)}
    assert verdicts["pydeface"] == ("Failure I", 0.7)
    assert verdicts["quickshear"][0] == verdicts["mri_deface"][0] == ""


def test_what_the_study_makes_meanwhile_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("efface.review.cases.SETTLED_NS", 0)
    out = review_study.make(tmp_path, subjects=1, verdicts=False)
    session = Session(out)
    paths = session.case(CASE).paths
    assert session.case(CASE).automatic == ""
    review_study.write_evidence(paths, "mri_deface")
    paths.defaced("pydeface").unlink()
    review_study.multiply(out, 2)
    session.refresh()
    assert session.case(CASE).automatic == "Failure II"
    assert sorted(session.cases) == sorted(
        f"{scan}_desc-{method}" for scan in ("sub-00", "sub-x0001") for method in ("mri_deface", "quickshear")
    )


def test_an_image_made_anew_is_to_be_voted_again(tmp_path):
    session = Session(review_study.make(tmp_path, subjects=1))
    session.vote(CASE, "Ann", "Success", "")
    session.case(CASE).defaced.write_bytes(b"another image altogether")
    row = next(row for row in session.study("Ann")["cases"] if row[0] == CASE)
    assert row[5:] == [None, True]
    assert session.details(CASE, "Ann")["vote"] is None


def test_a_folder_that_is_no_study_is_one_line(tmp_path, capsys):
    assert main(["review", str(tmp_path), "--no-browser"]) == 2
    assert "is no study output" in capsys.readouterr().err
    out = review_study.make(tmp_path, subjects=0)
    with pytest.raises(InputError, match="no defaced scan of quickshear, mri_deface, pydeface"):
        find_cases(out)


def test_a_port_in_use_is_one_line(served, capsys):
    port = urlsplit(served[1].url).port
    assert main(["review", str(served[0]), "--no-browser", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"port {port} cannot be used" in said
    assert main(["review", str(served[0]), "--no-browser", "--port", "70000"]) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_it_well(tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    with review_study.serving(out) as (server, url):
        assert post(review_study.enter(url), a_vote())[0].status == 201
        server.send_signal(signal.SIGINT)
        said, complaints = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "1 votes of 3 cases" in said
    assert complaints == ""


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def table(path):
    return {(r["scan"], r["method"]): r for r in read_rows(path)}


def test_votes_go_into_the_table_as_the_group_level_writes_it(tmp_path):
    session = Session(review_study.make(tmp_path, subjects=1), blind=True)
    for name, verdict in (("Ann", "Failure II"), ("Bo", "Failure II"), ("Cy", "Success")):
        session.vote(CASE, name, verdict, "")
    for name, verdict in (("Ann", "Failure I"), ("Bo", "Success")):
        session.vote("sub-00_desc-pydeface", name, verdict, "")
    assert session.export() == "5 votes in qc.tsv and table1.tsv"
    path = session.out_dir / "qc.tsv"
    rows = table(path)
    manual = {key[1]: [row[name] for name in ("manual", "reviewers", "agreed")] for key, row in rows.items()}
    assert manual == {
        "mri_deface": ["Failure II", "3", "1"],
        "pydeface": ["tied", "2", "n/a"],
        "quickshear": ["n/a", "0", "n/a"],
    }
    before = path.read_bytes()
    write_quality(session.out_dir)
    assert path.read_bytes() == before
    session.refresh()  # and reads it back
    assert {case.method: case.automatic for case in session.cases.values()}["pydeface"] == "Failure I"


def test_a_scan_that_only_people_have_judged_has_its_row(tmp_path):
    session = Session(review_study.make(tmp_path, subjects=1, verdicts=False))
    session.vote(CASE, "Ann", "Success", "")
    session.export()
    rows = table(session.out_dir / "qc.tsv")
    assert list(rows) == [("sub-00", "mri_deface")]
    row = rows["sub-00", "mri_deface"]
    assert [row[n] for n in ("subject", "session", "verdict", "manual", "agreed")] == [
        "00",
        "n/a",
        "n/a",
        "Success",
        "n/a",
    ]
    counts = {(r["method"], r["source"]): r for r in read_rows(session.out_dir / "table1.tsv")}
    assert counts["all", "automatic"]["scans"] == "0"
    assert [counts["all", "manual"][name] for name in ("scans", "success", "agreement")] == ["1", "1", "n/a"]


def test_evidence_is_said_in_words():
    content = {
        "brain": {"failed": True, "damaged_ml": 1.25, "deepest_mm": 7.1, "where": "insula", "centre_mm": [1, 2, 3]},
        "face": {"failed": True, "changed": 0.4, "left": ["nose"], "features": {
            "nose": {"left": True, "changed": 0.02, "moved_mm": 0.1, "centre_mm": [0, 90, 0]},
            "left ear": {"left": False, "changed": 1.0, "moved_mm": 12.0}, "mouth": {"left": None, "changed": None}}},
    }  # fmt: skip
    lines = evidence.evidence_lines(content)
    assert lines[0] == evidence.Line("brain: 1.25 ml damaged, up to 7.1 mm deep, insula", True, (1.0, 2.0, 3.0))
    assert [line.failed for line in lines] == [True, False, True, False, False]
    assert lines[2].text == "nose: still there, 2% changed, moved 0.1 mm"
    assert lines[3].text == "left ear: gone, 100% changed, nothing near its place"
    assert lines[4].text == "mouth: not in the original"
    assert evidence.evidence_lines({"brain": "odd", "face": {"features": [1]}}) == []


def test_every_label_has_a_name_and_a_colour():
    table = label_colours()
    assert len(table["I"]) == 133
    assert len({len(column) for column in table.values()}) == 1
    assert all(0 <= c <= 255 for name in "RGB" for c in table[name])


def test_agreement_counts_only_what_both_judged_and_is_undefined_without_spread():
    a = {("s1", "m"): "Success", ("s2", "m"): "Failure I", ("s3", "m"): "Success"}
    b = {("s1", "m"): "Success", ("s2", "m"): "Success"}
    found = agreement({"Bo": b, "Ann": a}, {("s1", "m"): "Success"})
    assert [(p.a, p.b, p.cases, p.same) for p in found.pairs] == [
        ("Ann", "Bo", 2, 0.5),
        ("Ann", "automatic", 1, 1.0),
        ("Bo", "automatic", 1, 1.0),
    ]
    assert np.isnan(found.pairs[1].kappa)
    assert (found.raters, found.cases) == (2, 2)
    assert found.fleiss == pytest.approx(-1 / 3)
    assert agreement({}, {}).pairs == ()
    assert np.isnan(agreement({"Ann": a}, {}).fleiss)
    assert agreement({"Ann": a, "Bo": {}}, {}).pairs[0].cases == 0


def test_agreement_is_asked_from_the_server(served):
    found = json.loads(ask(served[1], "api/agreement")[1])
    assert {"pairs", "raters", "cases", "fleiss"} == set(found)
