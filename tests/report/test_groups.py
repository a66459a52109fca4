"""What may share a table: runs that are not comparable never do so silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_results import digest, fake_record, fake_result

from ctbench.report.compare import compare
from ctbench.result_format import result_from
from ctbench.schema import Result


def other(part: str, **values: Any) -> Result:
    record = fake_record("replay")
    changed = record[part] | values if isinstance(record[part], dict) else values[part]
    return result_from(record | {part: changed})


APART: dict[str, tuple[Callable[[], Result], str]] = {
    "protocol": (lambda: fake_result("replay", protocol="0" * 16), "another protocol"),
    "precision": (lambda: fake_result("replay", precision="fp32"), "precision fp32 instead of bf16"),
    "backbone": (lambda: other("backbone", name="big", digest=digest("big")), "backbone big instead of tiny"),
    "weights": (lambda: other("backbone", digest=digest("edited")), "other weights of tiny"),
    "metric": (
        lambda: other("stream", metric=fake_record()["stream"]["metric"] | {"garden": "macro_f1"}),
        "metric of garden macro_f1 instead of accuracy",
    ),
    "stream version": (lambda: other("stream", version=2), "stream version 1 instead of 2"),
}


@pytest.mark.parametrize("name", APART)
def test_what_differs_stands_in_a_table_of_its_own_that_says_why(name: str) -> None:
    make, why = APART[name]
    found = compare([fake_result("naive"), fake_result("naive", seed=1), make()])
    assert [[row.entry.name for row in board.rows] for board in found.boards].count(["naive"]) == 1
    assert len(found.boards) == 2
    assert f"a table of its own: {why}" in found.tables()[1].title
    assert " — " not in found.tables()[0].title
    assert found.record()["tables"][1]["why_apart"] == [why]


def test_one_protocol_is_one_table() -> None:
    found = compare([fake_result("naive"), fake_result("replay")])
    assert len(found.boards) == 1
    assert found.hidden == ()


def test_streams_have_tables_of_their_own() -> None:
    found = compare([fake_result("naive", stream="temporal"), fake_result("naive", stream="domain")])
    assert [board.group.results[0].stream.name for board in found.boards] == ["domain", "temporal"]
    assert [board.group.why for board in found.boards] == [(), ()]


def test_a_changed_protocol_is_hidden_with_a_line_and_shown_apart_on_request() -> None:
    results = [fake_result("naive"), fake_result("replay", changed={"pretrain.tokens": 5}, protocol="1" * 16)]
    found = compare(results)
    assert [row.entry.label for row in found.boards[0].rows] == ["naive"]
    assert found.hidden == ("1 run hidden (not comparable: pretrain.tokens was set); ctbench compare --all shows them",)
    shown = compare(results, all=True)
    assert shown.hidden == ()
    assert "pretrain.tokens was set" in shown.tables()[1].title
    assert [row.entry.label for row in shown.boards[1].rows] == ["replay"]


def test_an_unregistered_method_is_hidden_and_marked_where_it_is_asked_for() -> None:
    results = [fake_result("naive"), fake_result("mine", registered=False)]
    assert compare(results).hidden == (
        "1 run hidden (not comparable: method mine is not registered); ctbench compare --all shows them",
    )
    for found in (compare(results, all=True), compare(results, method=["naive", "mine"])):
        (table,) = found.tables()
        assert sorted(row[1].text for row in table.rows) == ["mine †", "naive"]
        assert "† a method of a file of its own, not registered" in table.notes


def test_an_unregistered_stream_says_so() -> None:
    (table,) = compare([other("stream", registered=False)]).tables()
    assert "(unregistered stream)" in table.title


def test_settings_of_a_method_make_rows_of_their_own() -> None:
    results = [fake_result("hyperprompt", seed=seed) for seed in range(2)]
    results += [fake_result("hyperprompt", seed=seed, changed={"method.agree_weight": 9.0}) for seed in range(2)]
    (board,) = compare(results).boards
    assert sorted(row.entry.label for row in board.rows) == ["hyperprompt", "hyperprompt (agree_weight=9.0)"]
    assert [len(row.entry.results) for row in board.rows] == [2, 2]


def test_versions_of_a_method_do_not_share_a_row() -> None:
    results = [fake_result("replay"), other("method", version=2)]
    (board,) = compare(results).boards
    assert sorted(row.entry.label for row in board.rows) == ["replay (v1)", "replay (v2)"]


def test_an_edited_method_does_not_share_a_row_with_what_it_was() -> None:
    (board,) = compare([fake_result("replay"), other("method", digest="abcdef99")]).boards
    assert any("source abcdef" in row.entry.label for row in board.rows)


def test_the_newest_of_several_results_of_one_run_is_shown_and_told() -> None:
    record = fake_record("naive")
    later = record | {"key": "f" * 64, "provenance": record["provenance"] | {"date": "2027-01-01"}}
    later["matrix"] = [[value + 0.01 for value in row] for row in record["matrix"]]
    for results in ([record, later], [later, record]):
        (board,) = compare([result_from(each) for each in results]).boards
        assert next(iter(board.rows[0].entry.results.values())).key == "f" * 64
        assert any("several results with different numbers; the newest, ffffffffffff" in note for note in board.notes)
    (board,) = compare([result_from(record), result_from(record)]).boards
    assert not any("several results" in note for note in board.notes)


def test_only_what_is_asked_for_is_shown() -> None:
    results = [
        fake_result(method, stream=stream) for method in ("naive", "replay") for stream in ("domain", "temporal")
    ]
    found = compare(results, stream="temporal", method=["replay"])
    assert [(b.group.results[0].stream.name, [r.entry.name for r in b.rows]) for b in found.boards] == [
        ("temporal", ["replay"])
    ]
