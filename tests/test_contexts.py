"""Contexts: whitened, weighted by rarity, and the same on every machine."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ctbench.backbone.batch import Batch
from ctbench.backbone.loading import load_backbone, load_saved
from ctbench.contexts import RARITY, Contexts, expected_words, to_context, unit, whitening
from ctbench.data.sources import read_texts
from ctbench.data.tasks import encode_task
from ctbench.data.tokens import Blocks, pack
from ctbench.engine.bases import require_shipped
from ctbench.masking import Masker
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


def frequency_of(backbone, ids):
    return torch.bincount(torch.as_tensor(ids), minlength=backbone.vocab_size)


def test_a_word_counts_less_the_more_frequent_it_is(base):
    contexts = Contexts(base)
    special = sorted(base.special_ids)
    assert set(contexts.weights.unique().tolist()) == {0.0, 1.0}  # before any text
    contexts.weigh(frequency_of(base, [20, 20, 20, 21, *special]))
    assert float(contexts.weights[20]) == pytest.approx(RARITY / (RARITY + 0.75))
    assert float(contexts.weights[21]) == pytest.approx(RARITY / (RARITY + 0.25))
    assert float(contexts.weights[22]) == 1.0
    assert not contexts.weights[special].any()


def test_special_tokens_and_padding_say_nothing(base):
    contexts = Contexts(base)
    special = sorted(base.special_ids)
    contexts.weigh(frequency_of(base, [10, 10, 11]))
    ids = torch.tensor([[10, 11, 12, special[0]]])
    mask = torch.tensor([[1, 1, 0, 0]])
    vectors, weights = contexts.read(Batch(input_ids=ids, attention_mask=mask))
    rare = contexts.weights[10] * contexts.vectors[10] + contexts.weights[11] * contexts.vectors[11]
    torch.testing.assert_close(vectors.sum(1)[0], rare)
    torch.testing.assert_close(weights.sum(1)[0, 0], contexts.weights[10] + contexts.weights[11])


def test_what_stands_at_predicted_places_of_an_encoder_says_nothing(base):
    contexts = Contexts(base)
    ids = torch.tensor([[10, 11, 12], [13, 14, 15]])
    batch = Batch(input_ids=ids, positions=torch.tensor([1, 5]))
    counted = contexts.read(batch)[1].squeeze(-1).tolist()
    if base.objective == "mlm":
        assert counted == [[1, 0, 1], [1, 1, 0]]
    else:  # what a decoder predicts there is the next token
        assert counted == [[1, 1, 1], [1, 1, 1]]


def test_expected_words_are_those_that_an_lm_gives_the_predicted_places(base):
    ids = torch.tensor([[10, 11, 12, 13]])
    batch = Batch(input_ids=ids, positions=torch.tensor([1, 2]))
    found = expected_words(base, [batch, batch])
    wanted = 2 * base(batch).logits.softmax(-1).sum(0)
    torch.testing.assert_close(found, wanted)
    assert found.shape == (base.vocab_size,)
    assert float(found.sum()) == pytest.approx(4.0, abs=1e-4)
    assert not found.requires_grad


@pytest.fixture(scope="module", params=["domain", "temporal"])
def read(request, tmp_path_factory):
    """A base, and by kind of text the token ids of each domain: blocks of its corpus, and its task's texts."""
    stream, folder = get_stream(request.param), tmp_path_factory.mktemp(request.param)
    backbone = load_saved(require_shipped(stream, "tiny")).eval()
    corpora, tasks = [], []
    for domain in stream.domains:
        texts = itertools.islice(read_texts(stream, domain.text, domain=domain.name), 2000)
        blocks = Blocks(
            pack(texts, backbone.tokenizer, folder / domain.name), 32, cls_id=backbone.tokenizer.cls_token_id
        )
        corpora.append(torch.as_tensor(blocks[np.arange(min(512, len(blocks)))]).long())
        train = encode_task(stream, domain, backbone.tokenizer, max_length=64).train
        tasks.append(torch.cat([torch.as_tensor(text) for text in train.ids]).long().unsqueeze(0))
    return backbone, corpora, tasks


def contexts_of(read, kind, *, asks=True):
    """The contexts of all corpora and of all tasks."""
    backbone, corpora, tasks = read
    torch.manual_seed(0)
    contexts = Contexts(backbone, kind=kind)
    if asks:
        masked = Masker.of(backbone, 0.3)(corpora[0].numpy(), np.random.default_rng(0))
        contexts.weigh(expected_words(backbone, [masked]))

    def context(ids):
        contexts.forget()
        contexts.observe(Batch(input_ids=ids))
        return contexts.running()

    return torch.stack([*map(context, corpora)]), torch.stack([*map(context, tasks)])


def between(contexts):
    """The cosines of different domains."""
    return torch.corrcoef(contexts)[~torch.eye(len(contexts), dtype=torch.bool)]


@pytest.mark.parametrize(("kind", "asks"), [("whitened", True), ("random", True), ("whitened", False)])
def test_contexts_tell_the_domains_of_a_stream_apart(read, kind, asks):
    """Under contexts that all domains share, a hypernetwork has nothing to choose by, although a probe may tell them apart."""
    cosines = between(contexts_of(read, kind, asks=asks)[0])
    assert (float(cosines.mean()) < 0.75) == asks


@pytest.mark.parametrize("counts", [False, True])
def test_no_domain_is_the_opposite_of_the_first(read, counts):
    """Where words are called rare that the first text lacks, all later texts are, and one condition serves them all."""
    backbone, corpora, _ = read
    contexts = Contexts(backbone)
    if counts:
        contexts.weigh(frequency_of(backbone, corpora[0].flatten()))
        found = torch.stack(
            [to_context(*(part.sum((0, 1)) for part in contexts.read(Batch(input_ids=ids)))) for ids in corpora]
        )
    else:
        found, _ = contexts_of(read, "whitened")
    first = torch.corrcoef(found)[0, 1:]
    assert (float(first.min()) > -0.2) != counts


@pytest.mark.parametrize("asks", [True, False])
def test_the_texts_of_a_task_are_of_their_domain(read, asks):
    """A cell reads other texts than a stage: where they seem to be of another domain, the LM answers as for that."""
    corpora, tasks = contexts_of(read, "whitened", asks=asks)
    cosines = F.normalize(tasks, dim=-1) @ F.normalize(corpora, dim=-1).T
    own, others = cosines.diagonal(), cosines.clone().fill_diagonal_(-1.0)
    assert float(own.min()) > 0.3
    assert (float((own - others.max(-1).values).min()) > 0.03) == asks  # all words alike: hardly nearer than the next


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


def test_vectors_are_made_anew_and_not_stored(base):
    contexts = Contexts(base)
    assert set(contexts.state_dict()) == {"weights", "total", "count"}
    assert torch.equal(contexts.vectors, Contexts(copy.deepcopy(base)).vectors)


def test_no_text_gives_a_context_of_0():
    assert not to_context(torch.zeros(4), torch.zeros(())).any()
    assert float(unit(torch.randn(9)).square().mean()) == pytest.approx(1.0)
