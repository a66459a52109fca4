from __future__ import annotations

import math

import numpy as np
import pytest

from ctbench.errors import UnknownName
from ctbench.results.loss_metrics import all_loss_metrics
from ctbench.results.matrix import as_matrix
from ctbench.results.metrics import METRICS, all_metrics, compute, get_metric

NAN = math.nan

# Worked out by hand: three domains, so that every metric has a term that another one lacks.
HAND = np.array(
    [
        [0.50, 0.60, 0.70],
        [0.90, 0.55, 0.60],
        [0.80, 0.95, 0.75],
        [0.60, 0.85, 1.00],
    ]
)
HAND_METRICS = {
    "A_Acc": (0.90 + 0.95 + 1.00) / 3,
    "O_Acc": (0.55 + 0.60 + 0.75) / 3,
    "F_Acc": (0.60 + 0.85 + 1.00) / 3,
    "BWT": ((0.60 - 0.90) + (0.85 - 0.95)) / 2,
    "FWT": ((0.55 - 0.60) + (0.75 - 0.70)) / 2,
    "FWT_all": ((0.55 - 0.60) + (0.60 - 0.70) + (0.75 - 0.70)) / 3,
    "forgetting": ((0.90 - 0.60) + (0.95 - 0.85)) / 2,
    "anytime": (0.90 + 0.55 + 0.60 + 0.80 + 0.95 + 0.75 + 0.60 + 0.85 + 1.00) / 9,
    "gain": (0.40 - 0.05 - 0.10 + 0.30 + 0.35 + 0.05 + 0.10 + 0.25 + 0.30) / 9,
    "negative_transfer": 2 / 9,
    "worst": (0.90 + 0.80 + 0.60) / 3,
}


@pytest.mark.parametrize("name", METRICS)
def test_metric_equals_the_value_computed_by_hand(name: str) -> None:
    assert compute(name, HAND) == pytest.approx(HAND_METRICS[name], abs=1e-12)


def test_every_metric_has_a_value_computed_by_hand() -> None:
    assert set(all_metrics(HAND)) == set(HAND_METRICS)


def test_forgetting_uses_the_best_stage_that_has_seen_the_domain() -> None:
    late_best = np.array([[0.9, 0.1, 0.1], [0.5, 0.1, 0.1], [0.8, 0.6, 0.1], [0.4, 0.6, 0.6]])
    assert compute("forgetting", late_best) == pytest.approx((0.8 - 0.4) / 2)
    assert compute("BWT", late_best) == pytest.approx((0.4 - 0.5) / 2)


def test_forgetting_is_negative_if_later_stages_help() -> None:
    assert compute("forgetting", np.array([[0.5, 0.5], [0.6, 0.5], [0.8, 0.7]])) == pytest.approx(-0.2)


def test_one_domain_has_no_transfer() -> None:
    values = all_metrics(np.array([[0.5], [0.75]]))
    assert {name for name, value in values.items() if value is None} == {"O_Acc", "BWT", "FWT", "FWT_all", "forgetting"}
    assert values["A_Acc"] == values["F_Acc"] == values["anytime"] == values["worst"] == 0.75
    assert values["gain"] == 0.25
    assert values["negative_transfer"] == 0.0


def test_two_domains() -> None:
    values = all_metrics(np.array([[0.5, 0.5], [0.75, 0.25], [0.5, 1.0]]))
    assert values == {
        "A_Acc": 0.875,
        "O_Acc": 0.25,
        "F_Acc": 0.75,
        "BWT": -0.25,
        "FWT": -0.25,
        "FWT_all": -0.25,
        "forgetting": 0.25,
        "anytime": 0.625,
        "gain": 0.125,
        "negative_transfer": 0.25,
        "worst": 0.625,
    }


def test_joint_has_only_its_last_row() -> None:
    joint = HAND.copy()
    joint[1:-1] = NAN
    values = all_metrics(joint)
    assert {name for name, value in values.items() if value is not None} == {"F_Acc", "gain"}
    assert values["F_Acc"] == pytest.approx(HAND_METRICS["F_Acc"])
    assert values["gain"] == pytest.approx((0.10 + 0.25 + 0.30) / 3)


