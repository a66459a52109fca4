from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ctbench.reporting.entries import means_of_levels
from ctbench.reporting.statistics.intervals import (
    holm,
    mean_interval,
    paired_tests,
    ranks,
    standings,
    tell_apart,
    unit_differences,
)
from ctbench.reporting.statistics.sign_flips import MAX_EXACT, NUM_FLIPS, sign_flip_p, smallest_p
from ctbench.results.metrics import compute

GENERATOR = np.random.default_rng(20)


@pytest.mark.parametrize("n", [2, 7, 24])
def test_interval_equals_scipys_t_interval(n: int) -> None:
    sample = GENERATOR.normal(size=n)
    interval = mean_interval(sample)
    low, high = stats.t.interval(0.95, n - 1, sample.mean(), stats.sem(sample))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (interval.n, interval.kind, interval.deviation) == (n, "t", pytest.approx(sample.std(ddof=1)))


def test_interval_of_equal_values_has_no_width() -> None:
    for n in (3, 30):
        interval = mean_interval([0.25] * n)
        assert (interval.low, interval.high) == (0.25, 0.25)


def test_one_run_has_no_interval() -> None:
    interval = mean_interval([0.5])
    assert interval.mean == 0.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.deviation)
    assert not interval.excludes_zero


def test_missing_values_are_left_out() -> None:
    assert mean_interval([0.5, math.nan, 0.7]).n == 2
    assert mean_interval([math.nan]).n == 0


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_sign_flips_equal_scipys_exact_test(n: int) -> None:
    sample = GENERATOR.normal(0.4, size=n)
    if n == 1:
        assert sign_flip_p(sample) == 1.0
    else:
        theirs = stats.permutation_test((sample,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(sample) == pytest.approx(theirs.pvalue)


def test_random_sign_flips_approximate_the_exact_p_value() -> None:
    sample = np.random.default_rng(5).normal(0.4, size=MAX_EXACT + 4)
    sums = np.array([sample @ signs for signs in np.random.default_rng(6).choice([-1.0, 1.0], size=(100_000, 20))])
    assert sign_flip_p(sample) == pytest.approx((np.abs(sums) >= abs(sample.sum())).mean(), abs=0.01)


def test_rounding_does_not_break_ties() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3]) == 0.25
    assert sign_flip_p([0.1, -0.1]) == 1.0
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip_p([]) == 1.0


def test_smallest_p_is_reached_by_equal_signs() -> None:
    for n in (1, 2, 5, 10):
        assert sign_flip_p(np.linspace(1, 2, n)) == smallest_p(n)
    assert smallest_p(MAX_EXACT + 1) == 1 / (NUM_FLIPS + 1)
    assert sign_flip_p(np.ones(MAX_EXACT + 20)) == pytest.approx(smallest_p(MAX_EXACT + 1))


def test_holm_equals_values_computed_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_value_is_none_if_the_level_is_out_of_reach() -> None:
    five = paired_tests([[0.1, 0.2, 0.3, 0.4, 0.5]])[0]
    assert (five.p, five.adjusted, five.least) == (None, None, 0.0625)
    six = paired_tests([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])[0]
    assert (six.p, six.adjusted) == (0.03125, 0.03125)


def test_smallest_p_includes_holms_factor() -> None:
    sample = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    two = paired_tests([sample, sample])
    assert [test.p for test in two] == [None, None]
    assert two[0].least == 0.0625
    planned = paired_tests([sample], correct=False)[0]
    assert planned.p == planned.adjusted == 0.03125


def test_short_series_does_not_affect_a_long_one() -> None:
    long, short = paired_tests([np.linspace(0.1, 0.2, 10), [0.1, 0.2]])
    assert long.adjusted == pytest.approx(2 * 2 / 2**10)
    assert short.adjusted is None


def test_wins_ties_and_losses_count_runs() -> None:
    test = paired_tests([[0.1, 0.0, -0.2, 0.3]])[0]
    assert (test.wins, test.ties, test.losses) == (2, 1, 1)


def test_methods_tie_if_the_interval_covers_zero() -> None:
    runs = np.array([0.000, 0.002, 0.001, 0.003])
    noise = np.array([0.004, -0.003, 0.002, -0.004])
    scores = np.stack([0.90 + runs, 0.90 + runs + noise, 0.80 + runs])
    outcome = standings(scores)
    assert outcome.tolist() == [[0, 0, 1], [0, 0, 1], [-1, -1, 0]]
    assert ranks(outcome) == [1, 1, 3]


def test_methods_are_paired_over_the_runs_they_share() -> None:
    nan = math.nan
    scores = np.array([[0.9, 0.7, nan, 0.8], [0.8, 0.6, 0.1, nan], [nan, nan, nan, 0.5]])
    assert standings(scores).tolist() == [[0, 1, 0], [-1, 0, 0], [0, 0, 0]]


