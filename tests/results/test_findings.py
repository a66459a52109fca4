from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from fake_results import agreeing, fake_plan, fake_record, with_matrix, without_fine_tuning

from ctbench.results.checks import CHECKS
from ctbench.results.findings import find, find_across, known_findings
from ctbench.results.format import result_from, to_record
from ctbench.results.schema import Finding, Result


def result_of(record: dict) -> Result:
    return result_from(agreeing(record))


def codes(record: dict) -> list[str]:
    return [finding.code for finding in find(result_of(record))]


def message(record: dict, code: str) -> str:
    (text,) = [finding.message for finding in find(result_of(record)) if finding.code == code]
    return text


@pytest.mark.parametrize("shape", ["chain", "joint", "separate"])
@pytest.mark.parametrize("method", ["naive", "replay", "hyperprompt"])
@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_a_healthy_result_has_no_findings(method: str, shape: str, num_seeds: int) -> None:
    for seed in range(5):
        assert find(result_of(fake_record(method, seed=seed, shape=shape, num_seeds=num_seeds))) == ()


def issue_10(num_tasks: int = 6) -> list[list[float]]:
    """The matrix of ContinualLM's issue 10: from stage 2 on every column is constant."""
    final = [0.8616, 0.7387, 0.6889, 0.7132, 0.6514, 0.8021][:num_tasks]
    base = [0.7931, 0.6902, 0.6243, 0.6833, 0.6102, 0.7611][:num_tasks]
    first = [0.8437, 0.7011, 0.6302, 0.6790, 0.6255, 0.7702][:num_tasks]
    return [base, first, *[final] * (num_tasks - 1)]


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_constant_columns_of_issue_10_are_flagged(num_seeds: int) -> None:
    record = with_matrix(fake_record(num_tasks=6, num_seeds=num_seeds), issue_10())
    assert "constant-column" in codes(record)
    text = message(record, "constant-column") if num_seeds == 3 else ""
    assert num_seeds == 1 or text.startswith("rows 2, 3, 4, 5, 6 come from different LMs")
    assert num_seeds == 1 or "harbour 86.2, kitchen 73.9, garden 68.9" in text


def test_constant_columns_are_flagged_without_the_cells_too() -> None:
    record = with_matrix(fake_record(num_tasks=6), issue_10()) | {"cells": []}
    assert "constant-column" in codes(record)


def test_cells_that_share_one_source_may_be_equal() -> None:
    record = fake_record(shape="separate", num_tasks=6)
    matrix = result_of(record).matrix
    assert np.array_equal(matrix[0, 3:], matrix[2, 3:]), "cells of the base repeat row 0"
    assert "constant-column" not in codes(record)


def test_equal_scores_of_two_rows_are_flagged_under_three_seeds_but_not_under_one() -> None:
    for num_seeds, expected in ((1, False), (3, True)):
        record = fake_record(num_seeds=num_seeds)
        for cell in [cell for cell in record["cells"] if cell["row"] == 3 and cell["domain"] == "harbour"]:
            twin = next(
                other
                for other in record["cells"]
                if (other["row"], other["domain"], other["finetune_seed"]) == (2, "harbour", cell["finetune_seed"])
            )
            cell |= {"score": twin["score"], "metrics": twin["metrics"]}
        record["matrix"][3][0] = record["matrix"][2][0]
        assert ("constant-column" in codes(record)) is expected


