"""The embedded backbone: vocabulary, weights, saving."""

from __future__ import annotations

import errno
import mmap
import subprocess
import sys

import pytest
import torch
from disks import fill

from ctbench.backbone import Batch
from ctbench.backbone.checkpoint import MADE, dimensions
from ctbench.backbone.loading import backbone_digest, load_backbone, load_saved, save_backbone
from ctbench.backbone.tiny import MAX_WORDS, NUM_SUBWORDS, build_tiny, build_tokenizer
from ctbench.errors import BadData

TEXTS = ["The sea is Blue", "the sky is blue and the sea", "a cloud"]
MANY = [f"word{i} and verb{i * 7} . Again ({i})" for i in range(MAX_WORDS)]


def test_words_are_numbered_by_frequency_after_the_special_tokens():
    tokenizer = build_tokenizer(TEXTS)
    vocabulary = tokenizer.get_vocab()
    words = sorted(vocabulary, key=vocabulary.get)
    assert words == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "blue",
        "is",
        "sea",
        "a",
        "and",
        "cloud",
        "sky",
    ]
    assert tokenizer("THE sea storm")["input_ids"] == [2, 5, 8, 1, 3]
    assert tokenizer("sea", "sky")["input_ids"] == [2, 8, 3, 12, 3]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id) == (0, 4, 1)


def test_order_of_texts_does_not_matter():
    assert build_tokenizer(TEXTS).get_vocab() == build_tokenizer(reversed(TEXTS)).get_vocab()


def test_many_words_make_subwords():
    tokenizer = build_tokenizer(iter(MANY))
    assert 100 < len(tokenizer) <= NUM_SUBWORDS
    ids = tokenizer("Word123word Ünseen")["input_ids"]
    assert (ids[0], ids[-1]) == (2, 3)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == " word123word ünseen"


def test_subwords_are_the_same_in_another_process():
    code = (
        "from ctbench.backbone.tiny import build_tokenizer;"
        f"t=build_tokenizer(f'word{{i}} and verb{{i * 7}} . Again ({{i}})' for i in range({MAX_WORDS}));"
        "print(t.backend_tokenizer.to_str())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == build_tokenizer(MANY).backend_tokenizer.to_str()


def test_weights_follow_the_seed_and_nothing_else():
    first = build_tiny(TEXTS, seed=1)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    second = build_tiny(TEXTS, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())
    assert any(
        not torch.equal(tensor, build_tiny(TEXTS, seed=2).state()[name]) for name, tensor in first.state().items()
    )


def test_shape_is_small_and_without_dropout():
    backbone = build_tiny(TEXTS, seed=0)
    assert (backbone.num_layers, backbone.hidden_size, backbone.vocab_size) == (2, 128, 13)
    assert (backbone.objective, backbone.name, backbone.max_length) == ("mlm", "tiny", None)
    batch = Batch(input_ids=torch.tensor([[2, 5, 4, 3]]), positions=torch.tensor([2]), targets=torch.tensor([8]))
    backbone.train()
    assert torch.equal(backbone(batch).logits, backbone(batch).logits)


@pytest.mark.parametrize("texts", [TEXTS, MANY], ids=["words", "subwords"])
@pytest.mark.parametrize("name", MADE)
def test_saved_backbone_comes_back_exactly(tmp_path, texts, name):
    backbone = build_tiny(texts, seed=3, name=name)
    save_backbone(backbone, tmp_path)
    for again in (load_saved(tmp_path), load_backbone(str(tmp_path))):
        assert all(torch.equal(tensor, again.state()[name]) for name, tensor in backbone.state().items())
        batch = Batch(input_ids=torch.randint(5, 13, (2, 8)), positions=torch.tensor([3, 9]))
        assert torch.equal(again(batch).logits, backbone(batch).logits)
        assert again.tokenizer.get_vocab() == backbone.tokenizer.get_vocab()
        text = texts[0] + " storm"
        assert again.tokenizer(text, "sea")["input_ids"] == backbone.tokenizer(text, "sea")["input_ids"]
        assert again.special_ids == backbone.special_ids == {0, 1, 2, 3, 4}
        assert (again.name, again.objective) == (name, MADE[name][0])
        assert again.digest == backbone_digest(str(tmp_path))
        assert not again.training


@pytest.mark.parametrize(("name", "width", "heads"), [("tiny-64", 64, 2), ("tiny", 128, 4), ("tiny-256", 256, 8)])
def test_widths_keep_the_layers_and_the_size_of_a_head(name, width, heads):
    backbone = build_tiny(TEXTS, seed=0, name=name)
    assert (backbone.num_layers, backbone.hidden_size, backbone.name) == (2, width, name)
    assert backbone.model.config.num_attention_heads == heads
    assert dimensions(name)[:2] == (2, width)


def test_decoder_is_as_large_and_sees_only_what_is_to_the_left():
    encoder, decoder = build_tiny(TEXTS, seed=0), build_tiny(TEXTS, seed=0, name="tiny-causal")
    assert (decoder.num_layers, decoder.hidden_size, decoder.vocab_size) == (2, 128, 13)
    sizes = [sum(weight.numel() for weight in each.parameters()) for each in (encoder, decoder)]
    assert 0.9 < sizes[1] / sizes[0] < 1.1
    one, other = torch.tensor([[3, 5, 6, 7]]), torch.tensor([[3, 5, 6, 8]])
    for backbone, is_causal in ((decoder, True), (encoder, False)):
        pair = [backbone(Batch(input_ids=ids)).hidden[:, :3] for ids in (one, other)]
        assert torch.equal(*pair) == is_causal


def test_decoder_reads_a_text_as_it_stands_in_packed_text_and_ends_with_a_word():
    tokenizer = build_tokenizer(TEXTS, objective="clm")
    assert tokenizer.get_vocab() == build_tokenizer(TEXTS).get_vocab()
    assert tokenizer("THE sea storm")["input_ids"] == [3, 5, 8, 1]
    assert tokenizer("sea", "sky")["input_ids"] == [3, 8, 3, 12]


def test_saved_twice_has_one_digest(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_backbone(build_tiny(TEXTS, seed=3), tmp_path / name)
    assert backbone_digest(str(tmp_path / "a")) == backbone_digest(str(tmp_path / "b"))
    (tmp_path / "c").mkdir()
    save_backbone(build_tiny(TEXTS, seed=4), tmp_path / "c")
    assert backbone_digest(str(tmp_path / "c")) != backbone_digest(str(tmp_path / "a"))


@pytest.mark.parametrize("num_pages", [1, 2], ids=["tokenizer", "weights"])
def test_a_backbone_for_which_the_disk_has_no_room_is_an_oserror(small_disk, num_pages):
    fill(small_disk, but=num_pages * mmap.PAGESIZE)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_backbone(build_tiny(TEXTS, seed=3), small_disk)
    assert error.value.errno == errno.ENOSPC


def test_added_modules_are_not_saved_silently(tmp_path):
    backbone = build_tiny(TEXTS, seed=3)
    backbone.added["extra"] = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="extra"):
        save_backbone(backbone, tmp_path)


def test_broken_folder_is_one_line(tmp_path):
    save_backbone(build_tiny(TEXTS, seed=3), tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadData, match="broken") as error:
        load_saved(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_words_are_refused(texts):
    with pytest.raises(BadData, match="general"):
        build_tiny(texts, seed=0)
