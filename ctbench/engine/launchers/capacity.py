"""How many worker processes suit this machine and this work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ctbench.backbone.checkpoint import MADE, dimensions, model_type, weight_bytes
from ctbench.backbone.families import Family, find_family
from ctbench.engine.node import Node
from ctbench.machine.gpus import accelerator, free_memory, visible_gpus

MAX_AUTO_WORKERS: Final = 8
MAX_PER_GPU: Final = 4
"""Two did nearly twice as many cells of roberta-base as one, four more than three times as many; more were not tried."""
PROCESS_BYTES: Final = 2 * 2**30
"""What a process takes on a GPU before it computes, and what is not counted below."""
WEIGHT_FACTOR: Final = 12
"""Bytes for every byte of a checkpoint: weights, gradients, moments, a teacher, anchors. Files in half precision need so
much; those in float32 are taken to need twice what they do."""
UNKNOWN: Final = Family(attention_in=(), attention_out="", ffn_in=(), ffn_out="")
"""A family that the table does not hold is taken for a decoder that keeps much."""
LOGIT_BYTES: Final = 12
"""Per logit: once in bfloat16 and twice in float32, with the gradients."""
STAGE_PASSES: Final = 3
"""Maximum number of forward passes whose activations an update keeps at once, over the methods that come with ctbench."""


def auto_workers(nodes: Sequence[Node]) -> int:
    """Return one worker per core for nodes of one thread, or some on every GPU.

    One process seldom keeps a GPU busy with models of this size, so several share it where its memory allows.
    """
    most = max(1, len(nodes))
    cores = num_cores()
    if gpus := visible_gpus():
        cap = max(1, min(MAX_PER_GPU, cores // (2 * len(gpus))))
        return min(most, len(gpus) * _fitting(nodes, min(free_memory(gpus)), cap))
    if accelerator() != "cpu":
        return 1  # free memory is unknown
    threads = [node.lookup.threads for node in nodes if node.kind != "base"]
    return max(1, min(cores // max(threads, default=1), most, MAX_AUTO_WORKERS))


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fitting(nodes: Sequence[Node], free: int, cap: int) -> int:
    """Return how many workers, at most `cap`, have room in `free` bytes of a GPU: some with stages, the rest with cells."""
    stages = _parallel_stages(nodes)
    stage = max((gpu_bytes(node) for node in nodes if node.kind in ("base", "stage")), default=0)
    cell = max((gpu_bytes(node) for node in nodes if node.kind in ("cell", "loss")), default=0)
    for count in range(cap, 1, -1):
        training = min(count, stages)
        if training * max(stage, cell) + (count - training) * cell <= free:
            return count
    return 1


def _parallel_stages(nodes: Sequence[Node]) -> int:
    """Return how many stages could be computed at the same time, at most: those that no other stage waits for."""
    training = [node for node in nodes if node.kind in ("base", "stage")]
    waited_for = {parent.key for node in training for parent in node.parents}
    return sum(node.key not in waited_for for node in training)


def gpu_bytes(node: Node) -> int:
    """Return about how much memory a node takes on a GPU."""
    model, recipe = node.lookup.model, node.identity.recipe
    family = find_family(model_type(model)) or UNKNOWN
    layers, width, vocabulary = dimensions(model)
    passes = STAGE_PASSES if node.kind in ("base", "stage") else 1
    tokens = int(recipe["batch"]) * int(recipe["max_length" if node.kind == "cell" else "length"])
    predicted = float(recipe.get("mask_fraction", 0.0))  # a cell has no logits over the vocabulary
    if predicted and not family.is_encoder:
        predicted = 1.0
    weights = 0 if model in MADE else WEIGHT_FACTOR * weight_bytes(model)
    kept = family.state_bytes * (2 if node.identity.arithmetic.precision == "fp32" else 1)
    per_token = kept * layers * width + round(LOGIT_BYTES * predicted * vocabulary)
    return PROCESS_BYTES + weights + passes * tokens * per_token
