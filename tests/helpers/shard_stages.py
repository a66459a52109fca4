"""What ranks train with weights in shards: `torchrun shard_stages.py FOLDER TRIAL,...` writes what the first rank has.

A trial is the name of a method, with settings of the recipe behind it as in `naive accumulate=2`; or one of `TRIALS`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).parent)]

import rank_stages  # noqa: E402
import torch  # noqa: E402
from method_helpers import QUICK, build  # noqa: E402
from rank_stages import UNEVEN, mean_of_rank_means, patched, train  # noqa: E402
from torch.distributed.fsdp import FSDPModule  # noqa: E402
from torch.distributed.tensor import DTensor  # noqa: E402

from ctbench.engine.resume import load_checkpoint, save_checkpoint  # noqa: E402
from ctbench.errors import CTBenchError  # noqa: E402
from ctbench.machine.ranks import Ranks  # noqa: E402
from ctbench.method import Method  # noqa: E402
from ctbench.plugins.find import get_method  # noqa: E402
from ctbench.stage import StageInputs  # noqa: E402
from ctbench.training import together  # noqa: E402
from ctbench.training.hooks import LoopHooks  # noqa: E402
from ctbench.training.optimizer import load_optimizer_state, optimizer_state  # noqa: E402
from ctbench.training.pretrain import StageLoop  # noqa: E402

SHARDED = replace(UNEVEN, shard_weights=True)
LONG = 16
"""Updates of a stage with a checkpoint after the tenth."""


class ReadsWeights(Method):
    """Reads weights where each rank holds a part of them."""

    def loss(self, stage, batch):
        terms = super().loss(stage, batch)
        weights = stage.backbone.layers[0].parameters()
        return terms | {"penalty": sum((weight - torch.ones(weight.shape)).square().sum() for weight in weights)}


class ReadsShards(Method):
    """Has a term that is made of nothing but parts of weights."""

    def loss(self, stage, batch):
        weights = stage.backbone.layers[0].parameters()
        return super().loss(stage, batch) | {"size": sum(weight.square().sum() for weight in weights)}


class TwoPasses(Method):
    """Looks at the hidden states of a pass without the LM head, and of one without a gradient."""

    def loss(self, stage, batch):
        hidden = stage.backbone(batch, lm=False).hidden
        with torch.no_grad():
            bare = stage.backbone(batch, lm=False).hidden
        return super().loss(stage, batch) | {"hidden": (hidden.square() + bare * hidden).mean()}

    def end(self, stage):
        stage.note(trains=all(module.training for module in stage.backbone.modules()))


class OwnPart:
    """Takes the place of a reduction: every rank keeps its own gradient of its shard."""

    def allocate(self, size, *, dtype, device):
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor, input_tensor, group, op, async_op=False):
        output_tensor.copy_(input_tensor.chunk(group.size())[group.rank()])


def breaking_shards(break_module: Callable[[FSDPModule], None]) -> Any:
    split = together.split

    def broken(*arguments: Any) -> Any:
        found = split(*arguments)
        for module in found.modules():
            if isinstance(module, FSDPModule):
                break_module(module)
        return found

    return patched(together, "split", broken)


def make_loop(method: Method, world: SimpleNamespace, ranks: Ranks, *, num_steps: int) -> StageLoop:
    inputs = StageInputs(
        backbone=build(method, world.base, world.stream),
        memory={},
        blocks=dict(list(world.blocks.items())[:1]),
        recipe=SHARDED,
        num_steps=num_steps,
        seed=0,
        load_teacher=lambda: world.base,
        ranks=ranks,
    )
    return StageLoop(method, inputs)


def resume(world: SimpleNamespace, ranks: Ranks) -> dict[str, Any]:
    """Train a stage, and once more from its checkpoint, which the first rank has written."""
    folder = world.folder.parent / "checkpoints"
    save = (lambda checkpoint: save_checkpoint(folder, checkpoint)) if ranks.is_first else None
    loop = make_loop(Method(), world, ranks, num_steps=LONG)
    record = loop.run(LoopHooks(save=save, save_seconds=0.0))
    wanted = {"losses": dict(record.losses), "weights": loop.stage.backbone.state()}
    ranks.first_of("written")
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint.step == 10
    loop = make_loop(Method(), world, ranks, num_steps=LONG)
    record = loop.run(checkpoint=checkpoint)
    return {"stages": [wanted, {"losses": dict(record.losses), "weights": loop.stage.backbone.state()}]}


def count(world: SimpleNamespace, ranks: Ranks) -> dict[str, Any]:
    """Count the numbers that this rank holds of weights, gradients and moments, and at most while a pass runs."""
    loop = make_loop(Method(), world, ranks, num_steps=LONG)
    found = {"whole": sum(weight.numel() for weight in loop.trained.values()), "pass": 0}
    with loop.together.sharded(loop):
        step = loop.optimizer.step

        def counted() -> None:
            found["gradients"] = sum(held(weight.grad) for weight in loop.trained.values())
            step()

        loop.optimizer.step = counted
        for layer in loop.stage.backbone.layers:
            layer.register_forward_pre_hook(lambda *_: found.update({"pass": max(found["pass"], put_together(loop))}))
        found["largest layer"] = max(sum(map(torch.numel, each.parameters())) for each in loop.stage.backbone.layers)
        found["outside of layers"] = found["whole"] - sum(
            sum(map(torch.numel, each.parameters())) for each in loop.stage.backbone.layers
        )
        loop._update(0)
        found["weights"] = sum(map(held, loop.stage.backbone.parameters()))
        found["moments"] = sum(held(state["exp_avg"]) for state in loop.optimizer.state.values())
        load_optimizer_state(loop.optimizer, loop.trained, optimizer_state(loop.optimizer, loop.trained))
        kept = [state["exp_avg"].to_local().untyped_storage().nbytes() for state in loop.optimizer.state.values()]
        found["loaded moments"] = sum(kept) // 4
    return found


def held(tensor: torch.Tensor) -> int:
    return tensor.to_local().numel() if isinstance(tensor, DTensor) else tensor.numel()


def put_together(loop: StageLoop) -> int:
    """Count the weights that are whole at this moment."""
    return sum(weight.numel() for weight in loop.stage.backbone.parameters() if not isinstance(weight, DTensor))


def _control(method: type[Method], breaking: Any = None) -> Callable[[SimpleNamespace, Ranks], dict[str, Any]]:
    def run(world: SimpleNamespace, ranks: Ranks) -> dict[str, Any]:
        with contextlib.nullcontext() if breaking is None else breaking(ranks.size):
            return train(method(), world, ranks, SHARDED)

    return run


TRIALS = {
    "resume": resume,
    "count": count,
    "two passes": _control(TwoPasses),
    "reads weights": _control(ReadsWeights),
    "reads shards": _control(ReadsShards),
    "rank means": _control(Method, mean_of_rank_means),
    "own gradients": _control(Method, lambda _: breaking_shards(lambda mod: mod.set_custom_reduce_scatter(OwnPart()))),
}


def attempt(name: str, world: SimpleNamespace, ranks: Ranks) -> dict[str, Any]:
    try:
        if name in TRIALS:
            return TRIALS[name](world, ranks)
        method, *words = name.split()
        changes = {key: int(value) for key, _, value in (word.partition("=") for word in words)}
        made = get_method(method, **QUICK.get(method, {}))
        return train(made, world, ranks, replace(SHARDED, **changes))
    except CTBenchError as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    rank_stages.main(attempt)
