"""The report page as a file: whole, self-contained, and true to the results. What it does is tested in a browser."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from fake_results import fake_record, fake_result, with_matrix

from ctbench import compare
from ctbench.errors import BadConfig, MissingResult
from ctbench.reporting.page.html import render_report, write_report
from ctbench.reporting.plots.looks import COLOURS, looks_of
from ctbench.results.format import result_from
from ctbench.results.schema import Result

VOID = {"meta", "link", "br", "img", "input", "hr"}
RESULTS = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)]
JOINT = [fake_result("joint", seed=seed, shape="joint") for seed in range(3)]


class Outline(HTMLParser):
    """Collects what a page refers to, and makes sure that its elements are closed in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_page_refers_to_no_other_file() -> None:
    page = render_report(compare([*RESULTS, fake_result("naive", stream="temporal")]))
    outline = Outline(page)
    assert outline.open == []
    assert {name for name in outline.references if not name.startswith("#")} == {"data:,"}
    assert {"#group0", "#group1"} <= set(outline.references)
    assert {name[1:] for name in outline.references if name.startswith("#")} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)
    assert "default-src 'none'" in page
    assert not re.findall(r"https?://|@import|url\(", page)


def test_checker_finds_references_to_other_files() -> None:
    assert Outline("<p><img src='https://example.org/x.png'></p>").references == ["https://example.org/x.png"]
    with pytest.raises(AssertionError):
        Outline("<p><b></p></b>")


def test_page_holds_scores_matrices_settings_provenance_and_commands() -> None:
    page = render_report(compare([*RESULTS, *JOINT]))
    mean = np.mean([result.matrix for result in RESULTS[:3]], axis=0)
    for value in mean.ravel():
        assert f">{100 * value:.1f}</td>" in page
    for result in RESULTS:
        assert result.key in page
    assert page.count("ctbench run --method naive") == 3
    assert "the plan has no such cell" in page
    assert not re.search(r"\bnan\b", page), "the definition of a finding says NaN"


def test_page_holds_means_and_paired_differences() -> None:
    page = render_report(compare(RESULTS, metric="F_Acc"))
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])["group0"]
    first, second = (
        [r.metrics["F_Acc"] for r in RESULTS if r.method.name == data["labels"][place]] for place in (0, 1)
    )
    mean, low, high, n = data["pairs"]["0-1"][0]
    assert mean == pytest.approx(np.mean(np.array(first) - np.array(second)))
    assert low < mean < high
    assert n == 3


def test_plots_label_their_points_and_take_colours_from_css_variables() -> None:
    page = render_report(compare([*RESULTS, *JOINT]))
    plots = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)
    assert len(plots) == 5
    titles = re.findall(r"<title>(.+?)</title>", "".join(plots))
    last = 100 * np.mean([result.matrix[5] for result in RESULTS[:3]])
    assert f"naive, all domains, after stage 5: {last:.1f} %" in titles
    assert sum(title.startswith("naive: FWT_all ") for title in titles) == 1
    style = page.split("<style>")[1].split("</style>")[0]
    for shape in looks_of(compare([*RESULTS, *JOINT]).groups[0].entries):
        assert f"stroke:var(--line-{COLOURS.index(shape.colour)})" in style
    assert not re.findall(r"(?:fill|stroke): ?#", style.partition("media print")[2]), "every colour is a variable"
    assert not re.findall(r"style=", "".join(plots))


def test_the_page_shows_what_each_method_keeps_of_general_text_if_results_hold_it() -> None:
    def keeping(result: Result, *, by: float) -> Result:
        return dataclasses.replace(result, general_loss=tuple(2.0 + by * row for row in range(6)))

    shown = RESULTS[:3] + JOINT
    kept = [keeping(result, by=0.25) if result.method.name == "naive" else result for result in shown]
    page = render_report(compare(kept))
    plots = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)
    titles = [title for plot in plots for title in re.findall(r"<title>(.+?)</title>", plot) if "general text" in title]
    assert titles == [
        "naive, general text, untouched LM: 2.0000 nats",
        *(f"naive, general text, after stage {row}: {2 + row / 4:.4f} nats" for row in range(1, 6)),
    ]
    entries = [each.label for each in sorted(compare(kept).groups[0].entries, key=lambda entry: entry.label)]
    line = next(plot for plot in plots if "general text, after stage 5" in plot)
    assert f'class="entry e{entries.index("naive")}"' in line, "pointing at a method highlights its line"
    assert "general text, " not in render_report(compare(shown))


