"""Draw the picture of the review page: ``make_review_picture.py STUDY [CASE]``, after ``efface demo``.

STUDY is the output of a study of the demo cohort, whose people do not exist (``efface-demo/efface``); never give it a
study of people. Needs Chromium and its driver, and selenium (``pip install '.[test]'``).
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

SIZE_PX = (1400, 900)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)  # the processor draws
PICTURE = Path(__file__).parents[2] / "docs/pictures" / "review.png"
PATIENCE_S, SETTLE_S = 180, 5


def main(study: str, case: str = "") -> None:
    command = [sys.executable, "-m", "efface.cli", "review", study, "--no-browser", "--reviewer", "Ann"]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size={},{}".format(*SIZE_PX)):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            driver.get(server.stdout.readline().split()[1])  # works once, and leads on to the page
            while not driver.execute_script("return document.body?.dataset.ready"):
                time.sleep(0.1)
            driver.get(f"{driver.current_url.partition('#')[0]}#{case}")
            driver.refresh()
            end = time.monotonic() + PATIENCE_S
            shown = "return document.body.dataset.loaded && document.getElementById('face-after').naturalWidth"
            while not driver.execute_script(shown) and time.monotonic() < end:
                time.sleep(0.5)
            for view in driver.find_elements(By.CSS_SELECTOR, "#views button[data-view='three_quarter_left']"):
                view.click()
            time.sleep(SETTLE_S)
            driver.save_screenshot(str(PICTURE))
        finally:
            driver.quit()
            server.kill()
    picture = Image.open(PICTURE).convert("RGB")
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {picture.width} x {picture.height}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
