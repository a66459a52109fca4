"""Runs that differ in one key stand side by side, paired by seed; the gap to joint training, signs included."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from fake_results import digest, fake_method, fake_record, fake_result, with_matrix

from ctbench import compare
from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.results.figures import FIGURES
from ctbench.results.format import result_from, to_record

KEY = "pretrain.schedule"


def run(schedule, method="naive", seed=0, shift=0.0, **recipe):
    """A run under a schedule, its scores shifted; only a schedule that is not linear is set by hand."""
    record = copy.deepcopy(fake_record(method, seed=seed, protocol=digest(schedule, recipe)[:16]))
    record["recipe"]["pretrain"] |= {"schedule": schedule, **recipe}
    changed = {KEY: schedule} if schedule != "linear" else {}
    changed |= {f"pretrain.{key}": str(value) for key, value in recipe.items()}
    record |= {"changed": changed, "not_comparable": [f"{key} was set" for key in changed]}
    record = with_matrix(record, np.array(record["matrix"]) + shift)
    return result_from(record | {"key": digest(schedule, method, seed, recipe)})


RUNS = [run(s, seed=seed, shift=d) for s, d in (("linear", 0.0), ("infinite", 0.02)) for seed in range(6)]


def rows(results, key=KEY, **options):
    (table,) = compare(results, across=key, metric="F_Acc", **options).record()["tables"]
    return table


def test_runs_that_differ_in_one_key_stand_side_by_side_with_its_value():
    table = rows(RUNS, against="naive (schedule=linear)")
    assert table["across"] == KEY
    assert {row["label"]: (row["value"], row["n"]) for row in table["rows"]} == {
        "naive (schedule=infinite)": ("infinite", 6),
        "naive (schedule=linear)": ("linear", 6),
    }
    (test,) = table["comparisons"]
    assert (test["n"], test["difference"]) == (6, pytest.approx(0.02, abs=1e-9))  # paired: each seed differs by as much
    assert KEY in compare(RUNS, across=KEY).render("table")


@pytest.mark.parametrize("asked", ["mine (schedule=linear)", "mine † (schedule=linear)"])
def test_an_own_method_may_be_named_without_its_mark(asked):
    mine = [result_from(to_record(each) | {"method": fake_method("mine", {}, registered=False)}) for each in RUNS]
    table = rows(mine, against=asked, all=True)
    assert [row["label"] for row in table["rows"]] == ["mine † (schedule=infinite)", "mine † (schedule=linear)"]
    assert "mine † (schedule=linear)" in table["comparisons"][0].values()
    with pytest.raises(UnknownName):
        compare(mine, across=KEY, all=True, against="mine (schedule=wsd)")


def test_without_across_they_stay_apart():
    comparison = compare(RUNS)
    assert len(comparison.groups) == 1
    assert "6 runs hidden (not comparable: pretrain.schedule was set)" in comparison.hidden[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["recipe"]["pretrain"].update(lr=5e-4),
        lambda record: record["stream"].update(version=2),
        lambda record: record["stream"].update(digest=digest("other data")),
        lambda record: record["backbone"].update(weights_digest="f" * 64),
        lambda record: record.update(precision="fp32"),
    ],
)
def test_runs_that_differ_in_anything_else_do_not(change):
    other = to_record(run("infinite"))
    change(other)
    with pytest.raises(
        MissingResult, match=r"no two runs differ in pretrain.schedule alone \(values found: infinite, "
    ):
        compare([run("linear"), result_from(other)], across=KEY)


def test_a_run_with_another_setting_by_hand_is_hidden():
    comparison = compare([*RUNS, run("infinite", lr=5e-4)], across=KEY)
    assert sum(len(entry.results) for entry in comparison.groups[0].entries) == 12
    assert "pretrain.lr was set" in comparison.hidden[0]


def unregistered(schedule, seed):
    """A run of a method of one's own, as the engine marks it."""
    record = to_record(run(schedule, "mine", seed))
    record["method"]["registered"] = False
    record["not_comparable"].append("method mine is not registered")
    return result_from(record)