def test_rows_carry_their_traits_and_lead_to_the_runs_and_commands_of_their_method() -> None:
    record = fake_record("keeper")
    record["method"]["traits"] = {"stores_text": True, "needs_domain": False, "grows": True}
    page = render_report(compare([result_from(record), *RESULTS[:3]]))
    rows = re.findall(r'<tr data-traits="([^"]*)">.*?<th scope="row"><a href="#([^"]+)">(.*?)</a>', page, re.DOTALL)
    assert {(traits, name) for traits, _, name in rows} == {("stores_text grows", "keeper"), ("", "naive")}
    assert len(rows) == 4, "two rows of scores and two of losses"
    for traits, target, name in rows:
        block = page.split(f'<details id="{target}" data-traits="{traits}">')[1].split("</details>")[0]
        assert f"<b>{name}</b>" in block
        assert f"ctbench run --method {name}" in block
    assert '<section id="group0" data-stream="domain" data-model="tiny">' in page
    assert '<option value="-stores_text">that store no text</option>' in page
    assert '<form class="filters" hidden>' in page, "without scripts there is nothing to choose"


def test_methods_without_forgetting_have_no_plot_of_it() -> None:
    assert render_report(compare(JOINT, metric="F_Acc")).count('<svg class="chart"') == 4


def test_page_names_hidden_runs_and_marks_partial_means() -> None:
    record = fake_record("naive")
    record = with_matrix(
        record,
        [
            [None if (row, column) == (2, 0) else score for column, score in enumerate(scores)]
            for row, scores in enumerate(record["matrix"])
        ],
    )
    results = [*RESULTS[3:], result_from(record), fake_result("other", changed={"pretrain.lr": 1}, protocol="1" * 16)]
    page = render_report(compare(results))
    assert "1 run hidden (not comparable: pretrain.lr was set)" in page
    assert "≈" not in page
    assert "≈" in render_report(compare(results, partial=True))


def test_many_methods_fit_into_the_page() -> None:
    page = render_report(compare([fake_result(f"m{index}") for index in range(17)]))
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])["group0"]
    assert data["pairs"] == {}, "too many pairs for a page; its script says so"
    assert len(data["matrices"]) == 17


def test_page_is_deterministic_and_written_atomically(tmp_path: Path) -> None:
    path = write_report(compare(RESULTS), tmp_path / "x.html")
    first = path.read_bytes()
    assert write_report(compare(RESULTS), path).read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.html"]
    with pytest.raises(BadConfig, match="cannot be written"):
        write_report(compare(RESULTS), path / "below.html")


def test_report_without_comparable_results_is_rejected() -> None:
    with pytest.raises(MissingResult, match="--all"):
        render_report(compare([fake_result("naive", changed={"pretrain.lr": 1}, protocol="1" * 16)]))


def test_page_holds_navigation_folds_losses_names_and_bands() -> None:
    page = render_report(compare(RESULTS))
    for part in ("leaderboard", "plots", "matrices", "losses", "duel", "runs"):
        assert f'<a href="#group0-{part}">' in page
        assert f'<details class="fold" id="group0-{part}" open>' in page
    assert "learned ↓" in page
    assert page.count('class="band e') == 3 * len({result.method.name for result in RESULTS})
    scatter = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)[-1]
    assert ">naive</text>" in scatter
    many = [fake_result(f"method{index}", seed=seed) for index in range(13) for seed in range(2)]
    assert 'class="band e' not in render_report(compare(many)), "thirteen bands are a knot"


def test_the_style_sheet_has_every_colour_of_a_line_in_both_schemes() -> None:
    css = files("ctbench.reporting.page").joinpath("report.css").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--line-(\d+): (#[0-9a-f]{6})", part)) for part in css.split("prefers-color-scheme: dark")
    )
    assert [light[str(index)] for index in range(len(COLOURS))] == list(COLOURS)
    assert set(dark) == set(light)
    assert not set(dark.values()) & set(light.values())