def test_a_cell_without_fine_tuning_counts_once_however_many_seeds_there_are() -> None:
    """Three rows with equal answers to a few questions, as of an LM that answers all alike, are no anomaly."""
    for num_seeds in (1, 3):
        record = without_fine_tuning(fake_record(num_seeds=num_seeds), "harbour")
        for cell in [cell for cell in record["cells"] if cell["row"] in (2, 3, 4) and cell["domain"] == "harbour"]:
            cell |= {"score": 0.25, "metrics": {"accuracy": 0.25, "macro_f1": 0.2 + cell["row"] / 100}}
        assert "constant-column" not in codes(record)
    for cell in [cell for cell in record["cells"] if cell["row"] == 5 and cell["domain"] == "harbour"]:
        cell |= {"score": 0.25, "metrics": {"accuracy": 0.25}}
    assert "constant-column" not in codes(record)
    for cell in [cell for cell in record["cells"] if cell["row"] == 1 and cell["domain"] == "harbour"]:
        cell |= {"score": 0.25, "metrics": {"accuracy": 0.25}}
    assert "constant-column" in codes(record), "five rows have four agreements"


@pytest.mark.parametrize(("tuned", "expected"), [(0, False), (1, True)])
def test_rows_of_two_methods_need_three_different_cells_to_be_called_identical(tuned: int, expected: bool) -> None:
    results = []
    for method in ("naive", "replay"):
        record = with_matrix(fake_record(method, num_tasks=2, num_seeds=2), [[0.5, 0.5], [0.6, 0.7], [0.65, 0.75]])
        result = result_from(without_fine_tuning(record, *record["stream"]["domains"][tuned:]))
        results.append(result)
    assert bool(find_across(results)) is expected


def test_equal_means_of_different_seed_scores_are_not_flagged() -> None:
    record = fake_record(num_seeds=3)
    for cell in [cell for cell in record["cells"] if cell["domain"] == "harbour"]:
        shift = {0: 0.01, 1: -0.01, 2: 0.0}[cell["finetune_seed"]] * cell["row"]
        cell |= {"score": 0.8 + shift, "metrics": {"accuracy": 0.8 + shift}}
    for row in record["matrix"]:
        row[0] = 0.8
    assert "constant-column" not in codes(record)


def test_constant_rows_are_flagged() -> None:
    matrix = np.array(fake_record()["matrix"])
    matrix[3] = 0.7
    text = message(with_matrix(fake_record(), matrix), "constant-row")
    assert text == "row 3: every task has the same score 70.0"


def set_unchanged(record: dict) -> None:
    record["stages"][1]["changed"] = False


def set_same_digest(record: dict) -> None:
    record["stages"][1]["weights_digest"] = record["stages"][0]["weights_digest"]


@pytest.mark.parametrize("damage", [set_unchanged, set_same_digest])
def test_unchanged_weights_are_flagged(damage: Callable[[dict], None]) -> None:
    record = fake_record()
    damage(record)
    assert message(record, "unchanged-weights") == "stage 2 (kitchen) did not change the weights"


def test_a_loss_term_and_a_module_that_did_nothing_are_flagged() -> None:
    record = fake_record()
    record["stages"][1]["notes"] = {"gradient_kd": 0.2, "change_maps": 0.1, "prompt_effect": 0.0}
    assert "inert-component" not in codes(record)
    record["stages"][1]["notes"]["gradient_kd"] = 1e-5
    text = "stage 2 (kitchen): the gradient of the loss term kd was never above 1.0e-05 of the LM loss's"
    assert message(record, "inert-component") == text
    record["stages"][1]["notes"] = {"change_maps": 0.0}
    assert message(record, "inert-component").startswith("stage 2 (kitchen): without the added module maps all outputs")


def test_a_condition_that_does_not_tell_domains_apart_is_flagged() -> None:
    record = fake_record()
    first, last = record["stages"][0], record["stages"][-1]
    first["notes"], last["notes"] = {"prompt_domains": 0.1}, {"prompt_domains": 0.9}
    assert "blind-condition" not in codes(record)
    last["notes"]["prompt_domains"] = 0.25
    guess = 100 / len(record["stream"]["domains"])
    assert message(record, "blind-condition").endswith(f"tells its domain in 25.0 % of tries (guessing: {guess:.1f} %)")


