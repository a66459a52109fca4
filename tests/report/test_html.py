"""The report page as a file: whole, self-contained, and true to the results. What it does is tested in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_results import fake_record, fake_result

from ctbench.errors import BadConfig, MissingResult
from ctbench.report.compare import compare
from ctbench.report.html import render_report, write_report
from ctbench.result_format import result_from

VOID = {"meta", "link", "br", "img", "input", "hr", "line", "path", "polyline"}
RESULTS = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)]
JOINT = [fake_result("joint", seed=seed, shape="joint") for seed in range(3)]


class Outline(HTMLParser):
    """Collects what a page refers to, and makes sure that its elements are closed in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_refers_to_nothing_outside_of_itself() -> None:
    page = render_report(compare([*RESULTS, fake_result("naive", stream="temporal")]))
    outline = Outline(page)
    assert outline.open == []
    assert set(outline.references) == {"data:,", "#group0", "#group1"}
    assert "default-src 'none'" in page
    assert not re.findall(r"https?://|@import|url\(", page)


def test_the_checker_would_find_what_is_outside() -> None:
    assert Outline("<p><img src='https://example.org/x.png'></p>").references == ["https://example.org/x.png"]
    with pytest.raises(AssertionError):
        Outline("<p><b></p></b>")


def test_the_page_holds_scores_matrices_settings_provenance_and_commands() -> None:
    page = render_report(compare([*RESULTS, *JOINT]))
    mean = np.mean([result.matrix for result in RESULTS[:3]], axis=0)
    for value in mean.ravel():
        assert f">{100 * value:.1f}</td>" in page
    for result in RESULTS:
        assert result.key in page
    assert page.count("ctbench run --method naive") == 3
    assert "no such cell in this plan" in page
    assert not re.search(r"\bnan\b", page), "the definition of a finding says NaN"


def test_the_data_of_the_page_are_means_and_paired_differences() -> None:
    page = render_report(compare(RESULTS, metric="F_Acc"))
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])["group0"]
    first, second = (
        [r.metrics["F_Acc"] for r in RESULTS if r.method.name == data["labels"][place]] for place in (0, 1)
    )
    mean, low, high, n = data["pairs"]["0-1"][0]
    assert mean == pytest.approx(np.mean(np.array(first) - np.array(second)))
    assert low < mean < high
    assert n == 3


def test_the_page_says_what_is_hidden_and_what_is_partial() -> None:
    record = fake_record("naive")
    record["matrix"][2][0] = None
    results = [*RESULTS[3:], result_from(record), fake_result("other", changed={"pretrain.lr": 1}, protocol="1" * 16)]
    page = render_report(compare(results))
    assert "1 run hidden (not comparable: pretrain.lr was set)" in page
    assert "≈" not in page
    assert "≈ " in render_report(compare(results, partial=True))


def test_many_methods_fit_into_the_page() -> None:
    page = render_report(compare([fake_result(f"m{index}") for index in range(17)]))
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])["group0"]
    assert data["pairs"] == {}, "too many pairs for a page; its script says so"
    assert len(data["matrices"]) == 17


def test_the_page_is_the_same_every_time_and_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_report(compare(RESULTS), tmp_path / "x.html")
    first = path.read_bytes()
    assert write_report(compare(RESULTS), path).read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.html"]
    with pytest.raises(BadConfig, match="cannot be written"):
        write_report(compare(RESULTS), path / "below.html")


def test_nothing_comparable_is_told_in_one_line() -> None:
    with pytest.raises(MissingResult, match="--all"):
        render_report(compare([fake_result("naive", changed={"pretrain.lr": 1}, protocol="1" * 16)]))
