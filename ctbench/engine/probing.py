"""What the probes inside a stage measure: the LM as it is, adapted as a cell of the text's domain would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ctbench.data.schema import GENERAL
from ctbench.engine.identity import StageIdentity
from ctbench.engine.node import Spec
from ctbench.machine.device import device, isolated
from ctbench.mixer import Mixer
from ctbench.randomness import seed_from
from ctbench.stage import StageInputs
from ctbench.training.finetune import held_out_loss
from ctbench.training.probes import Probes, probe_steps

if TYPE_CHECKING:
    from ctbench.backbone import Backbone
    from ctbench.engine.materials import Materials


def probes_of(materials: Materials, spec: Spec, inputs: StageInputs, parent: str | None) -> Probes:
    """Return the probes of a stage; none unless its recipe asks for them.

    Args:
        materials: where LMs and texts come from.
        spec: of the stage.
        inputs: of its loop.
        parent: key of the LM before the stage.
    """
    identity, lookup, recipe = spec.identity, spec.lookup, inputs.recipe
    assert isinstance(identity, StageIdentity)
    if not identity.probed:
        return Probes()
    method, stream, names = materials.method(lookup, identity.method), materials.stream(lookup), identity.probed.texts
    blocks = {name: materials.blocks(lookup, name, recipe.length, held_out=True) for name in names}
    number = identity.probed.stage

    def measure(trained: Backbone) -> dict[str, float]:
        state, found = trained.state(), {}
        for name in names:
            if not len(blocks[name]):
                continue  # too little general text to hold a block of it out
            backbone, _ = materials.restore(lookup, method, identity.build_seed, parent)
            backbone.load_state(state)
            for module in backbone.added.values():
                if isinstance(module, Mixer):
                    module.forget()  # what the stage has read: a cell begins with nothing
            told = identity.domains[-1] if name == GENERAL else name
            with isolated(threads=recipe.threads):
                torch.manual_seed(seed_from(identity.build_seed, [told], "adapt") >> 1)
                backbone = method.adapt(backbone, stream, told, number).to(device())
                found[name] = held_out_loss(backbone, blocks[name], domain=name, recipe=recipe).loss
        return found

    return Probes(steps=frozenset(probe_steps(identity.num_steps, recipe.probes)), measure=measure)
