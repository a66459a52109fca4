"""What the parts of a method do, measured by the engine outside the budget: figures for the notes of a stage.

`prompt_effect`, `prompt_contrast` and `prompt_domains` are of whatever a backbone's prompter generates from the text,
prompts or maps of the word embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.shards import whole
from ctbench.backbone.wordmap import Condition, WordMap
from ctbench.masking import Masker
from ctbench.mixer import Mixer
from ctbench.randomness import make_generator
from ctbench.results.inert import CHANGE, DOMAINS, GRADIENT, PROBED

if TYPE_CHECKING:
    from ctbench.data.tokens import Blocks

NUM_LOOKS = 8
"""Updates of a stage in which the gradients of the loss terms are looked at."""
MAX_TOKENS = 8_192
"""Tokens of a domain's held-out text that effects are measured on."""
MAX_LOGITS = 1 << 26
"""Logits that are held at a time, of each of three passes."""
NUM_GROUPS, GROUP = 2 * PROBED, 16
"""Groups of texts, and texts in each, whose domain the linear probe names, half of them to learn from."""
RIDGE = 1e-3


def looks(num_steps: int) -> frozenset[int]:
    """Return the updates in which gradients are looked at.

    Example:
        >>> sorted(looks(16))
        [1, 3, 5, 7, 9, 11, 13, 15]
    """
    return frozenset((2 * look + 1) * num_steps // (2 * NUM_LOOKS) for look in range(NUM_LOOKS))


def gradients_of(term: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a term; its graph is kept."""
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def gradient_notes(
    terms: Mapping[str, Tensor],
    parameters: Iterable[Tensor],
    before: Mapping[str, float],
    *,
    gradients: Callable[[Tensor, list[Tensor]], list[Tensor]] = gradients_of,
) -> dict[str, float]:
    """Return the norm of each term's gradient in units of the LM loss's, or that of an earlier look if it is larger.

    The graph is kept, so that the update that follows is the same bit for bit.

    Args:
        terms: the named terms of a loss; without "lm" and another one there is nothing to compare.
        parameters: what is trained.
        before: the notes so far.
        gradients: returns those of a term; with several ranks, those with the global batch.
    """
    if "lm" not in terms or len(terms) == 1:
        return {}
    trained = list(parameters)
    norms = {
        name: _gradient_norm(gradients(term, trained)) if term.requires_grad else 0.0 for name, term in terms.items()
    }
    found = {f"{GRADIENT}{name}": norm / max(norms["lm"], 1e-30) for name, norm in norms.items() if name != "lm"}
    return {name: max(value, before.get(name, 0.0)) for name, value in found.items()}


def _gradient_norm(gradients: list[Tensor]) -> float:
    squares = [whole(gradient.float().square().sum()) for gradient in gradients]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def lm_effects(
    backbone: Backbone,
    name: str,
    added: frozenset[str],
    *,
    held_out: Callable[[str], Blocks],
    domains: Sequence[str],
    mask_fraction: float,
) -> dict[str, float]:
    """Return the effects of what a method added to an LM, on a domain's held-out text; none of a method that adds nothing.

    Args:
        backbone: the LM that a cell of the domain would fine-tune, in evaluation mode; it stays as it is.
        name: the domain.
        added: names of the added parameters, from `added_names`.
        held_out: returns a domain's held-out text.
        domains: all domains of the stream, which the probe tells apart.
        mask_fraction: share of places predicted by an encoder.
    """
    if not added:
        return {}
    masker = Masker.of(backbone, mask_fraction)
    with torch.no_grad():
        effects = _effects(backbone, held_out(name), masker, make_generator(0, [name], "effects"), added)
        if isinstance(_prompter(backbone), Mixer) and len(domains) > 1:
            effects[DOMAINS] = _domains_named(backbone, {each: held_out(each) for each in domains}, masker)
    return effects


def mean_effects(every: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Return the means of effects over domains; None for one that is not finite."""
    means = {key: float(np.mean([effects[key] for effects in every])) for effects in every[:1] for key in effects}
    return {key: mean if math.isfinite(mean) else None for key, mean in means.items()}


def _effects(
    backbone: Backbone, blocks: Blocks, masker: Masker, generator: np.random.Generator, added: frozenset[str]
) -> dict[str, float]:
    per_row = masker.num_places(blocks.length) * backbone.vocab_size
    rows = _rows(blocks)[: max(1, MAX_LOGITS // per_row)]
    batch = masker(rows, generator).to(backbone.device)
    own, notes = _log_shares(backbone(batch)), {}
    prompter = _prompter(backbone)
    if prompter is not None:
        none = _log_shares(backbone(batch, prompt=None))
        notes["prompt_effect"] = _divergence(own, none)
        notes[f"{CHANGE}{backbone.prompter}"] = float((own - none).abs().max())
    if isinstance(prompter, Mixer):
        random = prompter.random(batch, generator)
        notes["prompt_contrast"] = _divergence(own, _log_shares(backbone(batch, prompt=random)))
    for part, names in _parts(added).items():
        if part != backbone.prompter:
            with _zeroed(backbone, names):
                notes[f"{CHANGE}{part}"] = float((own - _log_shares(backbone(batch))).abs().max())
    return notes


def _parts(added: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return the names by added module; what was put between the layers is one part, "inserted"."""
    parts: dict[str, set[str]] = {}
    for name in added:
        first, _, rest = name.partition(".")
        parts.setdefault(rest.partition(".")[0] if first == "added" else "inserted", set()).add(name)
    return {part: frozenset(parts[part]) for part in sorted(parts)}


@contextmanager
def _zeroed(backbone: Backbone, names: frozenset[str]) -> Iterator[None]:
    """Set some parameters to 0 while the context lasts."""
    chosen = [parameter for name, parameter in backbone.named_parameters() if name in names]
    before = [parameter.detach().clone() for parameter in chosen]
    try:
        for parameter in chosen:
            parameter.detach().zero_()
        yield
    finally:
        for parameter, value in zip(chosen, before, strict=True):
            parameter.detach().copy_(value)


def _domains_named(backbone: Backbone, every: Mapping[str, Blocks], masker: Masker) -> float:
    """Return the accuracy of a linear probe that names the domain of a group of texts from what is generated for it."""
    learned: list[Tensor] = []
    tried: list[Tensor] = []
    for name, blocks in every.items():
        rows, generator = _rows(blocks), make_generator(0, [name], "probe")
        half = max(1, len(rows) // 2)
        for group in range(NUM_GROUPS):
            some = rows[:half] if group % 2 == 0 else rows[half:] if len(rows) > 1 else rows
            chosen = some[generator.permutation(len(some))[:GROUP]]
            vector = _generated(backbone, masker(chosen, generator).to(backbone.device))
            (tried if group % 2 else learned).append(vector)
    targets = torch.arange(len(every), device=backbone.device).repeat_interleave(NUM_GROUPS // 2)
    weights, mean = _ridge(torch.stack(learned), F.one_hot(targets).float())
    scores = (torch.stack(tried) - mean) @ weights
    return float((scores.argmax(1) == targets).float().mean())


def _ridge(vectors: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights [F, C] of a ridge regression on centred vectors [n, F] in its dual form, and their mean."""
    mean = vectors.mean(0)
    centred = vectors - mean
    kernel = centred @ centred.T
    kernel += RIDGE * kernel.trace().clamp(min=1e-12) * torch.eye(len(kernel), device=kernel.device) / len(kernel)
    return centred.T @ torch.linalg.solve(kernel, wanted - wanted.mean(0)), mean


def _generated(backbone: Backbone, batch: Batch) -> Tensor:
    """Return one vector of what the prompter generates for some texts; of a decoder's, what the last place gets."""
    prompter = _prompter(backbone)
    assert prompter is not None
    condition: Condition = prompter(backbone, batch)
    if isinstance(condition, WordMap):
        shares = condition.shares
        return (shares[:, -1] if shares.dim() == 3 else shares).float().reshape(-1, shares.shape[-1])[-1]
    vectors = condition.vectors.float()
    return (vectors[-1] if vectors.dim() == (4 if condition.deep else 3) else vectors).flatten()


def _prompter(backbone: Backbone) -> torch.nn.Module | None:
    return None if backbone.prompter is None else backbone.added[backbone.prompter]


def _rows(blocks: Blocks) -> np.ndarray:
    return blocks[np.arange(min(len(blocks), max(1, MAX_TOKENS // blocks.length)))]


def _log_shares(output: object) -> Tensor:
    logits: Tensor = output.logits  # type: ignore[attr-defined]  # an Output with logits
    return F.log_softmax(logits.float(), dim=-1)


def _divergence(one: Tensor, other: Tensor) -> float:
    """Return the mean KL divergence of `other` from `one` in nats per predicted place."""
    return float((one.exp() * (one - other)).sum(-1).mean())


def added_names(base: Backbone, build: Callable[[Backbone], Backbone]) -> frozenset[str]:
    """Return the names of the parameters that a method adds to an LM.

    Args:
        base: the untouched LM, a copy to be used up.
        build: `Method.build` for some stream.
    """
    untouched = list(base.parameters())  # held, so that no new parameter gets the id of one that is gone
    known = {id(parameter) for parameter in untouched}
    return frozenset(name for name, parameter in build(base).named_parameters() if id(parameter) not in known)
