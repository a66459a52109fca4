"""The site of docs/ builds without a warning and needs no network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import markupsafe
import pytest
from build_docs import REPORT, ROOT, add_report, build

from ctbench import compare
from ctbench.reporting.page.html import render_report
from ctbench.reporting.reproduce import command_line

pytest.importorskip("zensical")
pytest.importorskip("mkdocstrings")
pytestmark = pytest.mark.slow  # `make docs`, too, stops at the first warning


def copy(folder: Path) -> Path:
    for part in ("docs", "ctbench", "results"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = copy(tmp_path_factory.mktemp("site"))
    assert build(folder) == []
    return folder / "site"


def test_every_page_is_in_the_site_and_its_navigation(site):
    wanted = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    wanted.add(REPORT)
    assert {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"} == wanted
    home = (site / "index.html").read_text(encoding="utf-8")
    linked = {address.removeprefix("./") for address in re.findall(r'href="([^"#]+)', home)}
    assert wanted - linked == set()


def test_pages_load_nothing_from_a_network(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"", text)
        assert [address for pair in loaded for address in pair if address.startswith(("http:", "https:", "//"))] == []


def test_the_report_of_the_committed_results_is_a_page_that_links_back(site):
    """What its filters and links do is tested in tests/reporting/page and, in a browser, in tests/browser."""
    text = (site / REPORT).read_text(encoding="utf-8")
    comparison = compare(ROOT / "results")
    assert comparison.groups
    for group in comparison.groups:
        assert markupsafe.escape(group.title) in text
        for result in group.results:
            assert f'<code class="run-key">{result.key}</code>' in text
            assert f"<code>{markupsafe.escape(command_line(result))}</code>" in text
    for name, values in {
        "stream": {group.results[0].stream.name for group in comparison.groups},
        "model": {group.results[0].backbone.name for group in comparison.groups},
    }.items():
        options = text.split(f'<select name="{name}">')[1].split("</select>")[0]
        assert set(re.findall(r"<option>([^<]+)</option>", options)) == values
    assert '<select name="trait">' in text
    assert '<a href="results.html">← Results</a>' in text
    assert f'href="./{REPORT}"' in (site / "results.html").read_text(encoding="utf-8")


def test_links_of_the_report_stay_in_the_site(site):
    text = (site / REPORT).read_text(encoding="utf-8")
    addresses = {address for address in re.findall(r'href="([^"]+)"', text) if not address.startswith(("#", "data:"))}
    assert addresses == {"results.html"}
    assert all((site / address).is_file() for address in addresses)
    assert 'href="results.html"' not in render_report(compare(ROOT / "results", stream="domain"))


def test_results_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "site").mkdir()
    assert [line.partition(":")[0] for line in add_report(tmp_path)] == ["results"]
    broken = tmp_path / "results" / "domain" / "tiny" / "naive" / "broken.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{", encoding="utf-8")
    (line,) = add_report(tmp_path)
    assert "broken.json" in line
    assert not (tmp_path / "site" / REPORT).exists()


def test_api_is_read_from_the_docstrings(site):
    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in ("ctbench.run", "ctbench.Method.loss", "ctbench.Stage"):
        assert f'id="{name}"' in text


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("[x](nowhere.md)", "docs/promises.md:3: page does not exist: nowhere.md"),
        ("[x](speed.md#nowhere)", "docs/promises.md:3: anchor does not exist: nowhere"),
    ],
)
def test_a_broken_link_is_one_line_with_its_place(wrong, line, tmp_path):
    page = copy(tmp_path) / "docs" / "promises.md"
    page.write_text(f"# Promises\n\n{wrong}\n", encoding="utf-8")
    assert build(tmp_path) == [line]