def test_words_unknown_to_the_tokenizer_are_flagged() -> None:
    record = fake_record()
    assert "unknown-words" not in codes(record)
    record["stages"][1]["notes"] = {"unknown_share": 0.83}
    text = "stage 2 (kitchen): 83.0 % of the tokens of its text are unknown to the tokenizer"
    assert message(record, "unknown-words") == text


def test_a_domain_that_was_not_learned_is_flagged() -> None:
    record = fake_record()
    record["lm_loss"][2][1] = record["lm_loss"][1][1] + 0.01
    assert "stage 2 did not lower the held-out LM loss of its own domain kitchen" in message(record, "not-learned")


@pytest.mark.parametrize("shape", ["joint", "separate"])
def test_a_domain_that_was_not_learned_is_flagged_in_other_plans(shape: str) -> None:
    record = fake_record(shape=shape)
    for row, cells in enumerate(record["plan"]["cells"]):
        if cells[1] not in (0, None):
            record["lm_loss"][row][1] = record["lm_loss"][0][1]
    assert "of its own domain kitchen" in message(record, "not-learned")


def test_domain_is_compared_with_row_0_if_its_column_lacks_the_stage_before() -> None:
    record = fake_record(shape="separate")
    record["plan"]["parents"] = list(range(len(record["plan"]["stages"])))
    assert "not-learned" not in codes(record)
    for row, cells in enumerate(record["plan"]["cells"]):
        if cells[1] != 0:
            record["lm_loss"][row][1] = record["lm_loss"][0][1] + 1.0
    assert "stage 2 did not lower" in message(record, "not-learned")


def test_cells_no_better_than_the_majority_class_are_flagged() -> None:
    matrix = np.array(fake_record()["matrix"])
    matrix[2, 3] = 0.13
    record = with_matrix(fake_record(), matrix)
    assert message(record, "below-majority").endswith(": row 2 theatre 13.0 (majority 13.0)")


def test_the_majority_is_compared_with_accuracy_not_with_macro_f1() -> None:
    record = fake_record()
    record["stream"]["metric"] = dict.fromkeys(record["stream"]["domains"], "macro_f1")
    record["stream"]["majority"] = dict.fromkeys(record["stream"]["domains"], 0.5)
    low = np.array(record["matrix"]) * 0.1
    record["matrix"] = low.tolist()
    for cell in record["cells"]:
        cell["score"] = cell["score"] * 0.1
    assert "below-majority" not in codes(record)
    for cell in record["cells"]:
        cell["metrics"]["accuracy"] = 0.4
    assert "below-majority" in codes(record)


def test_a_loss_that_is_not_finite_is_flagged() -> None:
    record = fake_record()
    record["stages"][2]["losses"]["lm"][-3:] = [math.nan] * 3
    assert message(record, "loss-not-finite") == "stage 3 (garden): the loss 'lm' was not finite at 3 logged steps"


def test_a_loss_that_diverged_is_flagged() -> None:
    record = fake_record()
    record["stages"][2]["losses"]["lm"] = np.linspace(3.0, 5.0, 40).tolist()
    assert message(record, "diverged").startswith("stage 3 (garden): the training loss rose from 3.0")


def test_growing_penalty_is_not_flagged_as_divergence() -> None:
    record = fake_record()
    record["stages"][2]["losses"]["penalty"] = np.linspace(0.0, 5.0, 40).tolist()
    record["stages"][2]["losses"]["loss"] = np.linspace(3.0, 8.0, 40).tolist()
    assert "diverged" not in codes(record)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_fine_tuning_seed_far_from_the_others_is_flagged(num_seeds: int) -> None:
    record = fake_record(num_seeds=num_seeds)
    cell = next(c for c in record["cells"] if (c["row"], c["domain"], c["finetune_seed"]) == (2, "garden", 1))
    cell["score"] -= 0.3
    record["matrix"][2][2] -= 0.3 / num_seeds
    assert "row 2 garden seed 1" in message(record, "odd-seed")


