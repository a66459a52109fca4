"""Where the parts of each Hugging Face model family are: the one table of module names.

Paths are relative to one layer. A family that is missing here works for whatever needs no parts (pre-training,
prompts at the input and in the layers, fine-tuning); parts and units of it are refused with a clear error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctbench.errors import BadConfig

Role = Literal["attention_in", "attention_out", "ffn_in", "ffn_out"]
ROLES: tuple[Role, ...] = ("attention_in", "attention_out", "ffn_in", "ffn_out")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Module names of one family, relative to a layer.

    Attributes:
        attention_in: projections that make queries, keys and values, in this order; a single one when fused.
        attention_out: the projection that mixes the heads; its input is the concatenation of the heads.
        ffn_in: projections that make the neurons (two for a gated network with separate projections).
        ffn_out: the projection that reads the neurons.
        fused: how a single attention_in is laid out: "blocks" = all queries, all keys, all values; "heads" = query,
            key and value of the first head, of the second, ...; "no" = three projections.
        is_gated_in_one: ffn_in holds two rows per neuron, neuron i and its gate at i + number of neurons.
        is_transposed: weights are [in, out] (Conv1D) instead of [out, in].
        takes_plain_attention: attention goes through transformers' AttentionInterface.
        is_post_norm: a norm stands behind each residual sum, so a layer whose outputs are zeroed is not the identity.
        is_encoder: its LM is a masked one.
        state_bytes: what a training pass in bf16 keeps per token, layer and unit of width, as measured up to 512 tokens.
    """

    attention_in: tuple[str, ...]
    attention_out: str
    ffn_in: tuple[str, ...]
    ffn_out: str
    fused: Literal["no", "blocks", "heads"] = "no"
    is_gated_in_one: bool = False
    is_transposed: bool = False
    takes_plain_attention: bool = True
    is_post_norm: bool = False
    is_encoder: bool = False
    state_bytes: int = 140

    def paths(self, role: Role) -> tuple[str, ...]:
        """Return the paths of `role` relative to a layer."""
        if role == "attention_in":
            return self.attention_in
        if role == "ffn_in":
            return self.ffn_in
        return (self.attention_out,) if role == "attention_out" else (self.ffn_out,)


_BERT = Family(
    attention_in=("attention.self.query", "attention.self.key", "attention.self.value"),
    attention_out="attention.output.dense",
    ffn_in=("intermediate.dense",),
    ffn_out="output.dense",
    is_post_norm=True,
    is_encoder=True,
    state_bytes=45,
)
_LLAMA = Family(
    attention_in=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_out="self_attn.o_proj",
    ffn_in=("mlp.gate_proj", "mlp.up_proj"),
    ffn_out="mlp.down_proj",
    state_bytes=81,  # of qwen3; llama keeps 56
)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": Family(
        attention_in=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        attention_out="attention.output.dense",
        ffn_in=("intermediate.dense",),
        ffn_out="output.dense",
        takes_plain_attention=False,
        is_post_norm=True,
        is_encoder=True,
    ),
    "distilbert": Family(
        attention_in=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention_out="attention.out_lin",
        ffn_in=("ffn.lin1",),
        ffn_out="ffn.lin2",
        is_post_norm=True,
        is_encoder=True,
        state_bytes=45,
    ),
    "modernbert": Family(
        attention_in=("attn.Wqkv",),
        attention_out="attn.Wo",
        ffn_in=("mlp.Wi",),
        ffn_out="mlp.Wo",
        fused="blocks",
        is_gated_in_one=True,
        is_encoder=True,
        state_bytes=41,
    ),
    "gpt2": Family(
        attention_in=("attn.c_attn",),
        attention_out="attn.c_proj",
        ffn_in=("mlp.c_fc",),
        ffn_out="mlp.c_proj",
        fused="blocks",
        is_transposed=True,
        state_bytes=69,
    ),
    "gpt_neox": Family(
        attention_in=("attention.query_key_value",),
        attention_out="attention.dense",
        ffn_in=("mlp.dense_h_to_4h",),
        ffn_out="mlp.dense_4h_to_h",
        fused="heads",
    ),
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""Families by the `model_type` of their configuration."""


def find_family(model_type: str) -> Family | None:
    """Return the family, or None for one that the table does not hold.

    Examples:
        >>> find_family("gpt2").is_transposed
        True
    """
    return FAMILIES.get(model_type)


def require_family(model_type: str, *, purpose: str) -> Family:
    """Return the family or refuse.

    Args:
        model_type: as in the model's configuration.
        purpose: what needs the table, for the message ("unit importance").

    Raises:
        BadConfig: the family is not in the table.
    """
    family = FAMILIES.get(model_type)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise BadConfig(
            f"{purpose} needs the module names of the model family '{model_type}', which are not in "
            f"ctbench/families.py; known: {known}; choose a model of a known family or a method without parts"
        )
    return family