def test_a_run_of_several_stages_is_no_joint_one_when_its_rows_in_between_are_missing() -> None:
    """Its gain would be that of the last row alone, and no one could see it."""
    broken = HAND.copy()
    broken[1:-1] = NAN
    values = all_metrics(broken, num_stages=3)
    assert {name for name, value in values.items() if value is not None} == {"F_Acc"}
    assert all_metrics(broken, num_stages=1) == all_metrics(broken)
    assert all_loss_metrics(broken, num_stages=3)["gain"] is None
    assert all_loss_metrics(broken, num_stages=1)["gain"] is not None


def test_partial_means_do_not_define_metrics_that_joint_lacks() -> None:
    joint = HAND.copy()
    joint[1:-1] = NAN
    assert all_metrics(joint, partial=True) == all_metrics(joint)


def test_separate_has_neither_transfer_nor_forgetting() -> None:
    base, own = np.array([0.5, 0.6, 0.7]), np.array([0.9, 0.95, 1.0])
    separate = np.stack([np.where(np.arange(3) < row, own, base) for row in range(4)])
    values = all_metrics(separate)
    assert [values[name] for name in ("BWT", "FWT", "FWT_all", "forgetting", "negative_transfer")] == [0.0] * 5
    assert values["O_Acc"] == pytest.approx((0.6 + 0.7 + 0.7) / 3)
    assert values["F_Acc"] == pytest.approx(own.mean())


NEEDS = {
    (0, 0): {"gain", "negative_transfer"},
    (0, 1): {"gain", "negative_transfer", "FWT", "FWT_all"},
    (1, 0): {"A_Acc", "BWT", "forgetting", "anytime", "gain", "negative_transfer", "worst"},
    (1, 2): {"O_Acc", "FWT_all", "anytime", "gain", "negative_transfer", "worst"},
    (2, 0): {"forgetting", "anytime", "gain", "negative_transfer", "worst"},
    (3, 2): {"A_Acc", "F_Acc", "anytime", "gain", "negative_transfer", "worst"},
}


@pytest.mark.parametrize("cell", NEEDS)
def test_metric_that_needs_a_missing_cell_is_missing(cell: tuple[int, int]) -> None:
    holed = HAND.copy()
    holed[cell] = NAN
    values = all_metrics(holed)
    assert {name for name, value in values.items() if value is None} == NEEDS[cell]
    kept = set(HAND_METRICS) - NEEDS[cell]
    assert {name: values[name] for name in kept} == pytest.approx({name: HAND_METRICS[name] for name in kept})


def test_partial_means_use_the_existing_cells() -> None:
    holed = HAND.copy()
    holed[1, 0] = NAN
    assert compute("A_Acc", holed, partial=True) == pytest.approx((0.95 + 1.00) / 2)
    assert compute("forgetting", holed, partial=True) == pytest.approx(((0.80 - 0.60) + (0.95 - 0.85)) / 2)
    assert all(value is not None for value in all_metrics(holed, partial=True).values())


def test_partial_means_without_cells_are_missing() -> None:
    assert set(all_metrics(np.full((3, 2), NAN), partial=True).values()) == {None}


def test_partial_changes_nothing_in_complete_sets() -> None:
    assert all_metrics(HAND, partial=True) == all_metrics(HAND)


def test_every_metric_is_explained() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.definition
        assert metric.source
    assert "fine-tuned untouched LM" in METRICS["FWT"].source
    assert {name for name, metric in METRICS.items() if metric.better == "lower"} == {"forgetting", "negative_transfer"}


def test_unknown_metric_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="did you mean 'F_Acc'"):
        get_metric("F_acc")


@pytest.mark.parametrize("rows", [[[0.5]], [[0.5, 0.5]], [0.5], [[0.5, 0.5], [0.5, 0.5]]])
def test_matrix_of_another_shape_is_rejected(rows: object) -> None:
    with pytest.raises(ValueError, match=r"T \+ 1 rows"):
        as_matrix(rows)


def test_lists_with_none_are_matrices() -> None:
    assert all_metrics([[0.5, None], [0.6, 0.7], [0.6, 0.7]])["FWT"] is None
