"""The inside of one forward pass: hooks that cut, gather and prompt, and the positions of the text."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctbench.backbone.batch import Batch, Prompt
from ctbench.backbone.checkpoint import takes_segments
from ctbench.backbone.wordmap import WordMap

if TYPE_CHECKING:
    from ctbench.backbone import Backbone


class Tap:
    """What the hooks of one pass read and write.

    Hooks are bound methods of this plain object, so a deep copy of a backbone gets hooks of its own. Closed (between
    passes) they change nothing.
    """

    def __init__(self) -> None:
        self._is_exact = False
        self._outside = contextlib.ExitStack()
        self.reset()

    @contextlib.contextmanager
    def exact_logits(self) -> Iterator[None]:
        """Compute the output embedding in float32 while the block runs, outside of autocast.

        Between -128 and -64, where logits of some decoders lie, neighbouring numbers of bfloat16 are 0.5 apart, so different
        answers have equal logits. For evaluation: training keeps the arithmetic of its keys.
        """
        self._is_exact = True
        try:
            yield
        finally:
            self._is_exact = False

    def reset(self) -> None:
        """Close the tap and forget the pass."""
        self._outside.close()
        self.is_open = False
        self.num_prompt = 0
        self.num_tokens = 0
        self.word_map: WordMap | None = None
        self.positions: Tensor | None = None
        self.layers: Tensor | None = None
        self.captures = False
        self.hidden: Tensor | None = None
        self.captured: Tensor | None = None

    def install(self, model: Any, layers: Sequence[nn.Module]) -> None:
        """Put the hooks in place, once for the life of the model."""
        base, decoder = find_base(model), model.get_output_embeddings()
        model.get_input_embeddings().register_forward_hook(self._after_words)
        base.register_forward_hook(self._after_base)
        decoder.register_forward_pre_hook(self._before_decoder)
        decoder.register_forward_hook(self._after_decoder)
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(functools.partial(self._before_layer, index))

    def put_in_front(self, prompt: Prompt, words: Tensor) -> Tensor:
        """Return [B, P + T, width] with the prompt, or room for one in the layers, in front of the words."""
        num_rows = len(words)
        vectors = prompt.vectors
        if vectors.dim() == (3 if prompt.deep else 2):
            vectors = vectors.expand(num_rows, *vectors.shape)
        self.num_prompt = prompt.length
        if prompt.deep:
            self.layers = None if prompt.keys else vectors
            vectors = words.new_zeros(num_rows, prompt.length, words.shape[-1])
        return torch.cat([vectors.to(words.dtype), words], dim=1)

    def _after_words(self, _module: nn.Module, _args: Any, words: Tensor) -> Tensor | None:
        """Map the words that enter."""
        return None if self.word_map is None else self.word_map.words(words)

    def _after_base(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        """Keep the text's hidden states, and hand the head the predicted positions only."""
        if not self.is_open:
            return None
        hidden = output[0]
        if self.num_prompt:
            hidden = hidden[:, self.num_prompt :]
        self.hidden = hidden
        if self.positions is not None:
            hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, self.positions).unsqueeze(0)
        output["last_hidden_state"] = hidden
        return output

    def _before_layer(self, index: int, _module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Put a layer's own prompt in the places in front of the text."""
        if self.layers is None:
            return None
        vectors = self.layers[:, index].to(args[0].dtype)
        return (torch.cat([vectors, args[0][:, self.num_prompt :]], dim=1), *args[1:])

    def _before_decoder(self, _module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Map the features that leave, or keep them and spare the output embedding all tokens but one."""
        if self.captures:
            self.captured = args[0]
            return (args[0][:1, :1], *args[1:])
        features = args[0]
        if self.word_map is not None:
            features = self.word_map.features(features, positions=self.positions, num_tokens=self.num_tokens)
        where = features.device.type
        if self._is_exact and torch.is_autocast_enabled(where):
            self._outside.enter_context(torch.autocast(where, enabled=False))
            features = features.float()
        return (features, *args[1:])

    def _after_decoder(self, _module: nn.Module, _args: Any, _logits: Tensor) -> None:
        self._outside.close()


class Positions:
    """Position ids of text and prompt, always given explicitly.

    The text counts from the first position whether a prompt stands in front or not; the prompt counts from there
    too. Models count differently when left alone (RoBERTa from the ids, others from the place).

    Args:
        base: the base model; a learned position table in it limits the length.
    """

    def __init__(self, base: nn.Module) -> None:
        self.limit, self._first = _position_limit(base)
        self._cache: dict[tuple[int, int, torch.device], Tensor] = {}

    def fill(self, options: dict[str, Any], batch: Batch, num_prompt: int) -> dict[str, Any]:
        """Return `fixed_options` with its places filled for a batch."""
        found = dict(options)
        if "position_ids" in options:
            found["position_ids"] = self.ids(batch, num_prompt)
        if "token_type_ids" in options:
            found["token_type_ids"] = _segments_with_prompt(batch, num_prompt)
        return found

    def ids(self, batch: Batch, num_prompt: int) -> Tensor:
        """Return [1 or B, P + T] position ids."""
        num_tokens, device = batch.input_ids.shape[1], batch.input_ids.device
        key = (num_prompt, num_tokens, device)
        plain = self._cache.get(key)
        if plain is None:
            with torch.inference_mode(False):  # what evaluation caches, training must be able to use
                front = torch.arange(num_prompt, device=device)
                if self.limit is not None:
                    front = front.clamp(max=self.limit - 1)
                plain = torch.cat([front, torch.arange(num_tokens, device=device)]).unsqueeze(0) + self._first
            self._cache[key] = plain
        if batch.attention_mask is None:
            return plain
        # Counted from the mask, so that padding on the left changes nothing either.
        text = (batch.attention_mask.cumsum(1) - 1).clamp(min=0) + self._first
        return torch.cat([plain[:, :num_prompt].expand(len(text), -1), text], dim=1) if num_prompt else text


def mask_with_prompt(batch: Batch, num_prompt: int, *, is_encoder: bool) -> Tensor | None:
    """Return [B, P + T] with 1 for the prompt; None for an encoder without padding, which needs none.

    Without a mask, decoders take positions that start again for packed texts and hide the prompt.
    """
    if is_encoder and batch.attention_mask is None:
        return None
    mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
    return torch.cat([mask.new_ones(len(mask), num_prompt), mask], dim=1)


def _segments_with_prompt(batch: Batch, num_prompt: int) -> Tensor | None:
    """Return [B, P + T] with the segment of each place, 0 for the prompt; None for texts that are no pairs."""
    segments = batch.segments
    if segments is None or not num_prompt:
        return segments
    return torch.cat([segments.new_zeros(len(segments), num_prompt), segments], dim=1)


def find_base(model: Any) -> Any:
    """Return the module that an LM runs below its head: its base model, or the decoder that this only wraps (OPT)."""
    base = model.base_model
    children = dict(base.named_children())
    return children["decoder"] if "decoder" in children and "encoder" not in children else base


def head_parameters(model: Any) -> list[nn.Parameter]:
    """Return the weights of the LM head that the rest of the model does not share."""
    inside = {id(parameter) for parameter in find_base(model).parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in inside]


def freeze_all_but_head(model: Any) -> None:
    """Let only the LM head's own weights train."""
    own = {id(parameter) for parameter in head_parameters(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in own)


def find_layers(model: Any) -> str | None:
    """Return the path below a backbone of the one list of layers, or None if it is not clear which list that is."""
    num_layers = getattr(model.config, "num_hidden_layers", None)
    lists = [name for name, module in model.named_modules() if _is_list_of(module, num_layers)]
    return f"model.{lists[0]}" if len(lists) == 1 else None


def copy_layer(backbone: Backbone, number: int) -> nn.Module:
    """Return a copy of a layer, numbered from 0, for a method to put into `Backbone.added`.

    It has no hooks, and shares with the LM what is not its own: the configuration, which says how the LM attends, and
    the source of dropout, which is reseeded in every update.

    Raises:
        BadConfig: the layers cannot be found.
    """
    from transformers import PretrainedConfig  # slow to import

    layer = backbone.layers[number]
    held = [value for module in layer.modules() for value in vars(module).values()]
    shared = [backbone.dropout_source, *(value for value in held if isinstance(value, PretrainedConfig))]
    clone = copy.deepcopy(layer, {id(each): each for each in shared})
    for module in clone.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return clone


def _is_list_of(module: nn.Module, length: int | None) -> bool:
    return isinstance(module, nn.ModuleList) and len(module) == length


def fixed_options(forward: Callable[..., Any], config: Any, *, is_decoder: bool) -> dict[str, Any]:
    """Return the fixed keyword arguments of a base model's call.

    `position_ids` is a place to fill, where it is accepted, and `token_type_ids` where there are embeddings of segments.
    """
    names = inspect.signature(forward).parameters
    options: dict[str, Any] = {}
    if "position_ids" in names:
        options["position_ids"] = None
    if "token_type_ids" in names and takes_segments(config):
        options["token_type_ids"] = None
    if is_decoder and "use_cache" in names:
        options["use_cache"] = False
    return options


def _position_limit(base: nn.Module) -> tuple[int | None, int]:
    """Return the longest text that a learned position table allows (None: no table) and the first position's id."""
    for name, module in base.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in {"position_embeddings", "wpe"}:
            # RoBERTa and its kin count from the padding id + 1.
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first, first
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] == "embed_positions":
            return module.num_embeddings - int(getattr(module, "offset", 0)), 0  # OPT adds its offset itself
    return None, 0
