"""Every schedule against its closed form; every method keeps its laws under schedules that cross stages."""

from __future__ import annotations

import math

import pytest
from method_helpers import QUICK, core_first

from ctbench.data.settings import PretrainRecipe
from ctbench.laws import judge
from ctbench.laws.dry_run import DryRun
from ctbench.laws.world import tiny_world
from ctbench.plugins.find import find_plugins, load_class
from ctbench.training.schedules import START, Place, learning_rate, trunk_steps

LR, N = 2.0e-3, 100


def recipe(schedule, **settings):
    return PretrainRecipe(tokens=N, batch=1, length=4, lr=LR, schedule=schedule, **settings)


def rates(schedule, place=START, num_steps=N, **settings):
    return [learning_rate(recipe(schedule, **settings), step, num_steps, place) for step in range(num_steps)]


def warm(step, warmup=10):
    return LR * (step + 1) / warmup


@pytest.mark.parametrize("low", [0.0, 1e-4])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_within_a_stage_the_rate_falls_to_min_lr(schedule, low):
    share = {"linear": lambda u: 1 - u, "cosine": lambda u: (1 + math.cos(math.pi * u)) / 2}[schedule]
    wanted = [warm(s) if s < 10 else low + (LR - low) * share((s - 10) / 90) for s in range(N)]
    assert rates(schedule, min_lr=low) == pytest.approx(wanted, rel=1e-12)


def test_min_lr_of_zero_changes_no_bit_and_constant_has_no_floor():
    for step, rate in enumerate(rates("linear")):
        assert rate == LR * ((step + 1) / 10 if step < 10 else 1.0 - (step - 10) / 90)
    assert rates("constant", min_lr=1e-3) == rates("constant")


def test_wsd_holds_and_then_falls_in_a_line():
    wanted = [warm(s) if s < 10 else LR if s < 80 else 1e-4 + (LR - 1e-4) * (100 - s) / 20 for s in range(N)]
    assert rates("wsd", min_lr=1e-4) == pytest.approx(wanted, rel=1e-12)
    assert rates("wsd", anneal_fraction=0.5)[50] == LR > rates("wsd", anneal_fraction=0.5)[51]


def test_rsqrt_goes_on_over_stages_and_is_warmed_up_and_annealed_in_each():
    def curve(update):
        return LR * min(1.0, math.sqrt(10 / (update + 1)))

    def wanted(before, step):
        rate = curve(before + step) * min(1.0, (step + 1) / 10)
        return rate * (N - step) / 20 if step >= 80 else rate

    for before in (0, 100, 200):
        place = Place(before=before, first=N, total=3 * N)
        assert rates("rsqrt", place) == pytest.approx([wanted(before, step) for step in range(N)], rel=1e-12)
    assert rates("rsqrt", Place(before=100, first=N))[20] < rates("rsqrt")[20]


def test_ar_cap_peaks_on_one_cosine_over_the_run():
    for number, before in enumerate((0, 100, 200, 300)):
        peak = 1e-4 + (LR - 1e-4) * (1 + math.cos(math.pi * number / 4)) / 2
        place = Place(before=before, first=N, total=4 * N)
        found = rates("ar_cap", place, min_lr=1e-4)
        wanted = [
            peak * (s + 1) / 10 if s < 10 else 1e-4 + (peak - 1e-4) * (1 + math.cos(math.pi * (s - 10) / 90)) / 2
            for s in range(N)
        ]
        assert found == pytest.approx(wanted, rel=1e-12)
        assert max(found) == pytest.approx(peak)
    assert rates("ar_cap") == pytest.approx(rates("cosine"), rel=1e-12)


