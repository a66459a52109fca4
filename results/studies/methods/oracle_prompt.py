"""Oracle prompt: hyperprompt's prompts, chosen by the domain's name and not by the text.

No method of a paper but a ceiling of `hyperprompt` (Jiang et al. 2023, arXiv:2310.13024): what a prompt can give if the
right one is chosen with certainty. Each domain has a prompt of its own, keys and values of every layer, with the length,
the scale, the gain and the agreement of `hyperprompt`'s defaults; `domain_table.py` has the loss. A cell puts the prompt of
its task's domain in front; a domain to come has none.

Differs from hyperprompt: the domain is given, so there is no hypernetwork, no mixture, no disagreement and no keeping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from domain_table import DomainTable, adapt, begin, insert, terms
from torch import Tensor, nn

from ctbench import Backbone, Batch, Method, Prompt, Traits, hyper, key_width

if TYPE_CHECKING:
    from ctbench import Stage, Stream


class OraclePrompt(Method):
    """A prompt for each domain, which is given."""

    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)

    prompt_length: int = hyper(8, low=1, high=256)
    """P, vectors in front of the text."""
    scale: float = hyper(3.0, low=0.0)
    """Standard deviation of the vectors at the start."""
    gain: float = hyper(100.0, low=0.1, high=1000.0)
    """The vectors move this many times as far as other weights do."""
    agree_weight: float = hyper(1.0, low=0.0)
    """Weight of the agreement with the teacher; 0 leaves it out."""
    random_fraction: float = hyper(0.5, low=0.0, high=1.0)
    """Share of each batch's rows that are run under another condition too, in [0, 1], one row at least."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        return insert(backbone, Prompts(self, backbone, stream.names))

    def begin(self, stage: Stage) -> None:
        begin(stage)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        return terms(self, stage, batch)

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        return adapt(backbone, task)


class Prompts(DomainTable):
    """One prompt of keys and values per domain."""

    def __init__(self, method: OraclePrompt, backbone: Backbone, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.gain = method.gain
        shape = (backbone.num_layers, method.prompt_length, 2 * key_width(backbone))
        start = method.scale / method.gain
        self.vectors = nn.ParameterList([nn.Parameter(start * torch.randn(shape)) for _ in names])

    def make(self, index: int) -> Prompt:
        """Return the prompt of a domain."""
        return Prompt(self.gain * self.vectors[index], deep=True, keys=True)
