"""How many updates a stage makes: as many as its tokens buy, or as the FLOPs of naive's tokens buy (`pretrain.equal_compute`).

What an update costs is measured, for only the method knows: each stage of the plan makes a few updates on random tokens,
with an LM of the run's shapes. FLOPs depend on shapes alone, so nothing of it enters a number but the count of updates.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch

from ctbench.data.packed import Blocks
from ctbench.data.schema import GENERAL
from ctbench.data.settings import PretrainRecipe
from ctbench.data.stream import Stream
from ctbench.engine.identity import BaseIdentity
from ctbench.engine.materials import Materials
from ctbench.engine.node import digest, in_order, plain
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig
from ctbench.machine.device import device, isolated
from ctbench.method import Method
from ctbench.plans import BASE, Plan
from ctbench.plugins.source import source_digest
from ctbench.randomness import make_generator, seed_from
from ctbench.stage import StageInputs
from ctbench.training.pricing import Price, SampledLoop
from ctbench.training.schedules import CROSSING, Place, trunk_steps

if TYPE_CHECKING:
    from ctbench.backbone import Backbone
    from ctbench.engine.inputs import Inputs
    from ctbench.memory import Tree

NUM_BLOCKS: Final = 4096
"""Blocks of random tokens that a measured stage can draw from."""
_SEED: Final = 0
_KNOWN: dict[str, tuple[int, ...]] = {}


def steps_by_tokens(stream: Stream, domains: Sequence[str]) -> int:
    """Return the updates of a stage: one on n domains gets the budget of n; the control gets that of the whole stream."""
    known = [name for name in domains if name in stream.names]
    return stream.recipe.pretrain.num_steps * (len(known) or len(stream.names))


def stage_steps(inputs: Inputs) -> tuple[int, ...]:
    """Return the updates of each stage of a job's method.

    Raises:
        BadConfig: a stage costs more to begin and to end than naive's tokens cost as a whole.
    """
    stream, plan, recipe = inputs.stream, inputs.plan, inputs.stream.recipe.pretrain
    by_tokens = tuple(steps_by_tokens(stream, domains) for domains in plan.stages)
    if not recipe.equal_compute:
        return by_tokens
    asked = digest(
        {
            "method": [inputs.plugin.name, type(inputs.method).version, inputs.method.settings()],
            "code": source_digest(inputs.plugin),
            "plan": dataclasses.asdict(plan),
            "backbone": inputs.backbone,
            "recipe": plain(recipe),
            "steps": by_tokens,
        }
    )
    if asked not in _KNOWN:
        _KNOWN[asked] = _equal_steps(inputs, by_tokens)
    return _KNOWN[asked]


def stage_place(stream: Stream, plan: Plan, steps: Sequence[int], number: int) -> Place | None:
    """Return where a stage of a plan lies in its run; None if the schedule does not cross stages.

    Args:
        stream: the stream.
        plan: the plan.
        steps: the updates of each of its stages.
        number: of the stage, from 1.
    """
    recipe = stream.recipe.pretrain
    if recipe.schedule not in CROSSING:
        return None
    earlier: list[int] = []
    parent = plan.parents[number - 1]
    while parent != BASE:
        earlier.insert(0, steps[parent - 1])
        parent = plan.parents[parent - 1]
    own = steps[number - 1]
    # Only the peaks of later stages under ar_cap depend on the total; other nodes keep their keys.
    is_own_total = recipe.equal_compute and recipe.schedule == "ar_cap" and bool(earlier)
    by_tokens = max(recipe.num_steps * len(stream.names), sum(earlier) + own)
    return Place(
        before=sum(trunk_steps(recipe, steps) for steps in earlier),
        first=earlier[0] if earlier else own,
        total=sum(steps) if is_own_total else by_tokens,
    )


def _equal_steps(inputs: Inputs, by_tokens: Sequence[int]) -> tuple[int, ...]:
    base, naive = _untrained(inputs), Method()
    (usual,) = _prices(inputs, base, naive, [(inputs.plan.stages[0], BASE, by_tokens[0])])
    stages = list(zip(inputs.plan.stages, inputs.plan.parents, by_tokens, strict=True))
    found = []
    for number, (price, steps) in enumerate(
        zip(_prices(inputs, base, inputs.method, stages), by_tokens, strict=True), start=1
    ):
        num_ends = 2 if trunk_steps(inputs.stream.recipe.pretrain, steps) < steps else 1  # a trunk ends, and its branch
        fixed = price.begin + num_ends * price.end
        left = steps * usual.update - fixed
        if left < price.update:
            raise BadConfig(
                f"stage {number} of {inputs.plugin.name} costs {fixed + price.update:.2g} FLOPs with a single update, "
                f"more than all of naive's ({steps * usual.update:.2g}): raise pretrain.tokens, or leave equal_compute out"
            )
        found.append(int(left / price.update + 1e-6))
    return tuple(found)


def _untrained(inputs: Inputs) -> Backbone:
    """Return an LM of the base's shapes; its weights do not matter."""
    materials = Materials(Store(home() / "store", writes=False), home() / "corpora")
    if inputs.base is None:
        return materials.base(inputs.lookup)[0]
    first = in_order([inputs.base])[0].identity
    assert isinstance(first, BaseIdentity)
    return materials.untrained(inputs.lookup, first, None)


