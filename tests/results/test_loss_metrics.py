"""The metrics of LM losses against a matrix worked out by hand, signs included."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ctbench.errors import UnknownName
from ctbench.results.loss_metrics import LOSS_METRICS, all_loss_metrics, find_metric, metrics_on
from ctbench.results.metrics import METRICS, all_metrics

NAN = math.nan

# Nats: domain 1 is learned, forgotten and partly recovered; domain 2 rises before its stage; domain 3 gets help from stage 2.
HAND = np.array(
    [
        [5.0, 4.0, 6.0],
        [2.0, 4.5, 6.0],
        [3.5, 1.0, 5.0],
        [3.0, 2.5, 1.5],
    ]
)
BY_HAND = {
    "anytime": (2.0 + 4.5 + 6.0 + 3.5 + 1.0 + 5.0 + 3.0 + 2.5 + 1.5) / 9,
    "learned": (2.0 + 1.0 + 1.5) / 3,
    "unseen": (4.5 + 6.0 + 5.0) / 3,
    "final": (3.0 + 2.5 + 1.5) / 3,
    "BWT": ((2.0 - 3.0) + (1.0 - 2.5)) / 2,
    "FWT": ((4.0 - 4.5) + (6.0 - 5.0)) / 2,
    "FWT_all": ((4.0 - 4.5) + (6.0 - 6.0) + (6.0 - 5.0)) / 3,
    "forgetting": ((3.0 - 2.0) + (2.5 - 1.0)) / 2,
    "gain": (3.0 - 0.5 + 0.0 + 1.5 + 3.0 + 1.0 + 2.0 + 1.5 + 4.5) / 9,
    "negative_transfer": 1 / 9,
    "worst": (6.0 + 5.0 + 1.5) / 3,
}


@pytest.mark.parametrize("name", LOSS_METRICS)
def test_loss_metric_equals_the_value_computed_by_hand(name: str) -> None:
    assert LOSS_METRICS[name].of(HAND) == pytest.approx(BY_HAND[name], abs=1e-12)
    assert all_loss_metrics(HAND)[name] == pytest.approx(BY_HAND[name], abs=1e-12)


def test_every_loss_metric_has_a_value_by_hand_and_a_counterpart_of_scores() -> None:
    assert set(LOSS_METRICS) == set(BY_HAND)
    assert {find_metric(name, "loss").name for name in METRICS} == set(LOSS_METRICS)


def test_signs_say_what_is_better() -> None:
    """A loss that falls everywhere improves every metric in the direction that it declares."""
    better = HAND.copy()
    better[1:] -= 0.25
    better[-1] -= 0.25
    for name, metric in LOSS_METRICS.items():
        change = metric.of(better) - metric.of(HAND)
        if name == "negative_transfer":
            assert change == pytest.approx(0.0), "one cell stays above row 0"
        else:
            assert change < 0 if metric.better == "lower" else change > 0, name
    assert {name for name, metric in LOSS_METRICS.items() if metric.better == "higher"} == {
        "BWT",
        "FWT",
        "FWT_all",
        "gain",
    }
    assert all_metrics(HAND)["forgetting"] != pytest.approx(BY_HAND["forgetting"]), "a loss is not a score"


def test_forgetting_starts_at_the_minimum_and_is_negative_if_later_stages_help() -> None:
    late = np.array([[5.0, 5.0, 5.0], [3.0, 5.0, 5.0], [2.0, 3.0, 5.0], [2.5, 3.0, 3.0]])
    assert LOSS_METRICS["forgetting"].of(late) == pytest.approx((2.5 - 2.0) / 2)
    assert LOSS_METRICS["BWT"].of(late) == pytest.approx((3.0 - 2.5) / 2)
    assert LOSS_METRICS["forgetting"].of(np.array([[5.0, 5.0], [4.0, 5.0], [3.0, 2.0]])) == pytest.approx(-1.0)


def test_a_missing_loss_makes_what_needs_it_undefined() -> None:
    holed = HAND.copy()
    holed[1, 2] = NAN
    values = all_loss_metrics(holed)
    undefined = {name for name, value in values.items() if value is None}
    assert undefined == {"anytime", "unseen", "FWT_all", "gain", "negative_transfer", "worst"}
    partial = LOSS_METRICS["unseen"].of(holed, partial=True)
    assert partial == pytest.approx((4.5 + 5.0) / 2)


def test_joint_training_has_a_final_loss_and_a_gain_only() -> None:
    joint = np.array([[5.0, 4.0, 6.0], [NAN] * 3, [NAN] * 3, [2.0, 2.0, 2.0]])
    values = all_loss_metrics(joint)
    assert {name for name, value in values.items() if value is not None} == {"final", "gain"}
    assert values["gain"] == pytest.approx(3.0)


def test_names_of_scores_find_their_loss_and_others_are_refused() -> None:
    assert [find_metric(name, "loss").name for name in ("A_Acc", "O_Acc", "F_Acc")] == ["learned", "unseen", "final"]
    assert find_metric("A_Acc") is METRICS["A_Acc"]
    with pytest.raises(UnknownName, match="did you mean 'learned'"):
        find_metric("learnd", "loss")
    with pytest.raises(UnknownName, match="no metric 'learned'"):
        find_metric("learned")
    with pytest.raises(UnknownName, match="did you mean 'loss'"):
        metrics_on("losses")
