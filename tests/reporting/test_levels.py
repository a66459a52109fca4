"""Means over the values of a key, such as three languages: spreads, intervals and tests worked out by hand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from fake_results import digest, fake_record, with_matrix

from ctbench import compare
from ctbench.cli import main
from ctbench.errors import BadConfig
from ctbench.results.format import result_from
from ctbench.results.writing import write_result

KEY = "language.seed"
# F_Acc of each method by language and run seed. Means by language: naive 0.61, 0.71, 0.81; rival 0.62, 0.73, 0.81.
SCORES = {
    "naive": {1: (0.60, 0.62), 2: (0.70, 0.72), 3: (0.80, 0.82)},
    "rival": {1: (0.60, 0.64), 2: (0.73, 0.73), 3: (0.80, 0.82)},
}


def run(method, language, seed, score, *, order=0):
    """A run on two domains whose row 0 is 0.5 and whose other rows are `score`."""
    record = copy.deepcopy(fake_record(method, seed=seed, num_tasks=2, order=order, changed={KEY: str(language)}))
    record["stream"]["digest"] = record["backbone"]["digest"] = digest("language", language)
    record |= {"key": digest(method, language, seed, order), "protocol": digest(language)[:16]}
    return result_from(with_matrix(record, [[0.5, 0.5], *[[score, score]] * 2]))


RUNS = [
    run(method, language, seed, score)
    for method, languages in SCORES.items()
    for language, scores in languages.items()
    for seed, score in enumerate(scores)
]


def table(results=RUNS, **options):
    (found,) = compare(results, across=KEY, levels=True, metric="F_Acc", **options).record()["tables"]
    return found


def test_mean_and_both_spreads_are_those_worked_out_by_hand():
    rows = {row["label"]: row["scores"]["F_Acc"] | {"n": row["n"]} for row in table()["rows"]}
    naive, rival = rows["naive"], rows["rival"]
    assert table()["levels"] == ["1", "2", "3"]
    assert naive["n"] == 6
    assert naive["mean"] == pytest.approx(0.71)
    assert naive["deviation"] == pytest.approx(0.1), "between 0.61, 0.71 and 0.81"
    assert naive["within"] == pytest.approx(0.01 * math.sqrt(2)), "two runs 0.02 apart in each language"
    half = 4.302653 * 0.1 / math.sqrt(3)  # t with two degrees of freedom: three languages, not six runs
    assert (naive["low"], naive["high"]) == (pytest.approx(0.71 - half), pytest.approx(0.71 + half))
    assert rival["mean"] == pytest.approx(0.72)
    # squares about their means: 2 x 0.02^2, 0, 2 x 0.01^2, over three degrees of freedom
    assert rival["within"] == pytest.approx(math.sqrt((2 * 0.02**2 + 2 * 0.01**2) / 3))


def test_methods_are_compared_by_their_differences_in_each_language():
    found = table(against="naive")
    (test,) = found["comparisons"]
    differences = np.array([0.01, 0.02, 0.0])
    half = 4.302653 * differences.std(ddof=1) / math.sqrt(3)
    assert (test["n"], test["difference"]) == (3, pytest.approx(0.01))
    assert test["low"] == pytest.approx(0.01 - half)
    assert (test["wins"], test["ties"], test["losses"]) == (2, 1, 0)
    assert test["p"] is None, "three languages cannot reach 5 %"
    assert {row["scores"]["F_Acc"]["rank"] for row in found["rows"]} == {1}


def test_taking_runs_for_units_would_make_the_interval_too_narrow():
    """The negative control: the same six runs as if they were of one language."""
    as_runs = [
        run("naive", 1, seed, score) for seed, score in enumerate(s for each in SCORES["naive"].values() for s in each)
    ]
    (found,) = compare(as_runs, metric="F_Acc", all=True).record()["tables"]
    narrow, wide = found["rows"][0]["scores"]["F_Acc"], table(method="naive")["rows"][0]["scores"]["F_Acc"]
    assert narrow["mean"] == pytest.approx(wide["mean"])
    assert narrow["high"] - narrow["low"] < 0.5 * (wide["high"] - wide["low"])


def test_the_table_says_what_its_numbers_are():
    text = compare(RUNS, across=KEY, levels=True, metric="F_Acc").render("markdown")
    assert "over language.seed" in text
    assert "| naive | 6 | 1, 2, 3 | 71.0 ± 10.0 / 1.4 | \\[46.2, 95.8\\] |" in text
    assert "± standard deviation between values of language.seed / between runs (seed, order) of one value" in text
    assert "intervals are conditional on one base" not in text
    assert "intervals are conditional on one base and one language" in compare(RUNS, across=KEY).render("markdown")


def test_a_method_without_one_of_the_languages_is_compared_over_the_others():
    kept = [each for each in RUNS if each.method.name == "naive" or each.changed[KEY] != "3"]
    found = table(kept, against="naive")
    assert (
        "2 of 3 values of language.seed: rival; methods are compared over shared values of language.seed"
        in found["notes"]
    )
    (test,) = found["comparisons"]
    assert (test["n"], test["difference"]) == (2, pytest.approx(0.015))


def test_runs_are_paired_by_their_seeds_within_each_language():
    """Equal scores run by run are equal, whichever seeds a method lacks; the mean over its own runs says otherwise."""
    scores = {0: 0.5, 1: 0.6, 2: 0.9}
    naive = [run("naive", language, seed, scores[seed]) for language in (1, 2, 3) for seed in scores]
    few = [run("rival", language, 2, scores[2]) for language in (1, 2, 3)]
    found = table([*naive, *few], against="naive")
    (test,) = found["comparisons"]
    assert (test["n"], test["difference"], test["ties"]) == (3, 0.0, 3)
    assert {row["scores"]["F_Acc"]["rank"] for row in found["rows"]} == {1}
    assert any("unequal runs" in note for note in found["notes"])
    assert not any("unequal runs" in note for note in table()["notes"])
    better = [run("rival", language, 2, scores[2] + 0.01 * language) for language in (1, 2, 3)]
    (test,) = table([*naive, *better], against="naive")["comparisons"]
    assert test["difference"] == pytest.approx(0.02)


def test_languages_count_alike_however_many_runs_they_have():
    """A method that is 0.02 better in every language wins, also if one of them has five runs and the others one."""
    places = [(1, seed) for seed in range(5)] + [(2, 0), (3, 0)]
    runs = [run("naive", *place, 0.6) for place in places] + [run("rival", *place, 0.62) for place in places]
    rows = {row["label"]: row["scores"]["F_Acc"] for row in table(runs)["rows"]}
    assert {label: (score["rank"], score["is_best"]) for label, score in rows.items()} == {
        "rival": (1, True),
        "naive": (2, False),
    }


def test_orders_of_the_domains_are_levels_too_and_pair_by_seed():
    runs = [run("naive", 1, seed, 0.6 + 0.02 * order, order=order) for order in (0, 3) for seed in range(3)]
    (over,) = compare(runs, across="order", levels=True, metric="F_Acc", all=True).record()["tables"]
    assert over["levels"] == ["0", "3"]
    assert over["rows"][0]["scores"]["F_Acc"]["deviation"] == pytest.approx(0.06 / math.sqrt(2))
    options = {"across": "order", "metric": "F_Acc", "all": True, "against": "naive (order=0)"}
    (beside,) = compare(runs, **options).record()["tables"]
    (test,) = beside["comparisons"]
    assert (test["n"], test["difference"]) == (3, pytest.approx(0.06))


@pytest.mark.parametrize("options", [{"levels": True}, {"levels": True, "across": KEY, "view": "transfer"}])
def test_levels_without_a_key_are_refused(options):
    with pytest.raises(BadConfig, match="name it with --across KEY"):
        compare(RUNS, **options)


def test_the_command_line_takes_levels(tmp_path, capsys):
    for each in RUNS:
        write_result(each, tmp_path)
    call = ["compare", "--results", str(tmp_path), "--metric", "F_Acc"]
    assert main([*call, "--across", KEY, "--levels", "--format", "markdown"]) == 0
    assert "72.0 ± 9.5 / 1.8" in capsys.readouterr().out
    assert main([*call, "--across", KEY, "--levels", "--format", "csv"]) == 0
    head, *lines = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert [float(line[head.index("F_Acc_within")]) for line in lines] == pytest.approx([0.01826, 0.01414], abs=1e-5)
    assert main([*call, "--levels"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
