"""Dropout and attention for CPUs equal what they replace, and repeat exactly."""

from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import FAMILY_NAMES, make_batch
from torch import nn
from torch.nn import functional as F

from ctbench.backbone.loading import load_backbone
from ctbench.kernels.attention import ATTENTION, plain_attention, plain_mask
from ctbench.kernels.dropout import CheapDropout, DropoutSource, drop, use_cheap_dropout
from ctbench.kernels.lm_head import lm_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dropped_share_and_scale_are_right(dtype):
    x = torch.ones(200, 501, dtype=dtype)
    dropped = drop(x, 0.1, DropoutSource(0))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.9, dtype=dtype).item()}
    share = (dropped == 0).float().mean().item()
    assert abs(share - 0.1) < 5 * (0.09 / x.numel()) ** 0.5
    assert abs((dropped == 0).float().mean(1).std().item() - (0.09 / 501) ** 0.5) < 0.002  # rows are independent


def test_gradient_passes_exactly_where_the_number_stayed():
    x = torch.randn(50, 7, requires_grad=True)
    dropped = drop(x, 0.4, DropoutSource(1))
    dropped.sum().backward()
    assert torch.equal(x.grad != 0, dropped != 0)
    torch.testing.assert_close(x.grad[dropped != 0], torch.full_like(x.grad[dropped != 0], 1 / 0.6))


def test_strided_input_is_dropped_like_a_plain_one():
    x = torch.randn(6, 5, 4)
    strided = drop(x.transpose(0, 2), 0.5, DropoutSource(2))
    assert torch.equal(strided, drop(x.transpose(0, 2).contiguous(), 0.5, DropoutSource(2)))


def test_source_repeats_from_its_seed():
    source = DropoutSource(3)
    first = source.keep((7, 3), 0.5, torch.float32)
    second = source.keep((7, 3), 0.5, torch.float32)
    assert torch.equal(DropoutSource(3).keep((7, 3), 0.5, torch.float32), first)
    source.reseed(3)
    assert torch.equal(source.keep((7, 3), 0.5, torch.float32), first)
    assert not torch.equal(first, second)


def test_modules_are_replaced_and_share_one_source():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 2)))
    model.eval()
    source = DropoutSource(0)
    use_cheap_dropout(model, source)
    found = [module for module in model.modules() if isinstance(module, CheapDropout)]
    assert [module.p for module in found] == [0.5, 0.2]
    assert all(module.source is source and not module.training for module in found)
    x = torch.randn(3, 4)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    clone = copy.deepcopy(model)
    assert torch.equal(clone(x), model(x))
    assert "p=0.5" in repr(model)


def test_extreme_shares():
    x = torch.randn(4, 4)
    assert drop(x, 0.0, DropoutSource(0)) is x
    assert not drop(x, 1.0, DropoutSource(0)).any()
    assert drop(x.double(), 0.5, DropoutSource(0)).dtype == torch.float64


def reference(q, k, v, mask, scaling):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling).transpose(1, 2)


@pytest.mark.parametrize("num_shared", [1, 2, 4])
@pytest.mark.parametrize("masked", ["none", "padding", "causal"])
def test_plain_attention_equals_torchs(masked, num_shared):
    torch.manual_seed(0)
    q = torch.randn(3, 4, 9, 8, requires_grad=True)
    k, v = (torch.randn(3, num_shared, 9, 8, requires_grad=True) for _ in range(2))
    low = torch.finfo(torch.float32).min
    masks = {
        "none": None,
        "padding": torch.where(torch.arange(9) < torch.tensor([9, 5, 1])[:, None], 0.0, low)[:, None, None],
        "causal": torch.full((9, 9), low).triu(1)[None, None],
    }
    mask = masks[masked]
    seen = None if mask is None else mask == 0
    for scaling in (None, 0.7):
        own, weights = plain_attention(nn.Module(), q, k, v, mask, scaling=scaling)
        assert weights is None
        expected = reference(q, k, v, seen, scaling)
        torch.testing.assert_close(own, expected)
        weighting = torch.randn_like(own)
        for mine, theirs in zip(
            torch.autograd.grad((own * weighting).sum(), (q, k, v)),
            torch.autograd.grad((expected * weighting).sum(), (q, k, v)),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_attention_dropout_equals_the_formula():
    torch.manual_seed(0)
    module = nn.Module()
    module.dropout_source = DropoutSource(5)
    q, k, v = (torch.randn(2, 3, 6, 4, requires_grad=True) for _ in range(3))
    own, _ = plain_attention(module, q, k, v, None, dropout=0.3)
    keep = DropoutSource(5).keep((6, 6, 6), 0.3, torch.float32).view(2, 3, 6, 6) != 0
    weights = (q @ k.transpose(2, 3) * 0.5).softmax(-1) * keep / 0.7
    expected = (weights @ v).transpose(1, 2)
    torch.testing.assert_close(own, expected)
    weighting = torch.randn_like(own)
    for mine, theirs in zip(
        torch.autograd.grad((own * weighting).sum(), (q, k, v)),
        torch.autograd.grad((expected * weighting).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_bf16_attention_is_within_rounding():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 26, 32) for _ in range(3))
    exact = reference(q, k, v, None, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own, _ = plain_attention(nn.Module(), q, k, v, None)
    assert own.dtype == torch.bfloat16
    assert (own.float() - exact).abs().max() < 0.02


def test_a_row_of_nothing_but_padding_gives_numbers():
    mask = torch.full((1, 1, 1, 4), torch.finfo(torch.float32).min)
    own, _ = plain_attention(nn.Module(), *(torch.randn(1, 2, 4, 8) for _ in range(3)), mask)
    assert torch.isfinite(own).all()


@pytest.mark.parametrize(("num_rows", "vocabulary"), [(1, 7), (600, 2_000), (40, 30_522)])
def test_lm_loss_and_its_gradient_are_those_of_torch_within_rounding(num_rows, vocabulary):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(num_rows, vocabulary, generator=generator)).bfloat16().requires_grad_()
    targets = torch.randint(vocabulary, (num_rows,), generator=generator)
    wanted = F.cross_entropy(logits.float(), targets)
    (wanted_grad,) = torch.autograd.grad(2 * wanted, logits)
    found = lm_loss(logits, targets)
    assert type(found.grad_fn).__name__ == "_LMLossBackward"
    (grad,) = torch.autograd.grad(2 * found, logits)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad, wanted_grad, rtol=1e-2, atol=1e-9)
    other = F.cross_entropy(logits.float(), (targets + 1) % vocabulary)
    assert abs(other - found) > 1e-3  # a loss of other targets would be noticed


