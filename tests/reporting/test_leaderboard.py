"""The leaderboard: what is ranked, what is bold, what is compared, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from fake_results import agreeing, fake_record, fake_result, with_matrix

from ctbench import compare
from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.reporting.compare import Comparison
from ctbench.reporting.leaderboard import Row
from ctbench.reporting.numbers import percent
from ctbench.reporting.summary import metric_table
from ctbench.reporting.tables import Table
from ctbench.results.format import result_from
from ctbench.results.metrics import METRICS, compute
from ctbench.results.schema import Finding, Result

NOISE = np.random.default_rng(5).normal(0, 0.004, size=(3, 30, 6, 5))


def run(method: str, seed: int, level: float, *, noise: int = 0, hole: tuple[int, int] | None = None) -> Result:
    """A run whose cells lie around `level`; methods with one kind of noise differ by their levels alone."""
    rows = 0.7 + level + NOISE[noise, seed]
    rows[0] = 0.6 + NOISE[noise, seed, 0]
    if hole is not None:
        rows[hole] = math.nan
    return result_from(with_matrix(fake_record(method, seed=seed), rows))


def runs(method: str, level: float, *, n: int = 4, noise: int = 0) -> list[Result]:
    return [run(method, seed, level, noise=noise) for seed in range(n)]


def rows(comparison: Comparison) -> dict[str, Row]:
    (board,) = comparison.boards
    return {row.entry.label: row for row in board.rows}


def column(table: Table, name: str) -> dict[str, str]:
    place = next(index for index, head in enumerate(table.columns) if head.split(" ")[0] == name or head == name)
    return {row[1].text: row[place].text for row in table.rows}


def bold(comparison: Comparison, metric: str) -> list[str]:
    (table,) = comparison.tables()
    place = next(index for index, head in enumerate(table.columns) if head.startswith(metric))
    return [row[1].text for row in table.rows if row[place].bold]


def test_rows_are_ranked_and_the_clear_winner_is_bold() -> None:
    found = compare([*runs("low", 0.0), *runs("high", 0.05), *runs("middle", 0.02)], columns="standing")
    assert list(rows(found)) == ["high", "middle", "low"]
    assert [row.scores["anytime"].rank for row in rows(found).values()] == [1, 2, 3]
    assert column(found.tables()[0], "rank") == {"high": "1", "middle": "2", "low": "3"}
    assert column(found.tables()[0], "won/tied/lost") == {"high": "2/0/0", "middle": "1/0/1", "low": "0/0/2"}
    assert bold(found, "anytime") == ["high"]


def test_highest_mean_is_not_bold_if_the_interval_covers_zero() -> None:
    found = compare([*runs("one", 0.05, noise=1), *runs("other", 0.05, noise=2), *runs("low", 0.0)])
    scores = {label: row.scores["anytime"] for label, row in rows(found).items()}
    assert scores["one"].mean != scores["other"].mean
    assert [scores[name].rank for name in ("one", "other", "low")] == [1, 1, 3]
    assert [scores[name].last_rank for name in ("one", "other", "low")] == [2, 2, 3]
    assert column(found.tables()[0], "rank") == {"one": "1-2", "other": "1-2", "low": "3"}
    (note,) = (note for note in found.tables()[0].notes if note.startswith("rank: "))
    assert "no correction for their number" in note
    assert note.endswith("; 1-2: places that the ties leave open")
    assert scores["one"].ties == scores["other"].ties == 1
    assert bold(found, "anytime") == []


def test_lower_values_win_in_metrics_that_are_better_lower() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(4)]
    found = compare(results, metric="forgetting")
    assert list(rows(found)) == ["replay", "naive"]
    assert rows(found)["replay"].scores["forgetting"].mean < rows(found)["naive"].scores["forgetting"].mean
    assert bold(found, "forgetting") == ["replay"]


def test_one_run_is_neither_ranked_nor_bold() -> None:
    found = compare([run("high", 0, 0.2), run("low", 0, 0.0)], columns="all")
    (table,) = found.tables()
    assert list(rows(found)) == ["high", "low"], "means still order the rows"
    for name in ("rank", "95 % interval", "won/tied/lost", "between runs"):
        assert set(column(table, name).values()) == {"–"}
    assert bold(found, "anytime") == []
    assert "±" not in column(table, "anytime")["high"]


def test_every_row_shows_n_and_a_note_names_unequal_runs() -> None:
    found = [*runs("one", 0.0, n=4), *runs("other", 0.05, n=2), *runs("third", 0.01, n=2), *runs("fourth", 0.03, n=3)]
    (table,) = compare(found).tables()
    assert column(table, "n") == {"one": "4", "other": "2", "third": "2", "fourth": "3"}
    told = [note for note in table.notes if "methods are compared over shared runs" in note]
    assert [note.partition(";")[0] for note in told] == ["2 of 4 runs: other, third", "3 of 4 runs: fourth"]


def test_means_are_over_seeds_then_over_orders() -> None:
    results = [fake_result("naive", seed=seed, order=order) for seed, order in [(0, 0), (1, 0), (2, 0), (0, 1)]]
    found = compare(results)
    first, second = [r.metrics["F_Acc"] for r in results[:3]], results[3].metrics["F_Acc"]
    assert rows(found)["naive"].scores["F_Acc"].mean == pytest.approx((np.mean(first) + second) / 2)
    assert "several orders of the domains: means over seeds first, then over orders" in found.tables()[0].notes
    uneven = "orders with unequal numbers of seeds: deviations and intervals give every run the same weight"
    assert uneven in found.tables()[0].notes
    assert uneven not in compare([results[0], results[3]]).tables()[0].notes


def test_mean_over_an_incomplete_set_is_undefined_unless_partial() -> None:
    results = [*runs("whole", 0.0), *runs("holed", 0.05)[:3], run("holed", 3, 0.05, hole=(2, 0))]
    refused = compare(results)
    (table,) = refused.tables()
    assert column(table, "anytime")["holed"] == column(table, "rank")["holed"] == "–"
    assert list(rows(refused)) == ["whole", "holed"]
    assert column(table, "F_Acc")["holed"] != "–", "F_Acc needs no missing cell"
    assert any("a needed cell is missing" in note for note in table.notes)

    allowed = compare(results, partial=True)
    (table,) = allowed.tables()
    means = [compute("anytime", result.matrix, partial=True) for result in results[4:]]
    assert rows(allowed)["holed"].scores["anytime"].mean == pytest.approx(np.mean(means))
    assert column(table, "anytime")["holed"].startswith("≈")
    assert not column(table, "anytime")["whole"].startswith("≈")
    assert not column(table, "F_Acc")["holed"].startswith("≈")
    assert any(note.startswith("≈ partial") for note in table.notes)


def test_partial_changes_nothing_in_complete_sets() -> None:
    results = [*runs("one", 0.0), *runs("other", 0.05)]
    assert compare(results, partial=True).record() == compare(results).record()


def test_a_missing_cell_of_row_0_does_not_print_nan() -> None:
    (table,) = compare([run("naive", seed, 0.0, hole=(0, 1)) for seed in range(3)]).tables()
    assert "row 0 (untouched LM), mean over tasks: –" in table.notes
    assert "nan" not in " ".join(cell.text for row in table.rows for cell in row)


def test_joint_has_only_the_metrics_defined_for_it() -> None:
    results = [fake_result(method, seed=seed, shape=shape) for seed in range(3) for method, shape in PLANS.items()]
    for partial in (False, True):
        (table,) = compare(results, partial=partial).tables()
        assert column(table, "A_Acc")["joint"] == column(table, "O_Acc")["joint"] == "–"
        assert column(table, "F_Acc")["joint"][0].isdigit()


PLANS = {"naive": "chain", "joint": "joint", "separate": "separate"}


def test_variances_of_pre_training_and_fine_tuning_are_separated() -> None:
    results = []
    for seed in range(4):
        record = fake_record("naive", seed=seed, num_seeds=3)
        for cell in record["cells"]:
            cell["score"] = 0.7 + 0.03 * seed + 0.001 * cell["finetune_seed"]
        results.append(result_from(agreeing(record)))
    (table,) = compare(results, columns="variance").tables()
    assert column(table, "between runs") == {"naive": "± 3.9"}
    assert column(table, "between seeds") == {"naive": "± 0.1"}


def test_against_tests_every_method_with_holms_correction() -> None:
    results = [*runs("naive", 0.0, n=9), *runs("high", 0.05, n=9), *runs("twin", 0.0, n=9, noise=1)]
    found = compare(results, metric=["anytime", "forgetting"], against="naive")
    (board,) = found.boards
    assert [(c.first, c.second, c.metric.name) for c in board.contrasts] == [
        (first, "naive", metric) for metric in ("anytime", "forgetting") for first in ("high", "twin")
    ]
    high = board.contrasts[0]
    assert high.difference[0] == pytest.approx(0.05)
    assert (high.test.wins, high.test.ties, high.test.losses) == (9, 0, 0)
    assert high.test.p == 2 / 2**9
    assert high.test.adjusted == pytest.approx(4 * 2 / 2**9)
    (table,) = found.tables()
    assert column(table, "n") == {"naive": "9"}
    assert "Holm's correction covers the 4 comparisons of this table" in table.notes


def test_differences_keep_the_sign_of_their_metric() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(4)]
    (board,) = compare(results, metric="forgetting", against="naive").boards
    (contrast,) = board.contrasts
    assert contrast.difference[0] < 0, "replay forgets less"
    assert contrast.difference[1] < contrast.difference[0] < contrast.difference[2]
    assert (contrast.test.wins, contrast.test.losses) == (4, 0), "and that is better"


def test_note_explains_a_missing_p_value_with_too_few_runs() -> None:
    table = compare([*runs("naive", 0.0, n=5), *runs("high", 0.05, n=5)], metric="anytime", against="naive").tables()[0]
    assert [row[6].text for row in table.rows] == [row[7].text for row in table.rows] == ["–"]
    assert "– no p-value: 5 pairs cannot go below p = 0.0625, so the level 0.05 is out of reach" in table.notes


def test_smallest_reachable_p_value_includes_holms_factor() -> None:
    results = [*runs("naive", 0.0, n=6), *runs("high", 0.05, n=6), *runs("low", -0.05, n=6)]
    table = compare(results, metric="anytime", against="naive").tables()[0]
    reason = "6 pairs among 2 comparisons cannot go below p = 0.0625"
    assert any(reason in note for note in table.notes)
    assert not any(
        reason in note for note in compare(results, metric="anytime", planned="high:naive").tables()[0].notes
    )


def test_one_planned_comparison_is_not_corrected() -> None:
    results = [*runs("naive", 0.0, n=6), *runs("high", 0.05, n=6), *runs("low", -0.05, n=6)]
    found = compare(results, planned="high:naive")
    (board,) = found.boards
    (contrast,) = board.contrasts
    assert (contrast.first, contrast.second, contrast.metric.name) == ("high", "naive", "anytime")
    assert contrast.test.p == contrast.test.adjusted == 2 / 2**6
    assert found.tables()[0].rows[0][7].text == "planned"
    assert found.record()["tables"][0]["comparisons"][0]["p_holm"] is None
    assert compare(results, planned=("high", "naive")).record() == found.record()


@pytest.mark.parametrize("planned", ["high", "high:", ":naive", "naive:naive"])
def test_a_planned_comparison_needs_two_methods(planned: str) -> None:
    with pytest.raises(BadConfig, match="--planned A:B"):
        compare([*runs("naive", 0.0), *runs("high", 0.05)], planned=planned)


def test_method_to_compare_with_must_have_results() -> None:
    results = [*runs("naive", 0.0), *runs("high", 0.05)]
    for question in ({"against": "niave"}, {"planned": "high:niave"}):
        with pytest.raises(UnknownName, match="did you mean 'naive'"):
            compare(results, **question)


def test_comparison_over_missing_cells_is_undefined() -> None:
    results = [*runs("naive", 0.0), *runs("holed", 0.05)[:3], run("holed", 3, 0.05, hole=(2, 0))]
    (board,) = compare(results, against="naive", metric=["anytime", "F_Acc"]).boards
    assert [contrast.test.difference.n for contrast in board.contrasts] == [0, 4]
    (board,) = compare(results, against="naive", metric=["anytime"], partial=True).boards
    assert [contrast.test.difference.n for contrast in board.contrasts] == [4]


def test_methods_that_share_no_run_are_not_compared() -> None:
    table = compare([*runs("naive", 0.0, n=3), run("high", 7, 0.1)], against="naive", metric="anytime").tables()[0]
    assert column(table, "n") == {"naive": "0"}
    assert any("share no run" in note for note in table.notes)


def test_confidence_sets_the_interval_and_the_level() -> None:
    results = [*runs("naive", 0.0, n=5), *runs("high", 0.05, n=5)]
    wide, narrow = (rows(compare(results, confidence=c))["high"].scores["anytime"].interval for c in (0.99, 0.9))
    assert wide.low < narrow.low < narrow.high < wide.high
    (board,) = compare(results, confidence=0.9, against="naive", metric="anytime").boards
    assert board.contrasts[0].test.p == 0.0625
    for confidence in (0.3, 1.0, 95):
        with pytest.raises(BadConfig, match=r"such as 0\.95"):
            compare(results, confidence=confidence)


def test_unknown_names_are_rejected_with_a_suggestion() -> None:
    results = runs("naive", 0.0)
    for word, name in {"metric": "F_acc", "stream": "domian", "method": "niave", "view": "transfers"}.items():
        with pytest.raises(UnknownName, match="did you mean"):
            compare(results, **{word: name})
    with pytest.raises(MissingResult, match="no results in the given list"):
        compare([])


def test_leaderboard_shows_traits_and_costs() -> None:
    results = [fake_result(method, seed=seed) for method in ("hyperprompt", "replay") for seed in range(2)]
    (table,) = compare(results, columns=["cost", "traits"]).tables()
    assert column(table, "traits") == {"hyperprompt": "–", "replay": "stores text"}
    assert column(table, "forward tokens") == {"hyperprompt": "3.33M", "replay": "1.66M"}
    assert column(table, "added") == {"hyperprompt": "21k", "replay": "0"}
    assert column(table, "stored") == {"hyperprompt": "0 B", "replay": "780 kB"}


def test_note_names_unequal_token_budgets() -> None:
    record = fake_record("greedy")
    greedy = result_from(record | {"cost": record["cost"] | {"tokens": 10**9}})
    text = "the methods were pre-trained on different numbers of tokens (--columns tokens)"
    assert text in compare([greedy, fake_result("naive")]).tables()[0].notes
    assert text not in compare([fake_result("replay"), fake_result("naive")]).tables()[0].notes


def with_cpu_seconds(method: str, seconds: float) -> Result:
    record = fake_record(method)
    return result_from(record | {"cost": record["cost"] | {"cpu_seconds": seconds}})


def test_time_is_cpu_time_if_every_row_has_it() -> None:
    (table,) = compare([with_cpu_seconds("naive", 7.0), with_cpu_seconds("replay", 75.0)], columns="cost").tables()
    assert "time" not in table.columns
    assert column(table, "CPU time") == {"naive": "7.0 s", "replay": "1 min 15 s"}


def test_time_is_wall_time_if_a_row_lacks_cpu_time() -> None:
    (table,) = compare([with_cpu_seconds("naive", 7.0), fake_result("replay")], columns="cost").tables()
    assert "CPU time" not in table.columns
    assert column(table, "time") == {"naive": "30.5 s", "replay": "30.5 s"}


def test_leaderboard_shows_findings_which_change_no_number() -> None:
    healthy = [fake_result("naive", seed=seed) for seed in range(3)]
    odd = [dataclasses.replace(result, stages=(unchanged(result), *result.stages[1:])) for result in healthy]
    (before,), (after,) = (compare(each, columns="findings").tables() for each in (healthy, odd))
    assert column(before, "findings") == {"naive": "–"}
    assert column(after, "findings") == {"naive": "unchanged-weights"}
    text = "finding unchanged-weights: naive, seed 0, seed 1, seed 2: stage 1 (harbour) did not change the weights"
    assert text in after.notes
    for name in METRICS:
        ours, theirs = (rows(compare(each, metric=name))["naive"].scores[name] for each in (healthy, odd))
        assert ours == theirs


def unchanged(result: Result) -> object:
    return dataclasses.replace(result.stages[0], changed=False)


def test_note_names_methods_with_identical_scores() -> None:
    record = fake_record("naive")
    twin = record | {"method": record["method"] | {"name": "twin", "digest": "0"}}
    twin["cells"] = [cell | {"source": "0" * 64} if cell["row"] else cell for cell in twin["cells"]]
    (table,) = compare([result_from(record), result_from(twin)]).tables()
    assert any(note.startswith("finding identical-methods: naive and twin") for note in table.notes)
    assert not any(
        "identical" in note for note in compare([result_from(record), fake_result("replay")]).tables()[0].notes
    )


def test_notes_give_row_0_and_the_mean_of_the_control() -> None:
    results = [fake_result("naive", seed=seed) for seed in range(3)]
    (table,) = compare(results).tables()
    assert f"row 0 (untouched LM), mean over tasks: {percent(results[0].matrix[0].mean())}" in table.notes
    assert any(note.startswith("control (") and "(n = 3)" in note for note in table.notes)


@pytest.mark.parametrize(
    ("shift", "told"),
    [(0.01, "of one base on other machines or under other settings"), (1e-7, "mean over tasks: 50.0")],
)
def test_note_on_row_0_says_when_it_differs_so_much_that_it_can_be_seen(shift, told) -> None:
    matrices = [np.full((6, 5), 0.5), np.full((6, 5), 0.5 + shift)]
    found = [result_from(with_matrix(fake_record("naive", seed=seed), each)) for seed, each in enumerate(matrices)]
    (table,) = compare(found).tables()
    assert next(note for note in table.notes if note.startswith("row 0 ")).endswith(told)


def with_finding(result: Result, code: str, message: str) -> Result:
    return dataclasses.replace(result, findings=(Finding(code=code, message=message),))


def test_findings_of_one_kind_are_one_line_and_notes_are_no_findings() -> None:
    methods = ("a", "b", "c", "d")
    noted = [with_finding(fake_result(name), "note", "the LM head was made new") for name in methods]
    told = [note for note in compare(noted).tables()[0].notes if "LM head" in note]
    assert told == ["note: 4 methods (a, b, c and 1 more): the LM head was made new"]
    odd = [dataclasses.replace(r, stages=(unchanged(r), *r.stages[1:])) for r in (fake_result("a"), fake_result("b"))]
    (told,) = (note for note in compare(odd).tables()[0].notes if note.startswith("finding "))
    assert told == "finding unchanged-weights: a, b: stage 1 (harbour) did not change the weights"
    late = dataclasses.replace(odd[1], stages=(odd[1].stages[0], dataclasses.replace(odd[1].stages[1], changed=False)))
    (told,) = (note for note in compare([odd[0], late]).tables()[0].notes if note.startswith("finding "))
    assert told.startswith("finding unchanged-weights: a, b: a stage of pre-training did not change the LM; such as ")


def test_against_prints_the_comparison_only_and_says_where_there_is_none() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)]
    others = [fake_result("replay", seed=seed, stream="temporal") for seed in range(3)]
    first, second = compare([*results, *others], against="naive", metric="F_Acc").tables()
    assert (first.columns[1], len(first.rows)) == ("compared with", 1)
    assert not second.rows
    assert second.notes == ("no comparison with naive, which has no runs in this table",)
    _, alone = compare([*results, *others], against="replay", metric="F_Acc").tables()
    assert (alone.rows, alone.notes) == ((), ("no comparison: replay is the only row of this table",))


def test_further_columns_are_those_asked_for() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(3)]
    plain = set(compare(results).tables()[0].columns)
    every = set(compare(results, columns="all").tables()[0].columns)
    assert {"tokens", "traits", "findings", "dates", "won/tied/lost", "between runs"} == every - plain - {
        "forward tokens",
        "time",
        "peak memory",
        "added",
        "stored",
        "between seeds",
    }
    (table,) = compare(results, columns="dates,tokens").tables()
    assert set(table.columns) - plain == {"dates", "tokens"}
    assert column(table, "dates") == {"naive": "2026-11-23", "replay": "2026-11-23"}
    with pytest.raises(UnknownName, match="did you mean 'traits'"):
        compare(results, columns="trait")


def losses(method: str, seed: int, level: float) -> Result:
    """A run whose LM losses are a matrix of whole tenths, moved by `level` after the first stage."""
    rows = np.array([[5.0, 4.0], [2.0, 4.5], [3.5, 1.0]])
    rows[1:] += level + 0.01 * seed
    record = fake_record(method, seed=seed, num_tasks=2)
    return result_from(record | {"lm_loss": rows.tolist()})


def test_lm_losses_are_ranked_with_the_lowest_first_and_paired_like_scores() -> None:
    results = [losses(name, seed, level) for name, level in {"low": 0.0, "high": 0.5}.items() for seed in range(9)]
    found = compare(results, on="loss", metric="final,BWT", against="high")
    assert list(rows(found)) == ["low", "high"]
    scores = rows(found)["low"].scores
    assert scores["final"].mean == pytest.approx((3.5 + 1.0) / 2 + 0.04)
    assert scores["BWT"].mean == pytest.approx(2.0 - 3.5), "the loss of the first domain rose by 1.5 nats"
    assert (scores["final"].rank, rows(found)["high"].scores["final"].rank) == (1, 2)
    first, second = found.boards[0].contrasts
    assert first.difference[0] == pytest.approx(-0.5)
    assert (first.test.wins, first.test.losses) == (9, 0), "a lower loss wins"
    assert second.difference[0] == pytest.approx(0.0)
    assert found.tables()[0].rows[0][4].text == "-0.500"
    assert compare(results, metric="F_Acc").tables()[0].columns[3] == "F_Acc % ↑", "scores are another matrix"


def test_lm_losses_are_sorted_by_the_names_of_scores_too() -> None:
    results = [losses(name, 0, level) for name, level in {"low": 0.0, "high": 0.5}.items()]
    for given, name in (("A_Acc", "learned"), ("O_Acc", "unseen"), ("F_Acc", "final"), ("final", "final")):
        found = compare(results, on="loss", metric="BWT", sort=given)
        assert list(rows(found)) == ["low", "high"]
        assert list(rows(found)["low"].scores) == ["BWT", name]
        assert f"rows sorted by {name}; ranks are those of BWT" in found.tables()[0].notes
    with pytest.raises(UnknownName, match="did you mean 'learned'"):
        compare(results, on="loss", sort="learnt")
    with pytest.raises(UnknownName, match="did you mean 'tokens'"):
        compare(results, on="loss", sort="token")


def test_a_share_of_lm_losses_is_in_points_and_not_in_nats() -> None:
    results = [losses(name, seed, level) for name, level in {"low": 0.0, "high": 2.0}.items() for seed in range(3)]

    def told(metric: str) -> list[str]:
        (board,) = compare(results, on="loss", metric=metric).tables()
        (contrasts,) = compare(results, on="loss", metric=metric, against="low").tables()
        assert contrasts.rows[-1][4].text == "+25.0", "two of four cells, and not one, are above row 0"
        return [board.notes[0].partition("mean")[0], contrasts.notes[0].partition(", first")[0]]

    assert told("negative_transfer") == ["", "differences in points"]
    assert told("final,negative_transfer") == [
        "LM loss on held-out text in nats per predicted token, ",
        "differences in nats (of a level, negative is better), of negative_transfer in points",
    ]
    table = metric_table(results[0], on="loss")
    shown = {row[0].text: row[1].text for row in table.rows}
    assert (table.columns[1], shown["final"], shown["negative_transfer"]) == ("nats", "2.250", "25.0 %")


def test_lm_losses_are_shown_in_nats_with_loss_names() -> None:
    results = [losses(name, seed, level) for name, level in {"low": 0.0, "high": 0.5}.items() for seed in range(3)]
    (table,) = compare(results, on="loss").tables()
    assert [name for name in table.columns if name[-1] in "↑↓"] == [
        "anytime ↓",
        "learned ↓",
        "unseen ↓",
        "final ↓",
        "FWT_all ↑",
        "forgetting ↓",
    ]
    assert column(table, "learned")["low"] == "1.510 ± 0.010"
    assert column(table, "FWT_all")["low"] == "-0.510 ± 0.010"
    assert bold(compare(results, on="loss"), "anytime") == ["low"]
    assert any("nats per predicted token" in note for note in table.notes)
    with pytest.raises(UnknownName, match="did you mean 'loss'"):
        compare(results, on="los")


def test_rows_can_be_sorted_by_a_figure_a_cost_or_another_metric_and_ranks_stay() -> None:
    def keeping(name: str, change: float, level: float) -> Result:
        return dataclasses.replace(run(name, 0, level), general_loss=(2.0, *[2.0 + change] * 5))

    results = [keeping("low", 0.1, 0.0), keeping("high", 0.3, 0.05), run("none", 0, 0.02)]
    assert list(rows(compare(results))) == ["high", "none", "low"]
    found = compare(results, sort="general")
    assert list(rows(found)) == ["low", "high", "none"], "who forgets less comes first, who has no figure last"
    assert "rows sorted by general; ranks are those of anytime" in found.tables()[0].notes
    assert any(head.startswith("general ") for head in found.tables()[0].columns)
    assert list(rows(compare(results, metric="F_Acc", sort="anytime"))) == ["high", "none", "low"]
    assert any(head == "tokens" for head in compare(results, sort="tokens").tables()[0].columns)
    with pytest.raises(UnknownName, match="no column to sort by 'generals'; did you mean 'general'"):
        compare(results, sort="generals")
