"""Which parts of a method do nothing in a tiny world: a note, no law."""

from __future__ import annotations

import copy

from ctbench.laws.dry_run import DryRun
from ctbench.results.inert import inert_components
from ctbench.training.effects import added_names, lm_effects, mean_effects


def inert_in(dry_run: DryRun) -> tuple[str, ...]:
    """Return a line for every loss term and every added module that does nothing in a stage."""
    found, world = [], dry_run.world
    added = added_names(copy.deepcopy(world.base), lambda base: dry_run.method().build(base, world.stream))
    for number, (domains, done) in enumerate(zip(dry_run.plan.stages, dry_run.first, strict=True), start=1):
        every = [
            lm_effects(
                dry_run.adapted(number, name).eval(),
                name,
                added,
                held_out=world.blocks.__getitem__,
                domains=world.stream.names,
                mask_fraction=world.stream.recipe.pretrain.mask_fraction,
            )
            for name in domains
        ]
        found += [f"stage {number}: {message}" for message in inert_components({**done.notes, **mean_effects(every)})]
    return tuple(found)