def test_single_fine_tuning_seed_is_not_odd() -> None:
    assert "odd-seed" not in codes(fake_record(num_seeds=1))


def test_noisy_seeds_are_not_odd() -> None:
    record = fake_record(num_seeds=3)
    generator = np.random.default_rng(0)
    for cell in record["cells"]:
        cell["score"] = 0.7 + generator.normal(0, 0.04)
    assert "odd-seed" not in codes(record)


def test_a_cell_of_the_plan_without_a_score_is_flagged() -> None:
    record = fake_record()
    record["cells"] = [
        cell | {"score": None} if (cell["row"], cell["domain"]) == (4, "garden") else cell for cell in record["cells"]
    ]
    assert message(record, "missing-cell") == "cells of the plan without a score: row 4 garden"


def twin(record: dict, name: str) -> dict:
    return record | {
        "method": record["method"] | {"name": name, "digest": name},
        "cells": [
            cell | {"source": name + cell["source"] if cell["row"] else cell["source"]} for cell in record["cells"]
        ],
    }


def test_identical_scores_of_different_methods_are_flagged() -> None:
    record = fake_record("naive")
    results = [result_of(record), result_of(twin(record, "other")), result_of(fake_record("replay"))]
    (finding,) = find_across(results)
    assert finding.code == "identical-methods"
    assert finding.message == "naive and other have identical scores: seed 0 (rows 2, 3, 4, 5)"


def test_methods_may_agree_in_row_0_and_in_the_first_stage() -> None:
    naive, replay = fake_record("naive"), fake_record("replay")
    for row in (0, 1):
        replay["matrix"][row] = naive["matrix"][row]
        scores = {(c["domain"], c["finetune_seed"]): c for c in naive["cells"] if c["row"] == row}
        for cell in replay["cells"]:
            if cell["row"] == row:
                other = scores[cell["domain"], cell["finetune_seed"]]
                cell |= {"score": other["score"], "metrics": other["metrics"]}
    assert find_across([result_of(naive), result_of(replay)]) == ()


def test_runs_of_one_method_and_cells_of_one_node_may_agree() -> None:
    record = fake_record("naive")
    assert find_across([result_of(record), result_of(record)]) == ()
    same_nodes = record | {"method": record["method"] | {"name": "alias"}}
    assert find_across([result_of(record), result_of(same_nodes)]) == ()


def test_base_cells_of_different_methods_may_agree() -> None:
    record = fake_record("separate", shape="separate")
    record["plan"]["cells"] = [[0] * 5 for _ in range(6)]
    assert find_across([result_of(record), result_of(twin(record, "other"))]) == ()


def test_findings_never_change_a_number() -> None:
    record = with_matrix(fake_record(num_tasks=6), issue_10())
    result = result_of(record)
    before = to_record(result)
    find(result)
    assert to_record(result) == before


def test_stored_findings_are_kept_and_not_repeated() -> None:
    result = result_of(with_matrix(fake_record(num_tasks=6), issue_10()))
    note = Finding(code="note", message="the LM head was made anew")
    stored = dataclasses.replace(result, findings=(note, *find(result)))
    assert known_findings(stored) == stored.findings


def test_stored_findings_of_a_check_are_replaced_by_current_ones() -> None:
    result = result_of(with_matrix(fake_record(num_tasks=6), issue_10()))
    old = Finding(code="constant-column", message="the words of an older version")
    assert known_findings(dataclasses.replace(result, findings=(old,))) == find(result)


def test_every_check_has_its_own_code_and_meaning() -> None:
    assert len({check.code for check in CHECKS}) == len(CHECKS)
    assert all(check.meaning for check in CHECKS)


def test_stream_of_one_domain_has_no_findings() -> None:
    record = fake_record(num_tasks=1)
    assert find(result_of(record)) == ()
    assert fake_plan(1, "joint", ("harbour",))["cells"] == [[0], [1]]
