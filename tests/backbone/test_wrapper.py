"""One wrapper, eleven families: prompts, masked-only loss, features, exact copies."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import DECODERS, ENCODERS, FAMILY_NAMES, LENGTH, make_batch
from torch import nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch, Prompt
from ctbench.backbone.hooks import copy_layer
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig, BadData

Checkpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def loaded(checkpoint: Checkpoint) -> Callable[[str], Backbone]:
    """Return a function from a family to its backbone, shared by tests that change nothing."""
    made: dict[str, Backbone] = {}

    def get(model_type: str) -> Backbone:
        if model_type not in made:
            made[model_type] = load_backbone(str(checkpoint(model_type)))
        return made[model_type].eval()

    return get


def library_logits(backbone: Backbone, batch: Batch) -> torch.Tensor:
    """All logits, as the library alone computes them with its own attention."""
    model = copy.deepcopy(backbone.model)
    model.set_attn_implementation("eager")
    logits: torch.Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return logits


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_masked_only_loss_equals_the_full_loss(loaded, model_type, is_padded):
    backbone, batch = loaded(model_type), make_batch(is_padded=is_padded)
    output = backbone(batch)
    full = library_logits(backbone, batch)
    assert output.logits.shape == (len(batch.positions), backbone.vocab_size)
    torch.testing.assert_close(output.logits, full.flatten(0, 1)[batch.positions], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, F.cross_entropy(full.flatten(0, 1)[batch.positions], batch.targets))


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_masked_only_gradients_equal_the_full_ones(loaded, model_type):
    backbone, batch = copy.deepcopy(loaded(model_type)), make_batch(is_padded=True)
    backbone(batch).loss.backward()
    own = {name: parameter.grad for name, parameter in backbone.model.named_parameters()}
    model = copy.deepcopy(loaded(model_type).model)
    model.set_attn_implementation("eager")
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    F.cross_entropy(logits.flatten(0, 1)[batch.positions], batch.targets).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(own[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_prompts_reach_the_text_and_get_gradients(loaded, model_type, deep):
    backbone, batch = loaded(model_type), make_batch()
    vectors = make_vectors(backbone, deep).requires_grad_()
    output = backbone(batch, prompt=Prompt(vectors, deep))
    without = backbone(batch)
    assert output.hidden.shape == without.hidden.shape
    # Every text place feels the prompt; a decoder that takes restarting positions for packed texts would not.
    assert (output.hidden - without.hidden).abs().amax(-1).min() > 1e-4
    output.loss.backward()
    assert vectors.grad.abs().amax(-1).min() > 0


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_text_positions_are_unchanged_by_a_prompt(loaded, model_type, deep):
    backbone, batch = loaded(model_type), make_batch(is_padded=True)
    prompt = Prompt(make_vectors(backbone, deep), deep)
    # A prompt that nobody may look at leaves the text as it was, if and only if the positions are kept.
    inputs = backbone._inputs(batch, prompt)
    inputs["attention_mask"][:, : prompt.length] = 0
    backbone.tap.is_open = True
    backbone.model.base_model(**inputs)
    hidden = backbone.tap.hidden
    backbone.tap.reset()
    real = batch.attention_mask.bool()
    torch.testing.assert_close(hidden[real], backbone(batch).hidden[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_one_prompt_for_all_equals_one_for_each(loaded, model_type):
    backbone, batch = loaded(model_type), make_batch()
    for deep in (False, True):
        vectors = make_vectors(backbone, deep)
        each = vectors.expand(len(batch.input_ids), *vectors.shape)
        assert torch.equal(
            backbone(batch, prompt=Prompt(vectors, deep)).hidden, backbone(batch, prompt=Prompt(each, deep)).hidden
        )


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_padding_on_either_side_changes_nothing(loaded, model_type):
    backbone, batch = loaded(model_type), make_batch(num_rows=1, num_tokens=9)
    prompt = make_vectors(backbone, False)
    padding, ones = torch.ones(1, 4, dtype=torch.long), torch.ones(1, 9, dtype=torch.long)
    for given in (None, prompt):
        plain = backbone(batch, prompt=given, lm=False).hidden
        for right in (True, False):
            if model_type == "deberta-v2" and not right and given is not None:
                continue  # counts distances by place, so padding between prompt and text pushes them apart
            ids = torch.cat([batch.input_ids, padding] if right else [padding, batch.input_ids], dim=1)
            mask = torch.cat([ones, padding * 0] if right else [padding * 0, ones], dim=1)
            hidden = backbone(Batch(input_ids=ids, attention_mask=mask), prompt=given).hidden
            kept = hidden[:, :9] if right else hidden[:, 4:]
            torch.testing.assert_close(kept, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_features_are_what_enters_the_output_embedding(loaded, model_type):
    backbone, batch = loaded(model_type), make_batch(is_padded=True)
    features = backbone.features(batch, head="lm")
    decoder = backbone.model.get_output_embeddings()
    real = batch.attention_mask.bool()
    logits = F.linear(features, decoder.weight, decoder.bias)[real]
    torch.testing.assert_close(logits, library_logits(backbone, batch)[real], rtol=1e-4, atol=1e-4)
    assert features.shape[-1] == backbone.num_features(head="lm")
    assert torch.equal(backbone.features(batch, head="plain"), backbone(batch, lm=False).hidden)


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_state_comes_back_bit_for_bit_with_added_modules(checkpoint, loaded, model_type):
    first = copy.deepcopy(loaded(model_type))
    second = load_backbone(str(checkpoint(model_type)))
    for backbone in (first, second):
        backbone.added["extra"] = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn_like(parameter))
    state = first.state()
    second.load_state(state)
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in state.items())
    assert torch.equal(first(make_batch()).logits, second(make_batch()).logits)
    tied = first.model.get_input_embeddings().weight is first.model.get_output_embeddings().weight
    assert len(state) == len(dict(first.named_parameters())) + len(first.state_dict()) - len(
        list(first.named_parameters(remove_duplicate=False))
    )
    assert tied == (second.model.get_input_embeddings().weight is second.model.get_output_embeddings().weight)


def test_state_is_a_copy(loaded):
    backbone = copy.deepcopy(loaded("bert"))
    state = backbone.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        next(backbone.parameters()).zero_()
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_foreign_state_is_refused_in_one_line(loaded):
    backbone = copy.deepcopy(loaded("bert"))
    state = backbone.state()
    name = next(iter(state))
    with pytest.raises(BadData, match="missing"):
        backbone.load_state({key: value for key, value in state.items() if key != name})
    with pytest.raises(BadData, match="wanted"):
        backbone.load_state(state | {name: torch.zeros(1)})


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_copy_is_independent(loaded, model_type):
    backbone, batch = copy.deepcopy(loaded(model_type)), make_batch()
    prompt = make_vectors(backbone, True)
    teacher = copy.deepcopy(backbone).requires_grad_(False).eval()
    before = teacher(batch, prompt=Prompt(prompt, True)).logits
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
    # Interleaved passes: hooks of the copy must not write into the original.
    own = backbone(batch, prompt=Prompt(prompt, True)).logits
    assert torch.equal(teacher(batch, prompt=Prompt(prompt, True)).logits, before)
    assert not torch.equal(own, before)
    assert teacher.tap is not backbone.tap
    assert teacher.dropout_source is not backbone.dropout_source


def test_copy_for_a_cell_trains_everything(loaded):
    backbone = copy.deepcopy(loaded("modernbert"))
    clone = copy.deepcopy(backbone)
    clone.features(make_batch()).sum().backward()
    untouched = [name for name, parameter in clone.trainable() if parameter.grad is None]
    assert untouched in ([], ["model.decoder.bias"])
    assert all(parameter.grad is None for parameter in backbone.parameters())


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_bf16_autocast_stays_close_and_keeps_the_loss_in_fp32(loaded, model_type):
    backbone, batch = loaded(model_type), make_batch(is_padded=True)
    exact = backbone(batch, prompt=make_vectors(backbone, False))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = backbone(batch, prompt=make_vectors(backbone, False))
        features = backbone.features(batch)
    assert rounded.loss.dtype == torch.float32
    assert abs(rounded.loss.item() - exact.loss.item()) < 0.03 * exact.loss.item()
    assert torch.isfinite(features.float()).all()


def test_prompter_is_asked_and_can_be_silenced(loaded):
    class Prompter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Parameter(torch.randn(2, 32))

        def forward(self, backbone: Backbone, batch: Batch) -> Prompt:
            level = backbone(batch, prompt=None, lm=False).hidden.mean((1, 2))  # a pass inside a pass
            return Prompt(self.vectors + level[:, None, None])

    backbone, batch = copy.deepcopy(loaded("roberta")), make_batch()
    plain = backbone(batch).hidden
    backbone.added["maker"] = Prompter()
    backbone.prompter = "maker"
    assert not torch.equal(backbone(batch).hidden, plain)
    assert torch.equal(backbone(batch, prompt=None).hidden, plain)
    assert not torch.equal(backbone.features(batch), backbone.features(batch, prompt=None))
    clone = copy.deepcopy(backbone)
    assert torch.equal(clone(batch).hidden, backbone(batch).hidden)


def test_prompt_of_length_zero_is_none(loaded):
    backbone, batch = loaded("bert"), make_batch()
    assert torch.equal(backbone(batch, prompt=torch.zeros(0, 32)).logits, backbone(batch).logits)


def test_prompts_of_the_wrong_shape_are_refused(loaded):
    backbone, batch = loaded("electra"), make_batch()
    assert (backbone.width, backbone.hidden_size) == (16, 32)
    with pytest.raises(ValueError, match="wanted"):
        backbone(batch, prompt=torch.zeros(2, 32))
    with pytest.raises(ValueError, match="wanted"):
        backbone(batch, prompt=Prompt(torch.zeros(3, 2, 32), deep=True))


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "electra", "gpt2"])
def test_longest_text_works_with_a_prompt_and_one_more_token_is_refused(loaded, model_type):
    backbone = loaded(model_type)
    assert backbone.max_length == LENGTH
    longest = Batch(input_ids=torch.full((1, LENGTH), 7))
    assert backbone(longest, prompt=make_vectors(backbone, False)).hidden.shape[1] == LENGTH
    with pytest.raises(BadData, match=f"at most {LENGTH} tokens, found {LENGTH + 1}"):
        backbone(Batch(input_ids=torch.full((1, LENGTH + 1), 7)))


@pytest.mark.parametrize("model_type", ["modernbert", "deberta-v2", "gpt_neox", "llama"])
def test_relative_positions_have_no_limit(loaded, model_type):
    backbone = loaded(model_type)
    assert backbone.max_length is None
    assert backbone(Batch(input_ids=torch.full((1, LENGTH + 20), 7))).hidden.shape[1] == LENGTH + 20


def test_training_after_evaluation_in_inference_mode(loaded):
    batch = make_batch(num_tokens=11)

    def gradients(*, evaluates: bool) -> dict[str, torch.Tensor]:
        backbone = copy.deepcopy(loaded("bert")).eval()
        if evaluates:
            with torch.inference_mode():
                backbone(batch)
        backbone(batch).loss.backward()
        return {name: weight.grad for name, weight in backbone.trainable() if weight.grad is not None}

    found, wanted = gradients(evaluates=True), gradients(evaluates=False)
    assert found.keys() == wanted.keys()
    assert wanted
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_goes_wrong_in_a_pass_leaves_no_trace(loaded):
    backbone, batch = copy.deepcopy(loaded("bert")), make_batch()
    expected = backbone(batch).logits
    with pytest.raises(IndexError):
        backbone(dataclasses.replace(batch, positions=torch.tensor([10_000])))
    assert torch.equal(backbone(batch).logits, expected)
    assert backbone.model(input_ids=batch.input_ids).logits.shape == (3, 12, backbone.vocab_size)


def test_dropout_follows_its_source_and_not_torch(checkpoint):
    backbone, batch = load_backbone(str(checkpoint("bert", 0.3))), make_batch()
    backbone.train()
    backbone.dropout_source.reseed(5)
    first = backbone(batch).logits
    torch.manual_seed(99)
    assert not torch.equal(backbone(batch).logits, first)
    backbone.dropout_source.reseed(5)
    assert torch.equal(backbone(batch).logits, first)
    clone = copy.deepcopy(backbone)
    assert torch.equal(clone(batch).logits, backbone(batch).logits)


def test_parts_can_be_replaced_under_the_names_of_the_state(loaded):
    backbone, batch = copy.deepcopy(loaded("gpt2")), make_batch()
    expected = backbone(batch).logits
    (name, module), *_ = backbone.parts("ffn_out")
    assert f"{name}.weight" in backbone.state()
    backbone.replace(name, nn.Sequential(module, nn.Identity()))
    assert torch.equal(backbone(batch).logits, expected)
    assert isinstance(backbone.parts("ffn_out")[0][1], nn.Sequential)
    assert f"{name}.0.weight" in backbone.state()


def test_embed_gives_words_without_positions(loaded):
    backbone = loaded("gpt2")
    embedded = backbone.embed(torch.tensor([[9, 9]]))
    assert torch.equal(embedded[0, 0], embedded[0, 1])
    assert embedded.shape[-1] == backbone.width


def test_batch_moves_with_all_its_parts():
    batch = make_batch(is_padded=True)
    assert torch.equal(batch.to("cpu").input_ids, batch.input_ids)
    moved = batch.to("meta")
    assert moved.input_ids.is_meta
    assert moved.attention_mask.is_meta
    assert make_batch().to("meta").attention_mask is None


def test_model_without_a_list_of_layers_still_trains_but_refuses_deep_prompts(tmp_path):
    from transformers import AlbertConfig, AlbertForMaskedLM

    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=96, embedding_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=48, pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    backbone = Backbone(AlbertForMaskedLM(config), tokenizer=None, objective="mlm", name="albert").eval()
    batch = make_batch(is_padded=True)
    full = backbone.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    torch.testing.assert_close(backbone(batch).logits, full.flatten(0, 1)[batch.positions])
    assert backbone(batch, prompt=torch.randn(2, 16)).hidden.shape == (3, 12, 32)
    assert backbone.features(batch).shape == (3, 12, 16)
    for refused in (
        lambda: backbone(batch, prompt=Prompt(torch.zeros(3, 2, 32), deep=True)),
        lambda: backbone.parts("ffn_out"),
        lambda: backbone.num_layers,
    ):
        with pytest.raises(BadConfig, match="albert"):
            refused()


def test_objective_follows_the_family(loaded):
    assert {loaded(name).objective for name in ENCODERS} == {"mlm"}
    assert {loaded(name).objective for name in DECODERS} == {"clm"}


def make_vectors(backbone: Backbone, deep: bool, num_prompt: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if deep:
        return torch.randn(backbone.num_layers, num_prompt, backbone.hidden_size, generator=generator)
    return torch.randn(num_prompt, backbone.width, generator=generator)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_copied_layer_has_no_hooks_and_shares_configuration_and_dropout(family: str, checkpoint: Checkpoint) -> None:
    backbone = load_backbone(str(checkpoint(family, 0.1)))
    layer, clone = backbone.layers[1], copy_layer(backbone, 1)
    assert layer._forward_pre_hooks  # of the backbone itself
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in clone.modules())
    for part, copied in zip(layer.modules(), clone.modules(), strict=True):
        assert copied.dropout_source is backbone.dropout_source
        assert getattr(copied, "config", None) is getattr(part, "config", None)
    assert all(
        torch.equal(one, other) and one is not other
        for one, other in zip(layer.parameters(), clone.parameters(), strict=True)
    )
