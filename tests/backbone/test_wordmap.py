"""Maps of the word embeddings against products written out."""

from __future__ import annotations

import pytest
import torch

from ctbench.backbone.wordmap import WordMap

M, D, R, B, T = 3, 5, 2, 4, 6


@pytest.fixture
def factors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(M, D, R, generator=generator), torch.randn(M, R, D, generator=generator)


@pytest.mark.parametrize("shape", [(M,), (B, M), (B, T, M)])
def test_words_and_features_are_mapped_as_written(factors, shape):
    down, up = factors
    shares = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    words = torch.randn(B, T, D, generator=torch.Generator().manual_seed(2))
    word_map = WordMap(shares, factors, factors)
    full = shares.view(*(1,) * (3 - len(shape)), *shape) if len(shape) != 2 else shares.unsqueeze(1)
    full = full.expand(B, T, M)
    matrices = torch.eye(D) + torch.einsum("btm,mdr,mre->btde", full, down, up)
    torch.testing.assert_close(word_map.words(words), torch.einsum("btd,btde->bte", words, matrices))
    wanted = torch.einsum("btd,bted->bte", words, matrices)
    torch.testing.assert_close(word_map.features(words, positions=None, num_tokens=T), wanted)
    positions = torch.tensor([0, 7, 13, 23])
    gathered = words.flatten(0, 1)[positions].unsqueeze(0)
    mapped = word_map.features(gathered, positions=positions, num_tokens=T)
    torch.testing.assert_close(mapped, wanted.flatten(0, 1)[positions].unsqueeze(0))


def test_places_that_are_not_mapped_stay_as_they_are(factors):
    words = torch.randn(B, T, D)
    shares = torch.rand(M)
    assert WordMap(shares, None, factors).words(words) is words
    assert WordMap(shares, factors, None).features(words, positions=None, num_tokens=T) is words
    assert not torch.equal(WordMap(shares, factors, None).words(words), words)


def test_only_one_context_can_be_baked(factors):
    with pytest.raises(ValueError, match=r"only one context can be baked in; these shares are \[4, 3\]"):
        WordMap(torch.rand(B, M), factors, factors).baked(torch.randn(7, D))
