"""The learning rate of every update: schedules of one stage, and schedules that cross stages.

Within a stage of N updates, after a linear warm-up to the peak rate, u the share of the updates after it:

    linear      min_lr + (lr - min_lr) (1 - u)
    cosine      min_lr + (lr - min_lr) (1 + cos(pi u)) / 2
    constant    lr
    wsd         lr; over the last `anneal_fraction` of the stage in a line to min_lr (Hu et al. 2024, 2404.06395)

Across stages, n the updates made before the stage, W the updates of the first warm-up:

    rsqrt       c(n + s) = lr sqrt(W / (n + s + 1)) from update W on, warmed up anew at every stage; over the last
                `anneal_fraction` in a line to min_lr (Zhai et al. 2022, 2106.04560; Li et al. 2025, 2504.02107)
    ar_cap      cosine whose peak is the value at n of one cosine over all updates of the run (2504.02107, TiC-LM)
    infinite    a trunk that is warmed up once, cooled to `constant_fraction` lr if that is below 1, and constant
                through all stages; before every row a branch, of `anneal_fraction` of the stage, falls as
                c (min_lr / c)^v, v the share of the branch (Ibrahim et al. 2024, 2403.08763; Singh et al. 2025, 2503.02844)

Under `infinite` a stage is its trunk and its branch together: the row is the LM after the branch, and the next stage
goes on from the trunk. What the papers call eta_min is `min_lr`, a tenth of `lr` under `infinite` if it is 0, for an
exponential never gets there.

Differs from the papers: the formula of ar_cap is from memory of TiC-LM's code, unconfirmed; so is that its rsqrt goes on
from the cooled-down LM and not from a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ctbench.data.settings import FinetuneRecipe, PretrainRecipe

CROSSING: Final = ("rsqrt", "ar_cap", "infinite")
"""Schedules whose rates depend on the stages before."""
INFINITE_FLOOR: Final = 0.1
"""Where a branch ends if `min_lr` is 0, as a share of `lr`."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stage lies in its run, for schedules that cross stages.

    Args:
        before: updates made in the stages that this one goes on from; those of trunks under `infinite`.
        first: updates of the first of these stages; None if this stage is the first.
        total: updates of the whole run; None if this stage is all of it.
    """

    before: int = 0
    first: int | None = None
    total: int | None = None


START: Final = Place()
"""The place of a first and only stage."""


def learning_rate(recipe: PretrainRecipe | FinetuneRecipe, step: int, num_steps: int, place: Place = START) -> float:
    """Return the learning rate of an update.

    Args:
        recipe: peak rate, warm-up and schedule.
        step: the update, from 0.
        num_steps: updates of the stage or cell.
        place: where the stage lies in its run.

    Examples:
        >>> recipe = PretrainRecipe(tokens=6400, batch=1, length=64, lr=1.0, warmup_fraction=0.1)
        >>> [round(learning_rate(recipe, step, 100), 2) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.01]
    """
    if isinstance(recipe, FinetuneRecipe):
        return recipe.lr * _scale(recipe.schedule, recipe.warmup_fraction, step, num_steps)
    if recipe.schedule in _RATES:
        return _RATES[recipe.schedule](recipe, step, num_steps, place)
    warmup = round(recipe.warmup_fraction * num_steps)
    scale = _scale(recipe.schedule, recipe.warmup_fraction, step, num_steps)
    return recipe.lr * scale if step < warmup else _between(recipe.min_lr, recipe.lr, scale)


def trunk_steps(recipe: PretrainRecipe, num_steps: int) -> int:
    """Return the updates of a stage that its trunk makes: all of them unless the schedule is `infinite`.

    Examples:
        >>> trunk_steps(PretrainRecipe(tokens=1, schedule="infinite", anneal_fraction=0.2), 100)
        80
    """
    if recipe.schedule != "infinite":
        return num_steps
    return max(1, num_steps - max(1, round(recipe.anneal_fraction * num_steps)))


def _scale(schedule: str, warmup_fraction: float, step: int, num_steps: int) -> float:
    """Return the share of the way from the lowest to the peak rate, in (0, 1]."""
    warmup = round(warmup_fraction * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    if schedule == "constant":
        return 1.0
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _annealed(recipe: PretrainRecipe, rate: float, step: int, num_steps: int) -> float:
    """Return `rate`, brought down in a line to `min_lr` over the last updates of a stage."""
    length = max(1, round(recipe.anneal_fraction * num_steps))
    left = num_steps - step
    return rate if left > length else _between(min(recipe.min_lr, rate), rate, left / length)


def _wsd(recipe: PretrainRecipe, step: int, num_steps: int, _place: Place) -> float:
    rate = recipe.lr * _scale("constant", recipe.warmup_fraction, step, num_steps)
    return _annealed(recipe, rate, step, num_steps)


def _rsqrt(recipe: PretrainRecipe, step: int, num_steps: int, place: Place) -> float:
    warmup = max(1, round(recipe.warmup_fraction * (place.first or num_steps)))
    rate = max(recipe.min_lr, recipe.lr * min(1.0, math.sqrt(warmup / (place.before + step + 1))))
    rate *= _scale("constant", recipe.warmup_fraction, step, num_steps)
    return _annealed(recipe, rate, step, num_steps)


def _ar_cap(recipe: PretrainRecipe, step: int, num_steps: int, place: Place) -> float:
    peak = _between(recipe.min_lr, recipe.lr, 0.5 * (1 + math.cos(math.pi * place.before / (place.total or num_steps))))
    scale = _scale("cosine", recipe.warmup_fraction, step, num_steps)
    is_warm = step >= round(recipe.warmup_fraction * num_steps)
    return _between(recipe.min_lr, peak, scale) if is_warm else peak * scale


def _infinite(recipe: PretrainRecipe, step: int, num_steps: int, place: Place) -> float:
    trunk, first = trunk_steps(recipe, num_steps), place.first or num_steps
    rate = _trunk_rate(recipe, place.before + min(step, trunk), first)
    if step < trunk:
        return rate
    low = min(recipe.min_lr or INFINITE_FLOOR * recipe.lr, rate)
    return rate * math.pow(low / rate, (step - trunk) / (num_steps - trunk))


def _trunk_rate(recipe: PretrainRecipe, step: int, first: int) -> float:
    """Return the rate of an update of the trunk, counted over all stages."""
    warmup, constant = round(recipe.warmup_fraction * first), recipe.constant_fraction * recipe.lr
    cooldown = round(recipe.cooldown_fraction * first) if recipe.constant_fraction < 1 else 0
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if step < warmup + cooldown:
        return _between(constant, recipe.lr, 0.5 * (1 + math.cos(math.pi * (step - warmup) / cooldown)))
    return constant


_RATES: Final[dict[str, Callable[[PretrainRecipe, int, int, Place], float]]] = {
    "wsd": _wsd,
    "rsqrt": _rsqrt,
    "ar_cap": _ar_cap,
    "infinite": _infinite,
}
