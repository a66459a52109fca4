"""What may share a table: runs that are not comparable never do so silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_results import agreeing, digest, fake_record, fake_result

from ctbench import compare
from ctbench.results.format import result_from
from ctbench.results.schema import Result


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
def test_runs_that_differ_have_a_separate_table_that_says_why(name: str) -> None:
    make, why = APART[name]
    found = compare([fake_result("naive"), fake_result("naive", seed=1), make()])
    assert [[row.entry.name for row in board.rows] for board in found.boards].count(["naive"]) == 1
    assert len(found.boards) == 2
    assert f"separate table: {why}" in found.tables()[1].title
    assert " — " not in found.tables()[0].title
    assert found.record()["tables"][1]["why_apart"] == [why]


def test_one_protocol_is_one_table() -> None:
    found = compare([fake_result("naive"), fake_result("replay")])
    assert len(found.boards) == 1
    assert found.hidden == ()


def test_each_stream_has_its_own_table() -> None:
    found = compare([fake_result("naive", stream="temporal"), fake_result("naive", stream="domain")])
    assert [board.group.results[0].stream.name for board in found.boards] == ["domain", "temporal"]
    assert [board.group.why for board in found.boards] == [(), ()]


def test_changed_protocol_is_hidden_with_a_line_and_shown_separately_with_all() -> None:
    results = [fake_result("naive"), fake_result("replay", changed={"pretrain.tokens": 5}, protocol="1" * 16)]
    found = compare(results)
    assert [row.entry.label for row in found.boards[0].rows] == ["naive"]
    assert found.hidden == ("1 run hidden (not comparable: pretrain.tokens was set); ctbench compare --all shows them",)
    shown = compare(results, all=True)
    assert shown.hidden == ()
    assert "pretrain.tokens was set" in shown.tables()[1].title
    assert [row.entry.label for row in shown.boards[1].rows] == ["replay"]


def test_unregistered_method_is_hidden_and_marked_if_named() -> None:
    results = [fake_result("naive"), fake_result("mine", registered=False)]
    assert compare(results).hidden == (
        "1 run hidden (not comparable: method mine is not registered); ctbench compare --all shows them",
    )
    for found in (compare(results, all=True), compare(results, method=["naive", "mine"])):
        (table,) = found.tables()
        assert sorted(row[1].text for row in table.rows) == ["mine †", "naive"]
        assert "† not a registered method, loaded from a file" in table.notes


def test_title_marks_an_unregistered_stream() -> None:
    (table,) = compare([other("stream", registered=False)]).tables()
    assert "(unregistered stream)" in table.title


def test_each_setting_of_a_method_has_its_own_row() -> None:
    results = [fake_result("hyperprompt", seed=seed) for seed in range(2)]
    results += [fake_result("hyperprompt", seed=seed, changed={"method.agree_weight": 9.0}) for seed in range(2)]
    (board,) = compare(results).boards
    assert sorted(row.entry.label for row in board.rows) == ["hyperprompt", "hyperprompt (agree_weight=9.0)"]
    assert [len(row.entry.results) for row in board.rows] == [2, 2]


@pytest.mark.parametrize(("across", "levels"), [("", False), ("order", False), ("order", True)])
def test_copies_of_a_result_count_once(across, levels) -> None:
    results, copies = ([fake_result("naive", order=order) for order in range(2)] for _ in range(2))
    (table,) = compare([*results, *copies], across=across, levels=levels).tables()
    assert [note for note in table.notes if note.startswith("control (") and note.endswith("(n = 2)")]


def test_versions_of_a_method_do_not_share_a_row() -> None:
    results = [fake_result("replay"), other("method", version=2)]
    (board,) = compare(results).boards
    assert sorted(row.entry.label for row in board.rows) == ["replay (v1)", "replay (v2)"]


def test_edited_method_does_not_share_a_row_with_its_former_source() -> None:
    (board,) = compare([fake_result("replay"), other("method", digest="abcdef99")]).boards
    assert any("source abcdef" in row.entry.label for row in board.rows)


def test_newest_of_several_results_of_one_run_is_shown_with_a_note() -> None:
    record = fake_record("naive")
    later = record | {"key": "f" * 64, "provenance": record["provenance"] | {"date": "2027-01-01"}}
    later["matrix"] = [[value + 0.01 for value in row] for row in record["matrix"]]
    later = agreeing(later | {"cells": []})
    for results in ([record, later], [later, record]):
        (board,) = compare([result_from(each) for each in results]).boards
        assert next(iter(board.rows[0].entry.results.values())).key == "f" * 64
        assert any(
            "several results with different numbers; the table shows the newest, ffffffffffff" in note
            for note in board.notes
        )
    (board,) = compare([result_from(record), result_from(record)]).boards
    assert not any("several results" in note for note in board.notes)


def test_only_named_streams_and_methods_are_shown() -> None:
    results = [
        fake_result(method, stream=stream) for method in ("naive", "replay") for stream in ("domain", "temporal")
    ]
    found = compare(results, stream="temporal", method=["replay"])
    assert [(b.group.results[0].stream.name, [r.entry.name for r in b.rows]) for b in found.boards] == [
        ("temporal", ["replay"])
    ]


@pytest.mark.parametrize("view", ["leaderboard", "transfer"])
def test_runs_of_a_shipped_and_a_computed_base_stand_apart_and_are_told_apart_by_their_weights(view: str) -> None:
    def made(method: str, digest: str, weights: str) -> Result:
        record = fake_record(method)
        record["backbone"] |= {"digest": digest * 64, "weights_digest": weights * 64}
        return result_from(record)

    shipped = [made("naive", "1", "a"), made("replay", "1", "a")]
    alone = compare(shipped, view=view)
    other = compare([*shipped, made("naive", "2", "b"), made("lwf", "2", "b")], view=view)
    assert len(other.groups) == 2
    assert other.tables()[: len(alone.tables())] == alone.tables()  # nothing of the other base entered
    titles = {table.title for table in other.tables()[len(alone.tables()) :]}
    assert all("another base: weights bbbbbbbb instead of weights aaaaaaaa" in title for title in titles)
    again = compare([*shipped, made("naive", "2", "a")], view=view)
    assert "the same weights of tiny, made in another way" in again.groups[1].title
