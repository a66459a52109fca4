"""The leaderboard: what is ranked, what is bold, what is compared, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from fake_results import fake_record, fake_result, with_matrix

from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.metrics import METRICS, compute
from ctbench.report.compare import Comparison, compare
from ctbench.report.leaderboard import Row
from ctbench.report.numbers import percent
from ctbench.report.tables import Table
from ctbench.result_format import result_from
from ctbench.schema import Result

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
    found = compare([*runs("low", 0.0), *runs("high", 0.05), *runs("middle", 0.02)])
    assert list(rows(found)) == ["high", "middle", "low"]
    assert [row.scores["anytime"].rank for row in rows(found).values()] == [1, 2, 3]
    assert column(found.tables()[0], "won/tied/lost") == {"high": "2/0/0", "middle": "1/0/1", "low": "0/0/2"}
    assert bold(found, "anytime") == ["high"]


def test_the_highest_mean_is_not_bold_where_the_interval_covers_zero() -> None:
    found = compare([*runs("one", 0.05, noise=1), *runs("other", 0.05, noise=2), *runs("low", 0.0)])
    scores = {label: row.scores["anytime"] for label, row in rows(found).items()}
    assert scores["one"].mean != scores["other"].mean
    assert [scores[name].rank for name in ("one", "other", "low")] == [1, 1, 3]
    assert scores["one"].ties == scores["other"].ties == 1
    assert bold(found, "anytime") == []


def test_less_is_better_where_the_metric_says_so() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(4)]
    found = compare(results, metric="forgetting")
    assert list(rows(found)) == ["replay", "naive"]
    assert rows(found)["replay"].scores["forgetting"].mean < rows(found)["naive"].scores["forgetting"].mean
    assert bold(found, "forgetting") == ["replay"]


def test_one_run_is_neither_ranked_nor_bold() -> None:
    found = compare([run("high", 0, 0.2), run("low", 0, 0.0)])
    (table,) = found.tables()
    assert list(rows(found)) == ["high", "low"], "means still order the rows"
    for name in ("rank", "95 % interval", "won/tied/lost", "between runs"):
        assert set(column(table, name).values()) == {"–"}
    assert bold(found, "anytime") == []
    assert "±" not in column(table, "anytime")["high"]


def test_every_row_says_n_and_unequal_runs_are_told() -> None:
    found = [*runs("one", 0.0, n=4), *runs("other", 0.05, n=2), *runs("third", 0.01, n=2), *runs("fourth", 0.03, n=3)]
    (table,) = compare(found).tables()
    assert column(table, "n") == {"one": "4", "other": "2", "third": "2", "fourth": "3"}
    told = [note for note in table.notes if "methods are compared over the runs they share" in note]
    assert [note.partition(";")[0] for note in told] == ["2 of 4 runs: other, third", "3 of 4 runs: fourth"]


def test_means_are_over_seeds_first_then_over_orders() -> None:
    results = [fake_result("naive", seed=seed, order=order) for seed, order in [(0, 0), (1, 0), (2, 0), (0, 1)]]
    found = compare(results)
    first, second = [r.metrics["F_Acc"] for r in results[:3]], results[3].metrics["F_Acc"]
    assert rows(found)["naive"].scores["F_Acc"].mean == pytest.approx((np.mean(first) + second) / 2)
    assert "several orders of the domains: means over seeds first, then over orders" in found.tables()[0].notes
    uneven = "orders with unequal numbers of seeds: deviations and intervals weigh every run alike"
    assert uneven in found.tables()[0].notes
    assert uneven not in compare([results[0], results[3]]).tables()[0].notes


def test_a_mean_over_an_incomplete_set_is_refused_unless_partial() -> None:
    results = [*runs("whole", 0.0), *runs("holed", 0.05)[:3], run("holed", 3, 0.05, hole=(2, 0))]
    refused = compare(results)
    (table,) = refused.tables()
    assert column(table, "anytime")["holed"] == column(table, "rank")["holed"] == "–"
    assert list(rows(refused)) == ["whole", "holed"]
    assert column(table, "F_Acc")["holed"] != "–", "F_Acc needs no missing cell"
    assert any("refused because a cell that it needs is missing" in note for note in table.notes)

    allowed = compare(results, partial=True)
    (table,) = allowed.tables()
    means = [compute("anytime", result.matrix, partial=True) for result in results[4:]]
    assert rows(allowed)["holed"].scores["anytime"].mean == pytest.approx(np.mean(means))
    assert column(table, "anytime")["holed"].startswith("≈")
    assert not column(table, "anytime")["whole"].startswith("≈")
    assert not column(table, "F_Acc")["holed"].startswith("≈")
    assert any(note.startswith("≈ partial") for note in table.notes)


def test_partial_changes_nothing_where_nothing_is_missing() -> None:
    results = [*runs("one", 0.0), *runs("other", 0.05)]
    assert compare(results, partial=True).record() == compare(results).record()


def test_a_missing_cell_of_row_0_does_not_print_nan() -> None:
    (table,) = compare([run("naive", seed, 0.0, hole=(0, 1)) for seed in range(3)]).tables()
    assert "row 0 (untouched LM), mean over tasks: –" in table.notes
    assert "nan" not in " ".join(cell.text for row in table.rows for cell in row)


def test_joint_has_scores_only_where_they_are_defined() -> None:
    results = [fake_result(method, seed=seed, shape=shape) for seed in range(3) for method, shape in PLANS.items()]
    for partial in (False, True):
        (table,) = compare(results, partial=partial).tables()
        assert column(table, "A_Acc")["joint"] == column(table, "O_Acc")["joint"] == "–"
        assert column(table, "F_Acc")["joint"][0].isdigit()


PLANS = {"naive": "chain", "joint": "joint", "separate": "separate"}


def test_variance_of_pre_training_and_of_fine_tuning_are_told_apart() -> None:
    results = []
    for seed in range(4):
        record = fake_record("naive", seed=seed, num_seeds=3)
        for cell in record["cells"]:
            cell["score"] = 0.7 + 0.03 * seed + 0.001 * cell["finetune_seed"]
        results.append(result_from(record))
    (table,) = compare(results).tables()
    assert column(table, "between runs") == {"naive": "± 3.9"}
    assert column(table, "between seeds") == {"naive": "± 0.1"}


def test_against_compares_all_with_one_and_corrects_for_all() -> None:
    results = [*runs("naive", 0.0, n=9), *runs("high", 0.05, n=9), *runs("twin", 0.0, n=9, noise=1)]
    found = compare(results, metric=["anytime", "forgetting"], against="naive")
    (board,) = found.boards
    assert [(c.first, c.second, c.metric) for c in board.contrasts] == [
        (first, "naive", metric) for metric in ("anytime", "forgetting") for first in ("high", "twin")
    ]
    high = board.contrasts[0]
    assert high.difference[0] == pytest.approx(0.05)
    assert (high.test.wins, high.test.ties, high.test.losses) == (9, 0, 0)
    assert high.test.p == 2 / 2**9
    assert high.test.adjusted == pytest.approx(4 * 2 / 2**9)
    table = found.tables()[1]
    assert column(table, "n") == {"naive": "9"}
    assert "Holm's correction covers the 4 comparisons of this table" in table.notes


def test_differences_keep_the_direction_of_their_metric() -> None:
    results = [fake_result(method, seed=seed) for method in ("naive", "replay") for seed in range(4)]
    (board,) = compare(results, metric="forgetting", against="naive").boards
    (contrast,) = board.contrasts
    assert contrast.difference[0] < 0, "replay forgets less"
    assert contrast.difference[1] < contrast.difference[0] < contrast.difference[2]
    assert (contrast.test.wins, contrast.test.losses) == (4, 0), "and that is better"


def test_too_few_runs_are_told_instead_of_a_p_value() -> None:
    table = compare([*runs("naive", 0.0, n=5), *runs("high", 0.05, n=5)], metric="anytime", against="naive").tables()[1]
    assert [row[6].text for row in table.rows] == [row[7].text for row in table.rows] == ["–"]
    assert "– no p-value: 5 pairs cannot go below p = 0.0625, so the level 0.05 is out of reach" in table.notes


def test_holms_factor_counts_for_what_is_in_reach() -> None:
    results = [*runs("naive", 0.0, n=6), *runs("high", 0.05, n=6), *runs("low", -0.05, n=6)]
    table = compare(results, metric="anytime", against="naive").tables()[1]
    reason = "6 pairs among 2 comparisons cannot go below p = 0.0625"
    assert any(reason in note for note in table.notes)
    assert not any(
        reason in note for note in compare(results, metric="anytime", planned="high:naive").tables()[1].notes
    )


def test_one_planned_comparison_is_not_corrected() -> None:
    results = [*runs("naive", 0.0, n=6), *runs("high", 0.05, n=6), *runs("low", -0.05, n=6)]
    found = compare(results, planned="high:naive")
    (board,) = found.boards
    (contrast,) = board.contrasts
    assert (contrast.first, contrast.second, contrast.metric) == ("high", "naive", "anytime")
    assert contrast.test.p == contrast.test.adjusted == 2 / 2**6
    assert found.tables()[1].rows[0][7].text == "planned"
    assert found.record()["tables"][0]["comparisons"][0]["p_holm"] is None
    assert compare(results, planned=("high", "naive")).record() == found.record()


@pytest.mark.parametrize("planned", ["high", "high:", ":naive", "naive:naive"])
def test_a_planned_comparison_needs_two_methods(planned: str) -> None:
    with pytest.raises(BadConfig, match="--planned A:B"):
        compare([*runs("naive", 0.0), *runs("high", 0.05)], planned=planned)


def test_a_method_to_compare_with_must_be_there() -> None:
    results = [*runs("naive", 0.0), *runs("high", 0.05)]
    for question in ({"against": "niave"}, {"planned": "high:niave"}):
        with pytest.raises(UnknownName, match="did you mean 'naive'"):
            compare(results, **question)


def test_a_comparison_over_missing_cells_is_refused() -> None:
    results = [*runs("naive", 0.0), *runs("holed", 0.05)[:3], run("holed", 3, 0.05, hole=(2, 0))]
    (board,) = compare(results, against="naive", metric=["anytime", "F_Acc"]).boards
    assert [contrast.test.difference.n for contrast in board.contrasts] == [0, 4]
    (board,) = compare(results, against="naive", metric=["anytime"], partial=True).boards
    assert [contrast.test.difference.n for contrast in board.contrasts] == [4]


def test_methods_that_share_no_run_are_not_compared() -> None:
    table = compare([*runs("naive", 0.0, n=3), run("high", 7, 0.1)], against="naive", metric="anytime").tables()[1]
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


def test_wrong_names_are_refused_with_a_suggestion() -> None:
    results = runs("naive", 0.0)
    for word, name in {"metric": "F_acc", "stream": "domian", "method": "niave", "view": "transfers"}.items():
        with pytest.raises(UnknownName, match="did you mean"):
            compare(results, **{word: name})
    with pytest.raises(MissingResult, match="no results in what was given"):
        compare([])


def test_traits_and_costs_stand_beside_the_scores() -> None:
    results = [fake_result(method, seed=seed) for method in ("hyperprompt", "replay") for seed in range(2)]
    (table,) = compare(results).tables()
    assert column(table, "traits") == {"hyperprompt": "–", "replay": "stores text"}
    assert column(table, "forward tokens") == {"hyperprompt": "3.33M", "replay": "1.66M"}
    assert column(table, "added") == {"hyperprompt": "21k", "replay": "0"}
    assert column(table, "stored") == {"hyperprompt": "0 B", "replay": "780 kB"}


def test_unequal_token_budgets_are_told() -> None:
    record = fake_record("greedy")
    greedy = result_from(record | {"cost": record["cost"] | {"tokens": 10**9}})
    text = "the methods were not pre-trained on equally many tokens (see the column tokens)"
    assert text in compare([greedy, fake_result("naive")]).tables()[0].notes
    assert text not in compare([fake_result("replay"), fake_result("naive")]).tables()[0].notes


def with_cpu_seconds(method: str, seconds: float) -> Result:
    record = fake_record(method)
    return result_from(record | {"cost": record["cost"] | {"cpu_seconds": seconds}})


def test_time_is_cpu_time_where_every_row_has_it() -> None:
    (table,) = compare([with_cpu_seconds("naive", 7.0), with_cpu_seconds("replay", 75.0)]).tables()
    assert "time" not in table.columns
    assert column(table, "CPU time") == {"naive": "7.0 s", "replay": "1 min 15 s"}


def test_time_is_wall_time_where_a_row_lacks_cpu_time() -> None:
    (table,) = compare([with_cpu_seconds("naive", 7.0), fake_result("replay")]).tables()
    assert "CPU time" not in table.columns
    assert column(table, "time") == {"naive": "30.5 s", "replay": "30.5 s"}


def test_findings_stand_in_the_table_and_change_no_number() -> None:
    healthy = [fake_result("naive", seed=seed) for seed in range(3)]
    odd = [dataclasses.replace(result, stages=(unchanged(result), *result.stages[1:])) for result in healthy]
    (before,), (after,) = compare(healthy).tables(), compare(odd).tables()
    assert column(before, "findings") == {"naive": "–"}
    assert column(after, "findings") == {"naive": "unchanged-weights"}
    text = "finding unchanged-weights: naive, seed 0, seed 1, seed 2: stage 1 (harbour) left the weights as they were"
    assert text in after.notes
    for name in METRICS:
        ours, theirs = (rows(compare(each, metric=name))["naive"].scores[name] for each in (healthy, odd))
        assert ours == theirs


def unchanged(result: Result) -> object:
    return dataclasses.replace(result.stages[0], changed=False)


def test_identical_methods_are_told() -> None:
    record = fake_record("naive")
    twin = record | {"method": record["method"] | {"name": "twin", "digest": "0"}}
    twin["cells"] = [cell | {"source": "0" * 64} if cell["row"] else cell for cell in twin["cells"]]
    (table,) = compare([result_from(record), result_from(twin)]).tables()
    assert any(note.startswith("finding identical-methods: naive and twin") for note in table.notes)
    assert not any(
        "identical" in note for note in compare([result_from(record), fake_result("replay")]).tables()[0].notes
    )


def test_row_0_is_one_number_and_the_control_one_a_run() -> None:
    results = [fake_result("naive", seed=seed) for seed in range(3)]
    (table,) = compare(results).tables()
    assert f"row 0 (untouched LM), mean over tasks: {percent(results[0].matrix[0].mean())}" in table.notes
    assert any(note.startswith("control (") and "(n = 3)" in note for note in table.notes)


def test_runs_with_different_bases_are_told() -> None:
    (table,) = compare(runs("naive", 0.0)).tables()
    assert any(note.startswith("row 0 ") and note.endswith("the runs have different bases") for note in table.notes)