def test_units_are_the_means_of_levels_with_unequal_numbers_of_runs() -> None:
    runs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (3, 0)]
    one, other = np.array([0.9, 0.7, 0.8, 0.6, 0.5, 0.4, 0.3]), np.array([0.5, 0.1, math.nan, 0.3, 0.4, 0.1, math.nan])
    shared = {run: mine - theirs for run, mine, theirs in zip(runs, one, other, strict=True) if not math.isnan(theirs)}
    (found,) = unit_differences(one, other[None], [level for level, _ in runs])
    assert found[:3] == pytest.approx([0.5, 0.2, 0.3])
    assert found[:3] == pytest.approx(list(means_of_levels(shared).values()))
    assert math.isnan(found[3])


def test_a_level_with_more_runs_does_not_hide_a_difference() -> None:
    """Levels 0.02, 0.03 and 0.02 apart exclude 0; sums over 9, 1 and 1 runs would not."""
    levels = [0] * 9 + [1, 2]
    scores = np.stack([np.array([0.02] * 9 + [0.03, 0.02]), np.zeros(11)])
    assert standings(scores, levels=levels).tolist() == [[0, 1], [-1, 0]]


def test_variances_are_separated() -> None:
    generator = np.random.default_rng(3)
    runs, seeds = generator.normal(0, 0.03, size=(400, 1)), generator.normal(0, 0.01, size=(1, 5))
    spread = tell_apart(0.8 + runs + seeds + generator.normal(0, 0.02, size=(400, 5)))
    assert spread.pretraining == pytest.approx(0.03, rel=0.1)
    assert spread.finetuning == pytest.approx(math.hypot(0.02, seeds.std(ddof=1)), rel=0.1)


def test_variances_cannot_be_separated_with_one_seed_or_run() -> None:
    assert math.isnan(tell_apart(np.ones((3, 1))).finetuning)
    one = tell_apart(np.array([[0.1, 0.3]]))
    assert math.isnan(one.pretraining)
    assert one.finetuning == pytest.approx(math.sqrt(0.02))


def test_fine_tuning_noise_alone_gives_no_pre_training_variance() -> None:
    generator = np.random.default_rng(4)
    spread = tell_apart(generator.normal(0, 0.02, size=(1000, 3)))
    assert spread.pretraining < 0.004


def simulate(num_runs: int, num_trials: int, *, effect: float, seed: int) -> np.ndarray:
    """Differences [trials, runs] of F_Acc between two methods whose cells are correlated within a run."""
    generator = np.random.default_rng(seed)
    shape = (num_trials, num_runs, 4, 3)
    shared = generator.normal(0, 0.02, size=(num_trials, num_runs, 1, 1))

    def cells() -> np.ndarray:
        run = generator.normal(0, 0.01, size=(num_trials, num_runs, 1, 1))
        column = generator.normal(0, 0.01, size=(num_trials, num_runs, 1, 3))
        return 0.8 + shared + run + column + generator.normal(0, 0.005, size=shape)

    one, other = cells() + effect, cells()
    assert compute("F_Acc", one[0, 0]) == pytest.approx(one[0, 0, -1].mean())
    difference: np.ndarray = one[:, :, -1].mean(axis=2) - other[:, :, -1].mean(axis=2)
    return difference


@pytest.mark.parametrize("num_runs", [3, 6, 12, 20])
def test_intervals_are_calibrated(num_runs: int) -> None:
    effect = 0.01
    intervals = [mean_interval(trial) for trial in simulate(num_runs, 4000, effect=effect, seed=num_runs)]
    coverage = np.mean([interval.low <= effect <= interval.high for interval in intervals])
    assert 0.93 <= coverage <= 0.97


@pytest.mark.parametrize("num_runs", [3, 6, 12])
def test_p_values_are_calibrated(num_runs: int) -> None:
    p_values = np.array([sign_flip_p(trial) for trial in simulate(num_runs, 4000, effect=0.0, seed=100 + num_runs)])
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        error = 3 * math.sqrt(level * (1 - level) / len(p_values))
        assert (p_values <= level).mean() <= level + error


def test_p_values_find_an_effect_that_is_there() -> None:
    p_values = np.array([sign_flip_p(trial) for trial in simulate(12, 400, effect=0.02, seed=7)])
    assert (p_values <= 0.05).mean() > 0.8


def test_holm_keeps_the_family_wise_error_below_the_level() -> None:
    """Three methods that are all equal to the fourth, whose runs all comparisons share."""
    generator = np.random.default_rng(12)
    scores = generator.normal(0, 0.01, size=(1500, 4, 8))
    claims, uncorrected = [], []
    for trial in scores:
        tests = paired_tests([trial[k] - trial[0] for k in (1, 2, 3)])
        claims.append(any(test.adjusted is not None and test.adjusted <= 0.05 for test in tests))
        uncorrected.append(any(test.p is not None and test.p <= 0.05 for test in tests))
    assert np.mean(claims) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)
    assert np.mean(uncorrected) > 0.08, "without a correction the level would not hold"


def test_pairing_over_cells_would_not_be_calibrated() -> None:
    """The negative control: cells of one run taken for independent runs make intervals far too narrow."""
    generator = np.random.default_rng(9)
    covered = []
    for _ in range(400):
        runs = generator.normal(0, 0.02, size=(3, 1)) + generator.normal(0, 0.005, size=(3, 12))
        interval = mean_interval(runs.ravel())
        covered.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) < 0.8
