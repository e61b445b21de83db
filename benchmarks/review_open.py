"""Seconds until the review page of a large study can be used: ``python benchmarks/review_open.py [SCANS]``.

A study of phantoms with six methods is laid out in a temporary folder (files of all scans are links to those of one).
Measured: the request for the whole list, the page in Chromium from its address to the list in sight, and the time of a
frame while the list scrolls from top to bottom. Needs chromium and chromedriver.
"""

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
import chromium
import review_study

REPEATS = 5
SCROLL = """
const [done] = arguments, list = document.getElementById('list'), times = [];
let last = performance.now();
const step = (now) => {
  times.push(now - last); last = now;
  list.scrollTop += list.scrollHeight / 120;
  if (times.length < 120) requestAnimationFrame(step); else done(times.slice(1));
};
requestAnimationFrame(step);
"""


def main(scans: int = 1000) -> None:
    review_study.METHODS = ("quickshear", "mri_deface", "pydeface", "defacer", "fsl_deface", "mri_reface")
    for method in review_study.METHODS:
        review_study.VERDICTS.setdefault(method, ("Success", 0.1))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = review_study.make(Path(folder) / "study", subjects=1)
        review_study.multiply(out, scans)
        with (
            review_study.serving(out, "--reviewer", "Ann") as (server, url),
            chromium.browser(Path(folder) / "p") as driver,
        ):
            asked, opened = [], []
            door = review_study.enter(url)
            url = review_study.next_address(server)
            driver.get(url)
            url = door.url
            for _ in range(REPEATS):
                start = time.perf_counter()
                request = urllib.request.Request(f"{url}api/study?reviewer=Ann", headers={"Cookie": door.cookie})
                with urllib.request.urlopen(request) as answer:
                    cases = len(json.loads(answer.read())["cases"])
                asked.append(time.perf_counter() - start)
                driver.get("about:blank")
                start = time.perf_counter()
                driver.get(url)
                while not driver.execute_script("return document.querySelectorAll('.row').length"):
                    time.sleep(0.005)
                opened.append(time.perf_counter() - start)
            frames = driver.execute_async_script(SCROLL)
    print(f"{scans} scans, {cases} cases")
    for what, times in (("list from the server", asked), ("page open, list in sight", opened)):
        print(f"{what:26} median {np.median(times):.2f} s, slowest {max(times):.2f} s of {len(times)}")
    print(f"{'frame while scrolling':26} median {np.median(frames):.0f} ms, 95% {np.percentile(frames, 95):.0f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
