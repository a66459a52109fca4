"""One wrapper for every Hugging Face encoder (masked LM) and decoder (causal LM).

Legend, used throughout the project: B batch, T tokens, D width, V vocabulary, H heads, P prompt tokens, C classes,
M masked (predicted) positions, L layers, F width of features.

Only the predicted positions go through the LM head: a hook on the base model hands the head the gathered positions
instead of the whole text. That is exact for every model whose head works position by position, which all of them do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ctbench.backbone.batch import Batch, Output, Prompt
from ctbench.backbone.families import Role, find_family, require_family
from ctbench.backbone.hooks import Positions, Tap, find_base, find_layers, fixed_options, mask_with_prompt
from ctbench.backbone.keyprompt import key_width, keys_and_values
from ctbench.backbone.shards import whole
from ctbench.backbone.shared import Sharing
from ctbench.backbone.state import copy_into, unique_tensors
from ctbench.backbone.tokenizer import require_token
from ctbench.backbone.wordmap import Condition, Given, WordMap
from ctbench.errors import BadConfig, BadData
from ctbench.kernels.attention import choose_attention
from ctbench.kernels.dropout import DropoutSource, use_cheap_dropout
from ctbench.kernels.lm_head import align_outputs, lm_loss
from ctbench.kernels.switch import uses_plain_kernels

__all__ = ["Backbone", "Batch", "Output", "Prompt"]


class Backbone(nn.Module):
    """A Hugging Face LM with prompts, masked-only loss, named parts and exact copies of its state.

    Args:
        model: the LM, with its head.
        tokenizer: its fast tokenizer.
        objective: "mlm" (encoder) or "clm" (decoder).
        name: what the user called it.
        digest: SHA-256 of weights, configuration and tokenizer.
        notes: what a reader of results must know ("the LM head was made new").

    Attributes:
        forward_tokens: places that went through the model so far, those of prompts included.
        sharing: who computes which rows of a pass; None in one process that computes all at once.
        shards: parameters by name of which each rank holds a part, see `ctbench.backbone.shards`; empty if all are whole.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        objective: Literal["mlm", "clm"],
        name: str,
        digest: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.objective: Literal["mlm", "clm"] = objective
        self.name, self.digest, self.notes = name, digest, notes
        self.added = nn.ModuleDict()
        self.prompter: str | None = None
        self.dropout_source = DropoutSource()
        self.forward_tokens = 0
        self.sharing: Sharing | None = None
        self.shards: dict[str, nn.Parameter] = {}
        self.family = find_family(model.config.model_type)
        base = find_base(model)
        self._positions = Positions(base)
        self.max_length = self._positions.limit
        self._options = fixed_options(base.forward, model.config, is_decoder=objective == "clm")
        self.tap, self._layer_path = Tap(), find_layers(model)
        self.tap.install(model, [] if self._layer_path is None else self.layers)
        if not uses_plain_kernels():
            align_outputs(model.get_output_embeddings())
            use_cheap_dropout(model, self.dropout_source)
        self._choose_attention()
        self.train(model.training)

    # What it is

    @property
    def width(self) -> int:
        """Width of the input embeddings, hence of prompts at the input."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def hidden_size(self) -> int:
        """Width D of the hidden states, hence of prompts in the layers."""
        return int(self.model.config.hidden_size)

    def num_features(self, *, head: Literal["lm", "plain"] = "lm") -> int:
        """Return the width F of `features`."""
        if head == "plain" or self.objective == "clm":
            return self.hidden_size
        return int(self.model.get_output_embeddings().weight.shape[1])

    @property
    def vocab_size(self) -> int:
        """Number V of the model's output tokens (at least the tokenizer's)."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def num_layers(self) -> int:
        """Number L of layers."""
        return len(self.layers)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers in their order.

        Raises:
            BadConfig: the model has no list of layers, or more than one, of the configured length.
        """
        if self._layer_path is None:
            raise BadConfig(
                f"the layers of '{self.name}' ({self.model.config.model_type}) cannot be found; prompts in the layers, "
                "parts and compiled layers need them: choose another model or go without"
            )
        return list(self.get_submodule(self._layer_path).children())

    @property
    def mask_id(self) -> int:
        """Id of the mask token.

        Raises:
            BadConfig: the tokenizer has none.
        """
        return require_token(self.tokenizer, "mask_token", self.name)

    @property
    def pad_id(self) -> int:
        """Id of the padding token (padding is always masked out)."""
        return require_token(self.tokenizer, "pad_token", self.name)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are never masked."""
        return frozenset(int(number) for number in self.tokenizer.all_special_ids)

    @property
    def device(self) -> torch.device:
        """Where the input embeddings live."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight.device

    # Passes

    def forward(self, batch: Batch, *, prompt: Given = "own", lm: bool = True) -> Output:
        """Run the text, with a prompt in front of it or without.

        Args:
            batch: the text; `positions` and `targets` ask for logits and loss.
            prompt: vectors in front, or a map of the word embeddings; a bare tensor is a prompt at the input; "own"
                asks the backbone's prompter if it has one; None means without.
            lm: False leaves the LM head out, whatever the batch asks for.

        Raises:
            BadData: the text is longer than the model's positions.
        """
        given = self._resolve(prompt, batch)
        return self.read(batch, given, lm=lm) if self.sharing is None else self.sharing.read(self, batch, given, lm=lm)

    def read(self, batch: Batch, given: Condition | None, *, lm: bool) -> Output:
        """Run the text in this process, under the condition `given`."""
        if not lm or batch.positions is None:
            # of shards, only the whole model puts its weights together; its head gets one place
            module, one = (self.model, batch.input_ids.new_zeros(1)) if self.shards else (find_base(self.model), None)
            return Output(hidden=self._run(batch, given, module, positions=one)[0])
        hidden, result = self._run(batch, given, self.model, positions=batch.positions)
        logits = result.logits[0]
        loss = None if batch.targets is None else lm_loss(logits, batch.targets)
        return Output(hidden=hidden, logits=logits, loss=loss)

    def features(self, batch: Batch, *, head: Literal["lm", "plain"] = "lm", prompt: Given = "own") -> Tensor:
        """Return [B, T, F] per token: what enters the output embedding ("lm") or the hidden states ("plain").

        With "lm" the features of an encoder went through the LM head's own dense layer and norm; for a decoder both
        are the same.
        """
        given = self._resolve(prompt, batch)
        if head == "plain" or self.objective == "clm":
            return self._run(batch, given, find_base(self.model))[0]
        return self._run(batch, given, self.model, captures=True)[1]  # type: ignore[no-any-return]  # a tensor then

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the word embeddings [B, T, width] without positions."""
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        return embedded

    # Parts

    def parts(self, role: Role) -> list[tuple[str, nn.Module]]:
        """Return (name, module) of every part with `role`, layer by layer, as it is now (wrapped or not).

        Raises:
            BadConfig: the family's module names are not known.
        """
        family = require_family(self.model.config.model_type, purpose=f"a method that uses parts ('{role}')")
        layers = range(self.num_layers)
        names = [f"{self._layer_path}.{index}.{path}" for index in layers for path in family.paths(role)]
        return [(name, self.get_submodule(name)) for name in names]

    def replace(self, name: str, module: nn.Module) -> None:
        """Put `module` in the place called `name` (a name that `parts` returned)."""
        parent, _, leaf = name.rpartition(".")
        setattr(self.get_submodule(parent), leaf, module)

    def trainable(self) -> list[tuple[str, Tensor]]:
        """Return (name, parameter) of everything that requires a gradient; of shards, the whole, whose gradients reach them."""
        every = (self.shards or dict(self.named_parameters())).items()
        return [(name, whole(parameter)) for name, parameter in every if parameter.requires_grad]

    # Copies

    def state(self) -> dict[str, Tensor]:
        """Return copies of all weights on the CPU by name, added modules included, tied ones once."""
        return {name: whole(tensor.detach()).to("cpu", copy=True) for name, tensor in unique_tensors(self).items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Set all weights, bit for bit.

        Raises:
            BadData: a weight is missing, unexpected or has another shape.
        """
        copy_into(unique_tensors(self), state, self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.tokenizer)] = self.tokenizer  # read only, and slow to copy
        clone = memo[id(self)] = self.__class__.__new__(self.__class__)
        for key, value in self.__dict__.items():
            clone.__dict__[key] = copy.deepcopy(value, memo)
        return clone

    def _choose_attention(self) -> None:
        if self.family is not None and self.family.takes_plain_attention:
            choose_attention(self.model, self.device)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._choose_attention()
        return self

    def _run(
        self,
        batch: Batch,
        prompt: Condition | None,
        module: Any,
        *,
        positions: Tensor | None = None,
        captures: bool = False,
    ) -> tuple[Tensor, Any]:
        tap = self.tap
        self.forward_tokens += batch.input_ids.numel() + len(batch.input_ids) * (prompt.length if prompt else 0)
        try:
            inputs = self._inputs(batch, prompt)
            tap.is_open, tap.positions, tap.captures = True, positions, captures
            with keys_and_values(self, prompt):
                result = module(**inputs)
            assert tap.hidden is not None
            return tap.hidden, tap.captured if captures else result
        finally:
            tap.reset()

    def _inputs(self, batch: Batch, prompt: Condition | None) -> dict[str, Any]:
        num_tokens = batch.input_ids.shape[1]
        if self.max_length is not None and num_tokens > self.max_length:
            raise BadData(
                f"'{self.name}' takes texts of at most {self.max_length} tokens, found {num_tokens}; lower the length"
            )
        inputs = self._positions.fill(self._options, batch, 0 if prompt is None else prompt.length)
        if prompt is None or isinstance(prompt, WordMap):
            self.tap.word_map, self.tap.num_tokens = prompt, num_tokens
            return inputs | {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        width = 2 * key_width(self) if prompt.keys else self.hidden_size
        wanted = (self.num_layers, prompt.length, width) if prompt.deep else (prompt.length, self.width)
        prompt.check_shape(wanted, len(batch.input_ids))
        return inputs | {
            "inputs_embeds": self.tap.put_in_front(prompt, self.embed(batch.input_ids)),
            "attention_mask": mask_with_prompt(batch, prompt.length, is_encoder=self.objective == "mlm"),
        }

    def _resolve(self, prompt: Given, batch: Batch) -> Condition | None:
        if isinstance(prompt, str):
            prompt = None if self.prompter is None else self.added[self.prompter](self, batch)
        if isinstance(prompt, Tensor):
            prompt = Prompt(prompt)
        return None if isinstance(prompt, Prompt) and prompt.length == 0 else prompt
