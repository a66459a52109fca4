"""Contexts: whitened, weighted by rarity, and the same on every machine."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from ctbench.backbone.batch import Batch
from ctbench.backbone.loading import load_backbone, load_saved
from ctbench.contexts import Contexts, guess_frequencies, to_context, unit, whitening
from ctbench.data.sources import read_texts
from ctbench.engine.bases import require_shipped
from ctbench.plugins.find import get_stream


@pytest.fixture(scope="module", params=["bert", "llama"])
def base(request, checkpoint):
    return load_backbone(str(checkpoint(request.param, 0.0)))


def test_whitened_vectors_have_variance_1_in_every_direction():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(200, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    vectors -= vectors.mean(0)
    white = vectors @ whitening(vectors, max_width=8)
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(8), atol=1e-4, rtol=0)
    kept = vectors @ whitening(vectors, max_width=3)
    torch.testing.assert_close(kept.T @ kept / len(kept), torch.eye(3), atol=1e-4, rtol=0)


def test_sign_of_a_direction_is_that_of_its_largest_entry():
    vectors = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    matrix = whitening(vectors, max_width=4)
    assert (matrix.gather(0, matrix.abs().argmax(0, keepdim=True)) > 0).all()


def test_rounding_changes_what_is_whitened_by_rounding():
    """Other processors add up in another order; eigenvectors of a covariance near the identity turn with that."""
    vectors = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    noisy = vectors + 1e-6 * torch.randn(4000, 64, generator=torch.Generator().manual_seed(1))

    def moved(max_width: int) -> float:
        one, other = (each @ whitening(each, max_width=max_width) for each in (vectors, noisy))
        return float((one - other).abs().max())

    assert moved(64) < 1e-4
    assert moved(63) > 10 * moved(64)  # eigenvectors, for comparison


def test_guessed_frequencies_are_a_distribution_and_change_nothing(base):
    base.train()
    found = guess_frequencies(base)
    assert base.training
    assert found.shape == (base.vocab_size,)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-4)
    assert torch.equal(found, guess_frequencies(base))


def test_special_tokens_and_padding_say_nothing(base):
    contexts = Contexts(base)
    special = sorted(base.special_ids)
    assert not contexts.table[special].any()
    ids = torch.tensor([[10, 11, 12, special[0]]])
    mask = torch.tensor([[1, 1, 0, 0]])
    vectors, weights = contexts.read(Batch(input_ids=ids, attention_mask=mask))
    torch.testing.assert_close(vectors.sum(1)[0], contexts.table[10] + contexts.table[11])
    torch.testing.assert_close(weights.sum(1)[0, 0], contexts.weights[10] + contexts.weights[11])


@pytest.mark.parametrize(("kind", "alike"), [("whitened", False), ("random", False), ("plain", True)])
def test_contexts_tell_the_domains_of_a_stream_apart(kind, alike):
    """Under contexts that all domains share, a hypernetwork has nothing to choose by, although a probe may tell them apart."""
    stream = get_stream("domain")
    backbone = load_saved(require_shipped(stream, "tiny"))
    torch.manual_seed(0)
    contexts = Contexts(backbone, kind=kind)
    found = []
    for domain in stream.domains:
        texts = list(itertools.islice(read_texts(stream, domain.text, domain=domain.name), 200))
        ids = backbone.tokenizer(" ".join(texts), add_special_tokens=False, return_tensors="pt")["input_ids"]
        contexts.forget()
        contexts.observe(Batch(input_ids=ids))
        found.append(unit(contexts.running()))
    cosines = torch.corrcoef(torch.stack(found))[~torch.eye(len(found), dtype=torch.bool)]
    assert float(cosines.min()) > 0.95 if alike else float(cosines.max()) < 0.85


def test_running_sum_is_that_of_all_batches_and_can_be_forgotten(base):
    contexts = Contexts(base)
    batches = [
        Batch(input_ids=torch.randint(5, 90, (2, 7), generator=torch.Generator().manual_seed(k))) for k in (0, 1)
    ]
    for batch in batches:
        contexts.observe(batch)
    whole = contexts.read(Batch(input_ids=torch.cat([batch.input_ids for batch in batches])))
    torch.testing.assert_close(contexts.running(), to_context(whole[0].sum((0, 1)), whole[1].sum()))
    contexts.forget()
    assert not contexts.running().any()


def test_table_is_made_anew_and_not_stored(base):
    contexts = Contexts(base)
    assert set(contexts.state_dict()) == {"total", "count"}
    assert torch.equal(contexts.table, Contexts(copy.deepcopy(base)).table)


def test_no_text_gives_a_context_of_0():
    assert not to_context(torch.zeros(4), torch.zeros(())).any()
    assert float(unit(torch.randn(9)).square().mean()) == pytest.approx(1.0)
