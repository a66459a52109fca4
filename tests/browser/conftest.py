"""A headless Chromium, and a page of the report to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_results import MARKUP, fake_record, write_fakes

from ctbench import compare
from ctbench.reporting.page.html import write_report
from ctbench.results.format import result_from
from ctbench.results.writing import write_result


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three methods on two streams; one more method has markup for a name."""
    folder = tmp_path_factory.mktemp("report")
    write_fakes(folder / "results", seeds=3)
    write_fakes(folder / "results", methods=("replay",), seeds=5)
    write_fakes(folder / "results", methods=("naive", "replay"), seeds=2, stream="temporal")
    record = fake_record("naive", stream="temporal", seed=7)
    record["method"] |= {"name": MARKUP, "settings": {MARKUP: MARKUP}}
    record["findings"] = [{"code": "odd", "message": MARKUP}]
    write_result(result_from(record), folder / "results")
    return write_report(compare(folder / "results"), folder / "report.html")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium under Selenium, with its own profile; the test is skipped, with a reason, where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        stop = pytest.fail if os.environ.get("CTBENCH_BROWSER") == "required" else pytest.skip
        stop("no Chromium with its driver on this machine (apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    """The page, freshly loaded in a window of a desktop's size; what was logged before is forgotten."""
    browser.set_window_size(1300, 900)
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    return browser
