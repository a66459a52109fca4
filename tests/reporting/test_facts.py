"""Facts kept, changed and new in tables: means worked out by hand, gaps, and nothing where there are none."""

from __future__ import annotations

import math

import pytest
from fake_results import fake_record, fake_result

from ctbench import compare
from ctbench.reporting.facts import fact_means, facts_of
from ctbench.reporting.page.html import render_report
from ctbench.reporting.summary import describe
from ctbench.results.format import result_from

KEPT = [[0.1, 0.2], [0.9, 0.3], [0.5, 0.7]]
CHANGED = [[None, 0.0], [None, 0.25], [None, 1.0]]


def with_facts(seed=0, *, num_seeds=2, shift=0.0):
    """A run on two periods; the first period has no changed word, and both fine-tuning seeds share each cell."""
    record = fake_record("naive", stream="temporal", num_tasks=2, seed=seed, num_seeds=num_seeds)
    for cell in record["cells"]:
        row, column = cell["row"], record["stream"]["domains"].index(cell["domain"])
        cell["metrics"]["accuracy_kept"] = KEPT[row][column] + shift
        if CHANGED[row][column] is not None:
            cell["metrics"]["accuracy_changed"] = CHANGED[row][column]
    return result_from(record)


def test_facts_are_averaged_by_hand():
    found = fact_means(with_facts())
    expected = {
        ("row 0", "kept"): 0.15,
        ("own row", "kept"): (0.9 + 0.7) / 2,
        ("last row", "kept"): 0.6,
        ("row 0", "changed"): 0.0,
        ("own row", "changed"): 1.0,
        ("last row", "changed"): 1.0,
    }
    assert found == pytest.approx(expected)
    assert math.isnan(facts_of(with_facts())["changed"][2, 0])


def test_show_has_a_table_of_facts_where_a_result_has_them():
    titles = [table.title for table in describe(with_facts())]
    assert titles[1] == "Facts known, %: words kept / changed"
    table = list(describe(with_facts()))[1]
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [
        ["10.0 / –", "20.0 / 0.0"],
        ["90.0 / –", "30.0 / 25.0"],
        ["50.0 / –", "70.0 / 100.0"],
    ]
    assert not any("Facts" in each.title for each in describe(fake_result("naive")))


def test_the_page_has_a_row_of_facts_for_each_method_and_no_such_part_without_facts():
    page = render_report(compare([with_facts(0), with_facts(1, shift=0.02)]))
    part = page.split('id="group0-facts"')[1].split("</details>")[0]
    assert '<a href="#group0-facts">Facts</a>' in page
    assert "last row: kept % ↑" in part
    assert ": new % ↑" not in part
    assert ">61.0</td>" in part, "mean over both runs: 60 and 62"
    assert "group0-facts" not in render_report(compare([fake_result("naive", seed=seed) for seed in range(2)]))
