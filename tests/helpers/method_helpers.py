"""What the tests of methods share: a tiny LM, packed text, and one stage run by the engine's own loop."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_streams import write_stream

from ctbench.backbone import Backbone
from ctbench.backbone.tiny import build_tiny
from ctbench.data.settings import PretrainRecipe
from ctbench.data.sources import read_texts
from ctbench.data.stream import Stream
from ctbench.data.tokens import Blocks, pack
from ctbench.machine.device import isolated
from ctbench.memory import Tree
from ctbench.method import Method
from ctbench.plugins.find import find_plugin, get_method, get_stream, load_class
from ctbench.stage import Stage, StageInputs
from ctbench.training.log import TrainingRecord
from ctbench.training.pretrain import StageLoop

LENGTH, BATCH, SEED = 16, 4, 0
QUICK = {"das": {"importance_blocks": 8}, "ewc": {"num_examples": 4}, "mer": {"interval": 4}}
"""Settings that make a stage shorter and change nothing of what is claimed; a method without is tried as it is."""
CORE = ("naive", "replay", "ewc", "adapters", "das", "hyperprompt", "hypermap")
"""A method of every kind: what is tried on each of them in the quick tests is tried on all in the slow ones."""
RECIPE = PretrainRecipe(
    tokens=LENGTH * BATCH * 6, batch=BATCH, length=LENGTH, lr=1e-3, mask_fraction=0.3, precision="fp32"
)


def core_first(names: Iterable[str], core: Sequence[str] = CORE) -> list[Any]:
    """Return names of methods as parameters of a test, slow but for some."""
    return [name if name in core else slow(name)[0] for name in names]


def slow(*values: Any) -> list[Any]:
    """Return values of a test's parameter that the slow tests try."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def make_stream(folder: Path, num_domains: int = 2) -> Stream:
    """Return the small stream, written into `folder`."""
    return get_stream(str(write_stream(folder, num_domains=str(num_domains))))


def make_base(stream: Stream) -> Backbone:
    """Return the tiny backbone on the stream's general words, not pre-trained."""
    assert stream.general is not None
    return build_tiny(read_texts(stream, stream.general, domain=None), seed=SEED)


def make_blocks(stream: Stream, backbone: Backbone, folder: Path) -> dict[str, Blocks]:
    """Return the packed text of every domain by name."""
    cls_id = backbone.tokenizer.cls_token_id if backbone.objective == "mlm" else None
    packed = {
        domain.name: pack(read_texts(stream, domain.text, domain=domain.name), backbone.tokenizer, folder / domain.name)
        for domain in stream.domains
    }
    return {name: Blocks(file, LENGTH, cls_id=cls_id) for name, file in packed.items()}


def build(method: Method, base: Backbone, stream: Stream) -> Backbone:
    """Return a copy of `base` as the method builds it, always with the same new weights."""
    with isolated(threads=1):
        torch.manual_seed(SEED)
        return method.build(copy.deepcopy(base), stream)


def make_loop(
    method: Method,
    backbone: Backbone,
    blocks: dict[str, Blocks],
    memory: Tree | None = None,
    *,
    num_steps: int = 6,
    teacher: Backbone | None = None,
    recipe: PretrainRecipe = RECIPE,
    general: Blocks | None = None,
) -> StageLoop:
    """Return the loop of one stage on a copy of a built `backbone`; `memory` is copied too.

    Args:
        method: the method.
        backbone: as the stage before left it, or as `build` made it.
        blocks: the stage's text by domain.
        memory: as the stage before left it.
        num_steps: updates to make.
        teacher: the LM before this stage; None means `backbone`.
        recipe: batch, length, learning rate and so on.
        general: general text, for methods that read it.
    """
    before = copy.deepcopy(backbone if teacher is None else teacher)
    inputs = StageInputs(
        backbone=copy.deepcopy(backbone),
        memory=copy.deepcopy(memory or {}),
        blocks=blocks,
        recipe=recipe,
        num_steps=num_steps,
        seed=SEED,
        load_teacher=lambda: copy.deepcopy(before),
        general=general,
    )
    return StageLoop(method, inputs)


def train(
    method: Method, backbone: Backbone, blocks: dict[str, Blocks], memory: Tree | None = None, **options: Any
) -> tuple[Backbone, Tree, TrainingRecord | None]:
    """Run one stage (see `make_loop`) and return the LM, the memory and the record; nothing given is changed."""
    loop = make_loop(method, backbone, blocks, memory, **options)
    record = loop.run()
    return loop.stage.backbone, loop.stage.memory, record


def train_stream(
    method: Method, base: Backbone, stream: Stream, blocks: dict[str, Blocks], **options: Any
) -> list[tuple[Backbone, Tree, TrainingRecord | None]]:
    """Run the stages of the method's plan; entry 0 is the built base, entry k stage k."""
    plan = method.plan(stream)
    done: list[tuple[Backbone, Tree, TrainingRecord | None]] = [(build(method, base, stream), {}, None)]
    for domains, parent in zip(plan.stages, plan.parents, strict=True):
        backbone, memory, _ = done[parent]
        done.append(train(method, backbone, {name: blocks[name] for name in domains}, memory, **options))
    return done


def finished_stage(
    backbone: Backbone, blocks: dict[str, Blocks], *, num_steps: int = 6, recipe: PretrainRecipe = RECIPE
) -> Stage:
    """Return a stage as `Method.end` sees it, on a copy of `backbone`."""
    stage = make_loop(Method(), backbone, blocks, num_steps=num_steps, recipe=recipe).stage
    stage.finish()
    return stage


def same_state(one: Backbone, other: Backbone) -> bool:
    """Tell whether all weights of two LMs are equal bit for bit, names included."""
    first, second = one.state(), other.state()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def summary(record: TrainingRecord | None) -> object:
    """Return what two equal stages must agree on; nothing for the entry of the base."""
    return record and (record.losses, record.forward_tokens)


def naive() -> Method:
    """Return the method that all weights of 0 must equal."""
    return get_method("naive")


def module_of(name: str) -> Any:
    """Return the module of a method, for tests of the functions beside its class."""
    return sys.modules[load_class(find_plugin("method", name)).__module__]
