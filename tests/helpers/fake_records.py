"""Records and nodes of the store, made up for tests."""

from __future__ import annotations

from typing import Any

from ctbench.engine.identity import (
    Arithmetic,
    BaseIdentity,
    CellIdentity,
    Identity,
    LossIdentity,
    MeasuredLM,
    MethodIdentity,
    StageIdentity,
)
from ctbench.engine.node import Lookup, Node
from ctbench.engine.records import StoredCell, StoredStage, Work
from ctbench.training.log import TrainingRecord

LOOKUP = Lookup(stream="s", recipe="", settings={}, order=0, model="tiny", online=False)
WORK = Work(model="tiny", precision="fp32")
NOBODY = MethodIdentity(name="naive", version=1, digest="", settings={})


def stage_record(*, tokens: int = 2, seconds: float = 4.0, work: Work = WORK, weights_digest: str = "d") -> StoredStage:
    """Return the record of a stage."""
    training = TrainingRecord(
        domains=("a",),
        steps=(1,),
        losses={"loss": (1.0,)},
        notes={},
        tokens=tokens,
        forward_tokens=tokens,
        seconds=seconds,
        cpu_seconds=seconds,
        peak_memory_bytes=1,
        trained_parameters=1,
        stored_bytes=0,
    )
    return StoredStage(
        training=training, weights_digest=weights_digest, changed=True, added_parameters=0, stored_bytes=0, work=work
    )


def cell_record(*, seconds: float = 6.0, work: Work = WORK) -> StoredCell:
    """Return the record of a cell."""
    return StoredCell(
        metrics={"accuracy": 0.5},
        validation=None,
        majority=0.5,
        tokens=10,
        seconds=seconds,
        peak_memory_bytes=1,
        work=work,
    )


def fake_node(kind: str, recipe: dict[str, Any], *, num_steps: int = 7, precision: str = "fp32") -> Node:
    """Return a node of a kind whose recipe is given."""
    arithmetic, lm = Arithmetic(precision=precision), MeasuredLM(stage=0, backbone=None)
    identities: dict[str, Identity] = {
        "base": BaseIdentity(model="tiny", text="", recipe=recipe, arithmetic=arithmetic, seed=0),
        "stage": StageIdentity(
            backbone=None,
            names=("a", "b"),
            method=NOBODY,
            domains=("a",),
            text=("",),
            recipe=recipe,
            num_steps=num_steps,
            arithmetic=arithmetic,
            seed=0,
            build_seed=0,
        ),
        "loss": LossIdentity(lm=lm, domains=("a", "b"), text=("", ""), recipe=recipe, arithmetic=arithmetic),
        "cell": CellIdentity(lm=lm, domain="a", task="", recipe=recipe, arithmetic=arithmetic, seed=0),
    }
    return Node(identity=identities[kind], lookup=LOOKUP)
