"""Part: naive with a part of the LM trained and the rest frozen, to see where a domain is learned.

A diagnosis and not a method to use. In stages only the chosen part of the LM learns, by the LM loss; in cells everything
trains, as it does by default after `adapters`, `lora` and `prompts`:

    L = L_lm(theta_part; x)

"words" are the input embeddings and the output embedding (one matrix where they are tied), with its bias. "layers" are
all weights inside the layers: everything that `lora` and `adapters` can move, at full rank. "rest" is all but the words.
Only the domain just learned is scored, A_Acc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctbench import BASE, Method, Plan, hyper, sequential

if TYPE_CHECKING:
    from ctbench import Backbone, Stream


class Part(Method):
    """Pre-train a part of the LM on the new text."""

    trains: str = hyper("words", choices=("words", "layers", "rest", "all"))
    """What learns in stages: the word embeddings, the layers between them, all but the word embeddings, or all (naive)."""

    def plan(self, stream: Stream) -> Plan:
        every, count = sequential(stream.names), len(stream.names)
        learned = [tuple(row if task == row else None for task in range(1, count + 1)) for row in range(1, count + 1)]
        return Plan(stages=every.stages, parents=every.parents, cells=((BASE,) * count, *learned))

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        words = [backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()]
        learn = {"words": words, "layers": list(backbone.layers)}.get(self.trains, [backbone])
        backbone.requires_grad_(False)
        for module in learn:
            module.requires_grad_(True)
        for module in words if self.trains == "rest" else ():
            module.requires_grad_(False)
        return backbone