@pytest.mark.parametrize("levels", [False, True])
def test_a_method_of_ones_own_stands_beside_the_registered_ones(levels):
    mine = [unregistered(schedule, seed) for schedule in ("linear", "infinite") for seed in range(6)]
    names = ["naive", "mine"] if levels else ["naive (schedule=infinite)", "mine † (schedule=infinite)"]
    for options in ({"all": True}, {"method": ["naive", "mine"]}):
        table = rows([*RUNS, *mine], planned=":".join(names), levels=levels, **options)
        assert len(table["rows"]) == (2 if levels else 4)
        (test,) = table["comparisons"]
        assert test["n"] == (2 if levels else 6)
    assert len(rows([*RUNS, *mine])["rows"]) == 2, "hidden where it is not named"


def test_what_is_no_part_of_the_protocol_keeps_no_runs_apart():
    probed = to_record(run("infinite"))
    probed["recipe"]["pretrain"] |= {"probes": 8, "shard_weights": True}
    probed["changed"] |= {"pretrain.probes": "8"}
    (table,) = compare([run("linear"), result_from(probed)], across=KEY).record()["tables"]
    assert sorted(row["value"] for row in table["rows"]) == ["infinite", "linear"]


def test_a_key_that_came_later_has_its_default_in_older_files():
    floor = result_from(
        json.loads(json.dumps(fake_record("naive", protocol="f" * 16)))
        | {"changed": {"pretrain.min_lr": "1e-5"}, "not_comparable": ["pretrain.min_lr was set"]}
    )
    floor.recipe.pretrain["min_lr"] = 1e-5
    values = [row["value"] for row in rows([fake_result("naive"), floor], "pretrain.min_lr")["rows"]]
    assert sorted(values) == ["0.0", "1e-05"]


@pytest.mark.parametrize(
    ("key", "values"), [("base.warmup", ["all", "head"]), ("base.head_lr", [1e-3, 5e-4]), ("base.lr", [1e-3, 5e-4])]
)
def test_every_key_of_a_base_will_do(key, values):
    found = []
    for value in values:
        record = fake_record("naive", changed={key: str(value)}, protocol=digest(value)[:16])
        record["backbone"]["digest"] = digest(key, value)
        record["recipe"]["base"] |= {key.removeprefix("base."): value}
        found.append(result_from(record))
    assert {row["value"] for row in rows(found, key)["rows"]} == {str(value) for value in values}


def test_another_language_has_other_data_and_another_base():
    record = copy.deepcopy(fake_record("naive", changed={"language.seed": "7"}, protocol="f" * 16))
    record["stream"]["digest"] = record["backbone"]["digest"] = record["backbone"]["weights_digest"] = digest("seven")
    record = with_matrix(record, np.array(record["matrix"]) + 0.02)
    table = rows([fake_result("naive"), result_from(record)], "language.seed")
    assert sorted(row["value"] for row in table["rows"]) == ["7", "the stream's own"]
    assert any(note.startswith("row 0 ") and note.endswith("the runs have different bases") for note in table["notes"])


def test_streams_of_several_lengths_stand_side_by_side_and_methods_are_compared_over_them():
    found = []
    for method, num_tasks in ((method, number) for method in ("naive", "replay") for number in (3, 5, 7)):
        changed = {} if num_tasks == 5 else {"language.num_domains": str(num_tasks)}
        record = fake_record(method, num_tasks=num_tasks, changed=changed, protocol=digest(num_tasks)[:16])
        record["backbone"]["digest"] = digest(num_tasks)
        found.append(result_from(record))
    table = rows(found, "language.num_domains")
    assert [row["value"] for row in table["rows"]].count("7") == 2
    assert {row["value"] for row in table["rows"]} == {"3", "the stream's own", "7"}
    levels = compare(found, across="language.num_domains", levels=True, metric="F_Acc")
    (board,) = levels.boards
    means = {run.method.name: [] for run in found}
    for run in found:
        means[run.method.name].append(run.metrics["F_Acc"])
    assert {row.entry.label: row.scores["F_Acc"].mean for row in board.rows} == {
        name: pytest.approx(np.mean(values)) for name, values in means.items()
    }


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("schedule", BadConfig, "expected a key of pretrain, finetune, base, language"),
        ("method.rank", BadConfig, "expected a key of"),
        ("pretrain.scheduler", UnknownName, "did you mean 'schedule'"),
    ],
)
def test_a_key_that_does_not_exist_is_refused(key, error, words):
    with pytest.raises(error, match=words):
        compare(RUNS, across=key)