def test_lm_loss_of_a_target_without_any_share_is_finite():
    logits = torch.tensor([[300.0, 0.0, -300.0], [1.0, 2.0, 3.0]]).bfloat16().requires_grad_()
    loss = lm_loss(logits, torch.tensor([2, 1]))
    loss.backward()
    assert loss.item() == pytest.approx((600 + F.cross_entropy(logits[1:].float(), torch.tensor([1])).item()) / 2)
    assert torch.isfinite(logits.grad).all()


def test_lm_loss_in_float32_is_torchs_bit_for_bit():
    logits, targets = torch.randn(50, 90, requires_grad=True), torch.randint(90, (50,))
    assert torch.equal(lm_loss(logits, targets), F.cross_entropy(logits, targets))


def test_masks_are_as_small_as_they_can_be():
    from transformers import masking_utils

    sizes = {"batch_size": 2, "q_length": 3, "kv_length": 3, "dtype": torch.float32}
    everyone, causal = masking_utils.bidirectional_mask_function, masking_utils.causal_mask_function
    text = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    assert plain_mask(mask_function=everyone, attention_mask=None, **sizes) is None
    assert plain_mask(mask_function=everyone, attention_mask=text, **sizes).shape == (2, 1, 1, 3)
    assert plain_mask(mask_function=causal, attention_mask=None, **sizes).shape == (1, 1, 3, 3)
    assert plain_mask(mask_function=causal, attention_mask=text, **sizes).shape == (2, 1, 3, 3)


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_every_family_trains_with_dropout_and_repeats_exactly(checkpoint, model_type):
    backbone, batch = load_backbone(str(checkpoint(model_type, 0.2))), make_batch(is_padded=True)
    wanted = "eager" if model_type == "deberta-v2" else ATTENTION
    assert backbone.model.config._attn_implementation == wanted
    assert not any(type(module) is nn.Dropout for module in backbone.modules())
    backbone.train()
    losses = []
    for seed in (1, 1, 2):
        backbone.dropout_source.reseed(seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = backbone(batch).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1] != losses[2]
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)
    assert backbone.eval()(batch).loss == backbone(batch).loss


def test_sliding_windows_survive_plain_attention(tmp_path):
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    from ctbench.backbone import Backbone

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        layer_types=["full_attention", "sliding_attention"], local_attention=8, pad_token_id=1,
    )  # fmt: skip
    model = ModernBertForMaskedLM(config).eval()
    batch = make_batch(num_tokens=30, is_padded=True)
    expected = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    backbone = Backbone(model, tokenizer=None, objective="mlm", name="windowed")
    assert model.config._attn_implementation == ATTENTION
    torch.testing.assert_close(backbone(batch).logits, expected.flatten(0, 1)[batch.positions], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_plain_kernels_give_the_same_losses_and_gradients(family, checkpoint, monkeypatch):
    """Without dropout, whose masks differ; the attention is really another one."""
    batch, found = make_batch(num_tokens=12, is_padded=True), []
    for plain in ("", "1"):
        monkeypatch.setenv("CTBENCH_PLAIN_KERNELS", plain)
        backbone = load_backbone(str(checkpoint(family)))
        backbone.train()
        loss = backbone(batch).loss
        loss.backward()
        grads = torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None])
        found.append((backbone.model.config._attn_implementation, loss.detach(), grads))
    ours, theirs = found
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-3, atol=1e-6)
    if backbone.family is not None and backbone.family.takes_plain_attention:
        assert (ours[0], theirs[0]) == (ATTENTION, "sdpa")


def test_plain_kernels_switch_off_every_kernel(checkpoint, monkeypatch):
    def ours(backbone):
        kinds = {type(module).__name__ for module in backbone.modules()} & {"CheapDropout", "AlignedLinear"}
        logits = torch.randn(3, 5, dtype=torch.bfloat16, requires_grad=True)
        kinds.add(type(lm_loss(logits, torch.tensor([0, 1, 2])).grad_fn).__name__)
        return kinds | {type(drop(torch.ones(4, requires_grad=True), 0.5, DropoutSource(0)).grad_fn).__name__}

    monkeypatch.delenv("CTBENCH_PLAIN_KERNELS", raising=False)
    with_kernels = ours(load_backbone(str(checkpoint("bert", 0.1))))
    monkeypatch.setenv("CTBENCH_PLAIN_KERNELS", "1")
    assert with_kernels & ours(load_backbone(str(checkpoint("bert", 0.1)))) == set()
    assert {"CheapDropout", "_LMLossBackward", "_DropBackward"} <= with_kernels
