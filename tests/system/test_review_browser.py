"""The review page in a real browser: votes by keyboard survive reload, kill and restart; a thousand scans scroll."""

import os
import signal
import time
from pathlib import Path

import pytest

import chromium
import review_study
from efface.bids.derivatives import UnitPaths
from efface.study.ratings import current_ratings, read_ratings

pytestmark = pytest.mark.skipif(bool(chromium.why_not()), reason=chromium.why_not() or "-")
PATIENCE_S = 60.0
ARROW_UP, ENTER = "\ue013", "\ue007"
VERDICTS = {"1": "Success", "2": "Failure I", "3": "Failure II"}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Without WebGL: lists and votes work all the same, and at once."""
    with chromium.browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("profile"), webgl=True, size_px=(900, 640)) as driver:
        yield driver


class Page:
    """What a reviewer sees and presses."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get("about:blank")
        driver.get(url)
        self.wait("document.body?.dataset.ready")  # the first page leads on to another

    def js(self, expression):
        return self.driver.execute_script(f"return {expression}")

    def wait(self, expression):
        end = time.monotonic() + PATIENCE_S
        while not (value := self.js(expression)):
            if time.monotonic() > end:
                state = self.js("[document.body.innerText, JSON.stringify(document.body.dataset)]")
                raise AssertionError(f"never true: {expression}\n{state}\n{self.driver.get_log('browser')}")
            time.sleep(0.05)
        return value

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def text(self, element):
        return self.js(f"document.getElementById('{element}').textContent")

    @property
    def case(self):
        return (self.text("case"), self.text("case-about").split(" · ")[0])

    def ready_to_vote(self):
        self.wait("document.getElementById('automatic').childElementCount")

    def loaded(self):
        self.wait("document.body?.dataset.loaded")

    def errors(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_whole_study_is_voted_by_keyboard_and_nothing_is_lost(driver, tmp_path):
    out = review_study.make(tmp_path, subjects=2)
    given = {}
    with review_study.serving(out, "--reviewer", "Ann") as (server, url):
        page = Page(driver, url)
        for number, key in enumerate("312123"):
            page.ready_to_vote()
            case = page.case
            assert case not in given
            given[case] = VERDICTS[key]
            if number == 0:
                page.press("n", *"<b>odd</b> note", ENTER)
            page.press(key)
            page.wait(f"document.getElementById('count').textContent.startsWith('{number + 1} of 6')")
        page.wait("document.getElementById('saved').textContent.includes('all cases are voted')")
        driver.refresh()
        page.wait("document.getElementById('count').textContent.startsWith('6 of 6')")
        page.ready_to_vote()
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        page.press("2")
        page.wait("document.getElementById('alert').textContent.includes('not saved')")
    assert {vote.case: vote.verdict for vote in current_ratings(out)} == given
    with review_study.serving(out, "--reviewer", "Ann") as (_, url):
        page = Page(driver, url)
        page.wait("document.getElementById('count').textContent.startsWith('6 of 6')")
        rows = page.js("[...document.querySelectorAll('.row')].map(r => [...r.children].map(c => c.innerText))")
        assert {(scan, method): marks.split()[-1] for scan, method, marks in rows} == {
            case: verdict.split()[-1] for case, verdict in given.items()
        }
    assert [v.note for v in read_ratings(out).ratings if v.note] == ["<b>odd</b> note"]
    assert read_ratings(out).broken == 0


def test_images_overlays_and_faces_are_drawn_and_nothing_comes_from_elsewhere(viewer, tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    with review_study.serving(out, "--reviewer", "Ann") as (_, url):
        page = Page(viewer, url)
        page.loaded()
        drawn = {"edit": lit_colours(page)}
        page.press("e")
        page.wait("document.getElementById('edit').getAttribute('aria-pressed') === 'false'")
        drawn["plain"] = lit_colours(page)
        page.press("s")
        page.wait("window.effaceReview.viewer.images.after.labels && window.effaceReview.viewer.images.before.labels")
        drawn["labels"] = lit_colours(page)
        page.press("s", " ")
        page.wait("document.getElementById('tag').textContent === 'BEFORE'")
        drawn["before"] = lit_colours(page)
        assert len(set(drawn.values())) == 4, drawn
        assert not drawn["plain"][1]  # grey
        assert drawn["edit"][1]
        assert drawn["labels"][1]
        assert drawn["before"][0] > drawn["plain"][0]  # the face is there
        place = page.text("place")
        page.press(ARROW_UP)
        page.wait(f"document.getElementById('place').textContent !== {place!r}")
        page.wait("document.getElementById('face-before').naturalWidth")
        hosts = page.js("performance.getEntriesByType('resource').map(e => new URL(e.name).host)")
        assert {h for h in hosts if h} == {url.split("/")[2]}
        assert url.split("/")[-1] not in viewer.current_url  # the ticket has left the address bar and cannot be sent on
        assert page.js("document.referrer") == ""
        assert page.js("document.cookie") == ""  # no script can read the cookie
        assert page.errors() == []


def test_votes_by_keyboard_while_images_are_drawn(viewer, tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    with review_study.serving(out, "--reviewer", "Ann") as (_, url):
        page = Page(viewer, url)
        for number, key in enumerate("123"):
            page.ready_to_vote()
            page.loaded()
            page.press(key)
            page.wait(f"document.getElementById('count').textContent.startsWith('{number + 1} of 3')")
        assert page.errors() == []
    assert sorted(vote.verdict for vote in current_ratings(out)) == sorted(VERDICTS.values())


def lit_colours(page):
    """How many pixels of the visible canvas are lit, and whether any has a colour beyond the crosshair's."""
    time.sleep(0.3)
    canvas = "document.querySelector('#stage canvas:not(.off)')"
    script = f"""(() => {{
      const copy = document.createElement('canvas');
      copy.width = 200; copy.height = 200;
      const context = copy.getContext('2d');
      const side = window.effaceReview.viewer.side;
      side.drawScene();
      context.drawImage({canvas}, 0, 0, 200, 200);
      const data = context.getImageData(0, 0, 200, 200).data;
      let lit = 0, coloured = 0;
      for (let i = 0; i < data.length; i += 4) {{
        if (data[i] + data[i + 1] + data[i + 2] > 60) lit += 1;
        if (data[i] > data[i + 2] + 40) coloured += 1;
      }}
      return [lit, coloured > 30];
    }})()"""
    return tuple(page.js(script))


def test_blind_hides_the_verdict_until_the_vote(driver, tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    with review_study.serving(out, "--reviewer", "Bo", "--blind") as (_, url):
        page = Page(driver, url)
        page.ready_to_vote()
        assert page.text("automatic") == "hidden until you vote"
        assert page.js("document.querySelectorAll('.badge.auto').length") == 0
        method = page.case[1]
        page.js("document.getElementById('advance').click()")
        page.press("1")
        page.wait("document.getElementById('saved').textContent === 'saved'")
        assert review_study.VERDICTS[method][0] in page.text("automatic")


def test_two_reviewers_at_one_server_lose_nothing(driver, tmp_path):
    out = review_study.make(tmp_path / "study", subjects=2)
    with (
        review_study.serving(out, "--blind") as (server, url),
        chromium.browser(tmp_path / "profile") as other,
    ):
        pages = []
        for one, name in ((driver, "Ann"), (other, "Zoë <i>")):
            one.get("about:blank")
            one.execute_script("window.name = ''")
            page = Page.__new__(Page)
            page.driver = one
            one.get(url)
            page.wait("document.getElementById('name')")
            url = review_study.next_address(server)
            one.execute_script("sessionStorage.clear()")
            one.refresh()
            page.wait("document.getElementById('name').open")
            page.press(*name, ENTER)
            page.wait("document.body?.dataset.ready")
            pages.append(page)
        for number in range(6):
            for page, key in zip(pages, "12", strict=True):
                page.ready_to_vote()
                page.press(key)
            for page in pages:
                page.wait(f"document.getElementById('count').textContent.startsWith('{number + 1} of 6')")
        pages[1].press("a")
        pages[1].wait("document.getElementById('agreement').open")
        shown = pages[1].text("agreement-body")
        assert "Ann, Zoë <i>" in shown
        assert "Fleiss' kappa of 2 reviewers on the 6 cases" in shown
    votes = current_ratings(out)
    assert len(votes) == 12
    assert {v.reviewer: {w.verdict for w in votes if w.reviewer == v.reviewer} for v in votes} == {
        "Ann": {"Success"},
        "Zoë <i>": {"Failure I"},
    }


def test_a_thousand_scans_open_and_scroll(driver, tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    review_study.multiply(out, 1000)
    with review_study.serving(out, "--reviewer", "Ann") as (_, url):
        page = Page(driver, url)
        assert page.js("document.body.dataset.ready") == "3000"
        assert page.js("document.querySelectorAll('.row').length") < 60
        page.js("document.getElementById('list').scrollTo(0, 1e9)")
        page.wait("[...document.querySelectorAll('.row')].at(-1).dataset.index === '2999'")
        assert page.js("document.querySelectorAll('.row').length") < 60


def test_who_scrolls_while_the_first_case_loads_is_not_thrown_back(driver, tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    review_study.multiply(out, 100)
    hasty = "new MutationObserver(() => document.getElementById('list')?.scrollTo(0, 1e9)).observe(document, {"
    hasty += "subtree: true, attributes: true, attributeFilter: ['data-ready']});"
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hasty})
    try:
        with review_study.serving(out, "--reviewer", "Ann") as (_, url):
            page = Page(driver, url)
            page.ready_to_vote()
            page.wait("[...document.querySelectorAll('.row')].at(-1).dataset.index === '299'")
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_scan_whose_original_is_gone_is_shown_defaced_only(viewer, tmp_path):
    out = review_study.make(tmp_path, subjects=1)
    for path in Path(tmp_path / "bids").rglob("*.nii.gz"):
        path.unlink()
    paths = UnitPaths(out, "00", None, "sub-00")
    assert paths.defaced("pydeface").is_file()
    paths.brain().unlink()
    with review_study.serving(out, "--reviewer", "Ann") as (_, url):
        page = Page(viewer, url)
        page.loaded()
        assert page.js("document.getElementById('before').disabled")
        assert not page.js("document.getElementById('labels').disabled")
        page.press(" ")
        assert page.text("tag") == "AFTER"
        page.press("b")
        assert page.js("document.getElementById('brain').disabled")
        assert page.js("document.getElementById('brain').getAttribute('aria-pressed')") == "false"
