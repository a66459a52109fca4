"""The site of docs/ builds without a warning and needs no network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from build_docs import ROOT, build

pytest.importorskip("zensical")
pytest.importorskip("mkdocstrings")


def copy(folder: Path) -> Path:
    for part in ("docs", "ctbench"):
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
    assert {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"} == wanted
    home = (site / "index.html").read_text(encoding="utf-8")
    linked = {address.removeprefix("./") for address in re.findall(r'href="([^"#]+)', home)}
    assert wanted - linked == set()


def test_pages_load_nothing_from_a_network(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"", text)
        assert [address for pair in loaded for address in pair if address.startswith(("http:", "https:", "//"))] == []


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
