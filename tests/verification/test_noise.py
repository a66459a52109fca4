"""How far numbers that are computed again may be apart: tolerances worked out by hand."""

from __future__ import annotations

import pytest

from ctbench.verification.noise import bit_for_bit, of_same_weights, of_score, of_trained_loss
from ctbench.verification.verdict import Check


def verdict(stored: float, computed: float | None, allowed: float) -> str:
    return Check(node="cell", of="accuracy", stored=stored, computed=computed, allowed=allowed, reason="").verdict


def test_a_score_may_differ_by_sampling_errors_of_its_test_set():
    assert of_score(0.8, 400).amount == pytest.approx(1.5 * (0.8 * 0.2 / 400) ** 0.5)  # 0.03
    assert of_score(0.8, 400, rough=True).amount == pytest.approx(0.06)
    assert of_score(0.8, 40_000).amount == pytest.approx(0.003)


def test_a_perfect_score_may_still_differ_by_a_few_texts():
    assert of_score(1.0, 400).amount == pytest.approx(1.5 / 400)
    assert of_score(0.0, None).amount == pytest.approx(1.5)


def test_losses_of_the_same_weights_are_closer_than_those_after_training():
    assert of_same_weights(4.0, "fp32").amount == pytest.approx(4e-4)
    assert of_trained_loss(4.0).amount == pytest.approx(8e-3)
    assert of_trained_loss(4.0, rough=True).amount == pytest.approx(0.08)
    assert of_same_weights(4.0, "bf16").amount == pytest.approx(0.08)


def test_a_number_on_equal_arithmetic_agrees_only_bit_for_bit():
    allowed = bit_for_bit().amount
    assert verdict(0.5, 0.5, allowed) == "equal"
    assert verdict(0.5, 0.5025, allowed) == "differs"
    assert verdict(0.5, 0.5025, 0.003) == "within noise"


def test_a_number_that_is_missing_here_differs():
    assert verdict(0.5, None, 1.0) == "differs"