def _prices(
    inputs: Inputs, base: Backbone, method: Method, stages: Sequence[tuple[Sequence[str], int, int]]
) -> list[Price]:
    """Return what each stage of a plan costs, given its domains, its parent and its number of updates."""
    recipe = dataclasses.replace(
        inputs.stream.recipe.pretrain,
        precision=cast("Any", inputs.arithmetic["pretrain"].precision),
        compiled=False,
        schedule="constant",
    )
    with isolated(threads=1):
        torch.manual_seed(seed_from(_SEED, inputs.stream.names, "build") >> 1)
        built = method.build(copy.deepcopy(base), inputs.stream)
    done: list[tuple[Backbone, Tree]] = [(built, {})]
    found = []
    for domains, parent, num_steps in stages:
        names = [*domains, *([GENERAL] if method.configured_traits.reads_general_text else [])]
        blocks = {name: _random_blocks(base, recipe, name) for name in names}
        loop = SampledLoop(method, _stage_inputs(done[parent], blocks, recipe, num_steps))
        loop.run()
        done.append((loop.stage.backbone, loop.stage.memory))
        found.append(loop.price)
    return found


def _stage_inputs(
    start: tuple[Backbone, Tree], blocks: dict[str, Blocks], recipe: PretrainRecipe, num_steps: int
) -> StageInputs:
    before, memory = start
    own = dict(blocks)
    general = own.pop(GENERAL, None)
    return StageInputs(
        backbone=copy.deepcopy(before).to(device()),
        memory=copy.deepcopy(memory),
        blocks=own,
        general=general,
        recipe=recipe,
        num_steps=num_steps,
        seed=_SEED,
        load_teacher=lambda: copy.deepcopy(before),
    )


class _RandomTokens:
    """Stands for a file of packed text."""

    def __init__(self, backbone: Backbone, count: int, purpose: str) -> None:
        generator = make_generator(_SEED, [purpose], "random tokens")
        ordinary = np.setdiff1d(np.arange(len(backbone.tokenizer)), sorted(backbone.special_ids))
        self.tokens = generator.choice(ordinary, count)
        self.num_tokens = count


def _random_blocks(backbone: Backbone, recipe: PretrainRecipe, name: str) -> Blocks:
    cls_id = backbone.tokenizer.cls_token_id if backbone.objective == "mlm" else None
    file: Any = _RandomTokens(backbone, NUM_BLOCKS * recipe.length, name)
    return Blocks(file, recipe.length, cls_id=cls_id)
