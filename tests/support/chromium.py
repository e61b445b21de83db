"""A real Chromium for tests, where there is one; the .ci/run script installs it where it can."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WEBGL, NO_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader"), ("--disable-gpu", "--disable-3d-apis")


def why_not() -> str:
    """Why there can be no browser here; empty if there can."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "needs chromium and chromedriver on PATH (Debian: apt-get install chromium chromium-driver)"
    return ""


@contextmanager
def browser(profile: Path, *, webgl: bool = False, size_px: tuple[int, int] = (1200, 640)) -> Iterator["object"]:
    """A headless browser with a profile of its own; WebGL is drawn by the processor, which takes seconds."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        *FLAGS,
        *(WEBGL if webgl else NO_WEBGL),
        f"--user-data-dir={profile}",
        "--window-size={},{}".format(*size_px),
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