def test_infinite_warms_up_once_stays_constant_and_anneals_a_branch():
    first = rates("infinite")
    assert first[:10] == pytest.approx([warm(s) for s in range(10)])
    assert set(first[10:80]) == {LR}
    assert first[80:] == pytest.approx([LR * 0.1 ** ((s - 80) / 20) for s in range(80, 100)], rel=1e-12)
    later = rates("infinite", Place(before=80, first=N, total=2 * N), min_lr=1e-4)
    assert set(later[:80]) == {LR}
    assert later[80:] == pytest.approx([LR * (1e-4 / LR) ** ((s - 80) / 20) for s in range(80, 100)], rel=1e-12)


def test_infinite_cools_to_its_constant_once():
    def trunk(update):
        if update < 10:
            return warm(update)
        constant = 0.4 * LR
        if update < 40:
            return constant + (LR - constant) / 2 * (1 + math.cos(math.pi * (update - 10) / 30))
        return constant

    settings = {"constant_fraction": 0.4, "cooldown_fraction": 0.3}
    assert rates("infinite", **settings)[:80] == pytest.approx([trunk(s) for s in range(80)], rel=1e-12)
    later = rates("infinite", Place(before=80, first=N), **settings)
    assert later[:81] == pytest.approx([0.4 * LR] * 81)


def test_a_trunk_longer_than_its_first_stage_goes_on_warming_up():
    place = Place(before=8, first=100)
    assert rates("infinite", place, num_steps=10)[:2] == pytest.approx([warm(8), warm(9)])


@pytest.mark.parametrize(("num_steps", "wanted"), [(1, 1), (2, 1), (3, 2), (10, 8), (100, 80)])
def test_a_trunk_and_a_branch_have_an_update_each_where_there_are_two(num_steps, wanted):
    assert trunk_steps(recipe("infinite"), num_steps) == wanted
    assert trunk_steps(recipe("wsd"), num_steps) == num_steps


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd", "rsqrt", "ar_cap", "infinite"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_rates_of_short_stages_are_positive_and_at_most_the_peak(schedule, num_steps):
    for before in (0, 5):
        found = rates(schedule, Place(before=before, first=7, total=30), num_steps=num_steps)
        assert all(0 < rate <= LR * (1 + 1e-12) for rate in found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schedule": "linear", "min_lr": 1.0}, "min_lr must be at most lr"),
        ({"schedule": "wsd", "warmup_fraction": 0.5, "anneal_fraction": 0.6}, "must be at most 1"),
        (
            {"schedule": "infinite", "constant_fraction": 0.5, "cooldown_fraction": 0.8},
            "warmup_fraction . anneal_fraction . cooldown_fraction must be at most 1",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        recipe(**settings)


TRUNK = {"pretrain.schedule": "infinite", "pretrain.anneal_fraction": "0.1", "pretrain.carry_optimizer": "true"}
LAWFUL = {
    "interrupted on the trunk": TRUNK,
    "interrupted on the branch": {
        "pretrain.schedule": "infinite",
        "pretrain.anneal_fraction": "0.4",
        "pretrain.tokens": str(22 * 16 * 8),
    },
    "rsqrt": {"pretrain.schedule": "rsqrt", "pretrain.carry_optimizer": "true", "pretrain.min_lr": "1e-3"},
}


@pytest.fixture(scope="module", params=LAWFUL)
def world(request):
    with tiny_world("mlm", LAWFUL[request.param]) as made:
        yield made


@pytest.mark.parametrize("name", core_first(find_plugins("method")))
def test_every_method_keeps_its_laws_under_schedules_that_cross_stages(name, world):
    verdicts = judge(load_class(find_plugins("method")[name]), world, name, QUICK.get(name))
    assert [(verdict.law, verdict.line) for verdict in verdicts if not verdict.holds] == []


def test_the_laws_were_judged_on_a_trunk_and_a_branch(world):
    run = DryRun(load_class(find_plugins("method")["naive"]), world)
    has_trunk = world.stream.recipe.pretrain.schedule == "infinite"
    assert all((done.onward is not None) == has_trunk for done in run.first)
    if has_trunk:
        one = run.first[0]
        assert any((one.state[name] != one.onward.state[name]).any() for name in one.state)
