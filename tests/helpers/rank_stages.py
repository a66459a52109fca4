"""What several ranks train in a test: `torchrun rank_stages.py FOLDER TRIAL,...` writes what the first rank has.

A trial is the name of a method, or one of `CONTROLS`, which do something wrong that must not go unnoticed.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HELPERS = Path(__file__).parent
sys.path[:0] = [str(HELPERS), str(HELPERS.parent)]

import torch  # noqa: E402
from method_helpers import QUICK, RECIPE, build, make_base, make_blocks, make_stream  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from ctbench.backbone import shared  # noqa: E402
from ctbench.errors import RunFailed  # noqa: E402
from ctbench.machine.ranks import ALONE, Ranks, join  # noqa: E402
from ctbench.method import Method  # noqa: E402
from ctbench.plugins.find import get_method  # noqa: E402
from ctbench.stage import StageInputs  # noqa: E402
from ctbench.training.pretrain import StageLoop  # noqa: E402

UNEVEN = replace(RECIPE, batch=5)
"""Two ranks take three rows and two, three take two, two and one."""


class OwnRows(Method):
    """Goes around the shared pass with the rows of its rank."""

    def loss(self, stage, batch):
        number, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        part = stage.mask(stage.blocks[number::size], "own")
        return {"lm": stage.backbone.read(part, None, lm=True).loss}


class WholeBatch(Method):
    """Goes around the shared pass with all rows, which is slow and right."""

    def loss(self, stage, batch):
        return {"lm": stage.backbone.read(batch, None, lm=True).loss}


class OwnNoise(Method):
    """Moves weights by noise of its own."""

    def after_step(self, stage):
        generator = torch.Generator().manual_seed(os.getpid())
        with torch.no_grad():
            for _, weight in stage.backbone.trainable():
                weight += 1e-3 * torch.randn(weight.shape, generator=generator)


class AsksForGradients(Method):
    """Has a penalty on a gradient that only the loop could average."""

    def loss(self, stage, batch):
        loss = stage.backbone(batch).loss
        weights = [weight for _, weight in stage.backbone.trainable()]
        found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        return {"lm": loss, "penalty": sum(each.norm() for each in found if each is not None) * loss}


@contextlib.contextmanager
def patched(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def mean_of_rank_means(size: int) -> Any:
    run = shared._run
    return patched(shared, "_run", lambda backbone, part, given, lm, _: run(backbone, part, given, lm, 1 / size))


CONTROLS = {
    "own rows": (OwnRows, lambda _: contextlib.nullcontext()),
    "whole batch": (WholeBatch, lambda _: contextlib.nullcontext()),
    "own noise": (OwnNoise, lambda _: contextlib.nullcontext()),
    "gradients in the loss": (AsksForGradients, lambda _: contextlib.nullcontext()),
    "rank means": (Method, mean_of_rank_means),
    "no average": (Method, lambda _: patched(Ranks, "average", lambda self, tensors: None)),
}


def make_world(folder: Path) -> SimpleNamespace:
    """Return the same small world in every process."""
    folder.mkdir(exist_ok=True)
    stream = make_stream(folder)
    base = make_base(stream)
    return SimpleNamespace(folder=folder, stream=stream, base=base, blocks=make_blocks(stream, base, folder))


def train(method: Method, world: SimpleNamespace, ranks: Ranks = ALONE, recipe: Any = UNEVEN) -> dict[str, Any]:
    """Return losses, forward tokens and weights after each stage of a method."""
    plan, done, found = method.plan(world.stream), [(build(method, world.base, world.stream), {})], []
    for domains, parent in zip(plan.stages, plan.parents, strict=True):
        before, memory = done[parent]
        inputs = StageInputs(
            backbone=build(method, world.base, world.stream),
            memory=copy.deepcopy(memory),
            blocks={name: world.blocks[name] for name in domains},
            recipe=recipe,
            num_steps=6,
            seed=0,
            load_teacher=lambda before=before: before,
            ranks=ranks,
        )
        inputs.backbone.load_state(before.state())
        loop = StageLoop(method, inputs)
        record = loop.run()
        done.append((loop.stage.backbone, loop.stage.memory))
        loop.stage.backbone.sharing = None
        state = loop.stage.backbone.state()
        told = {"losses": dict(record.losses), "tokens": record.forward_tokens, "notes": dict(record.notes)}
        found.append({**told, "weights": state})
    return {"stages": found}


def attempt(name: str, world: SimpleNamespace, ranks: Ranks) -> dict[str, Any]:
    make, breaking = CONTROLS.get(
        name, (lambda: get_method(name, **QUICK.get(name, {})), lambda _: contextlib.nullcontext())
    )
    try:
        with breaking(ranks.size):
            return train(make(), world, ranks)
    except RunFailed as error:
        return {"refused": str(error)}


def main(attempt: Callable[[str, SimpleNamespace, Ranks], dict[str, Any]] = attempt) -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2].split(",")
    ranks = join()
    world = make_world(folder / f"rank-{ranks.number}")
    found = {name: attempt(name, world, ranks) for name in names}
    if ranks.is_first:
        for name, trial in found.items():
            for number, stage in enumerate(trial.get("stages", ())):
                save_file(stage.pop("weights"), folder / f"{name}-{number}.safetensors")
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