def two_domains(method, rows, seed=0, **options):
    return result_from(with_matrix(fake_record(method, seed=seed, num_tasks=2, **options), rows))


BASE, NONE = [0.5, 0.6], [None, None]
NAIVE = two_domains("naive", [BASE, [0.7, 0.6], [0.6, 0.7]])
JOINT = two_domains("joint", [BASE, [np.nan, np.nan], [0.8, 0.8]], shape="joint")


def test_gap_to_joint_and_recovered_share_against_numbers_by_hand():
    gap, share = FIGURES["gap_to_joint"].function, FIGURES["recovered"].function
    assert gap(NAIVE, JOINT) == pytest.approx(0.15)  # (0.8 - 0.6 + 0.8 - 0.7) / 2
    assert share(NAIVE, JOINT) == pytest.approx((0.1 + 0.1) / (0.3 + 0.2))
    better = two_domains("better", [BASE, [0.7, 0.6], [0.9, 0.8]])
    assert gap(better, JOINT) == pytest.approx(-0.05)
    assert share(better, JOINT) == pytest.approx(0.6 / 0.5)
    assert gap(JOINT, JOINT) == 0.0
    assert share(JOINT, JOINT) == pytest.approx(1.0)
    assert share(NAIVE, two_domains("joint", [BASE, [np.nan] * 2, [0.5, 0.6]], shape="joint")) != share(NAIVE, JOINT)
    assert np.isnan(share(NAIVE, two_domains("joint", [BASE, [np.nan] * 2, [0.4, 0.6]], shape="joint")))
    assert np.isnan(gap(NAIVE))
    assert np.isnan(share(NAIVE))


def test_gap_is_shown_where_a_joint_run_of_the_protocol_exists_even_if_it_is_not_chosen():
    table = compare([NAIVE, JOINT], method="naive", columns="figures").render("markdown")
    assert "gap_to_joint ↓" in table
    assert "+15.0" in table
    assert "gap_to_joint" not in compare([NAIVE], columns="figures").render("markdown")
    elsewhere = two_domains("joint", [BASE, [np.nan] * 2, [0.8, 0.8]], shape="joint", protocol="f" * 16)
    assert "gap_to_joint" not in compare([NAIVE, elsewhere], method="naive", columns="figures").render("markdown")


def test_the_joint_run_of_the_same_seed_counts():
    other = two_domains("joint", [BASE, [np.nan] * 2, [0.9, 0.9]], shape="joint", seed=1)
    row = compare([NAIVE, JOINT, other], method="naive").record()["tables"][0]["rows"][0]
    assert row["figures"]["gap_to_joint"] == pytest.approx(0.15)
    row = compare([NAIVE, other], method="naive").record()["tables"][0]["rows"][0]
    assert row["figures"]["gap_to_joint"] is None


@pytest.mark.parametrize("kind", ["unregistered", "incomplete"])
def test_only_a_complete_run_of_a_registered_method_counts_as_joint(kind):
    """Both are newer than the joint run, which would make them the ones to compare with."""
    record = fake_record("mine", num_tasks=2, shape="joint", registered=kind != "unregistered")
    record["provenance"]["date"] = "2027-01-01T00:00:00Z"
    if kind == "incomplete":
        record["failures"] = [{"node": "stage 1", "key": digest("failed"), "reason": "training diverged"}]
    mine = result_from(with_matrix(record, [BASE, [np.nan] * 2, [0.9, 0.9]]))
    row = compare([NAIVE, JOINT, mine], method="naive").record()["tables"][0]["rows"][0]
    assert row["figures"]["gap_to_joint"] == pytest.approx(0.15)
    for options in ({"method": "naive"}, {"method": "naive", "all": True}):
        row = compare([NAIVE, mine], **options).record()["tables"][0]["rows"][0]
        assert row["figures"]["gap_to_joint"] is None
