from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest

from ctbench.data.stream import FilesText
from ctbench.data.tokens import PACKING_VERSION, Blocks, corpus, pack, tokenizer_digest
from ctbench.errors import BadData, RunFailed
from ctbench.graph import SCHEMA

SEP = 3


def documents(file):
    ends = [*file.starts[1:], file.num_tokens]
    return [file.tokens[start:end].tolist() for start, end in zip(file.starts, ends, strict=True)]


def test_packed_text_is_the_documents_whole_each_with_its_end(tmp_path, tokenizer):
    file = pack(
        ["phone rings", "a sharp lens a sharp lens a sharp lens a sharp lens", "unheard"], tokenizer, tmp_path / "x"
    )
    assert documents(file) == [[4, 6, SEP], [7, 8, 9] * 4 + [SEP], [1, SEP]]
    assert file.tokens.dtype == np.uint16
    assert (file.num_documents, file.num_tokens) == (3, 18)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_packing_in_many_batches_equals_packing_in_one(tmp_path, tokenizer, monkeypatch):
    texts = ["phone rings " * (n % 7 + 1) for n in range(100)]
    whole = pack(texts, tokenizer, tmp_path / "whole")
    monkeypatch.setattr("ctbench.data.tokens._BATCH_CHARACTERS", 50)
    parts = pack(iter(texts), tokenizer, tmp_path / "parts")
    assert (whole.tokens == parts.tokens).all()
    assert (whole.starts == parts.starts).all()


def test_failed_packing_leaves_nothing(tmp_path, tokenizer):
    def texts():
        yield "phone"
        raise BadData("broke off")

    with pytest.raises(BadData, match="broke off"):
        pack(texts(), tokenizer, tmp_path / "x")
    with pytest.raises(BadData, match="no documents"):
        pack([], tokenizer, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_the_flat_text_cut_into_rows(tmp_path, tokenizer):
    file = pack(["phone number rings", "a sharp lens good"], tokenizer, tmp_path / "x")
    flat = [4, 5, 6, 3, 7, 8, 9, 10, 3]
    plain = Blocks(file, 4)
    assert len(plain) == 2
    assert plain[np.array([1, 0, 1])].tolist() == [flat[4:8], flat[:4], flat[4:8]]
    encoder = Blocks(file, 4, cls_id=2)
    assert len(encoder) == 3
    assert encoder[np.array([2])].tolist() == [[2, *flat[6:9]]]
    assert encoder[np.array([2])].dtype == np.int64
    with pytest.raises(BadData, match="the text has 9 tokens, a block of length 11 needs 10"):
        Blocks(file, 11, cls_id=2)


def texts_of(file):
    return {tuple(ids) for ids in documents(file)}


def test_held_out_documents_are_two_percent_by_content_and_never_trained_on(folder, stream, tokenizer):
    lines = [{"text": " ".join("good" if bit == "1" else "bad" for bit in f"{n:012b}")} for n in range(4000)]
    path, phone = folder / "phone.jsonl", stream.domain("phone")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = corpus(stream, phone, tokenizer=tokenizer, cache=folder / "cache")
    assert not texts_of(first.train) & texts_of(first.held_out)
    assert first.train.num_documents + first.held_out.num_documents == 4000
    assert 50 < first.held_out.num_documents < 115
    path.write_text("".join(json.dumps(line) + "\n" for line in [*reversed(lines), *lines]))
    second = corpus(stream, phone, tokenizer=tokenizer, cache=folder / "cache")
    assert texts_of(second.held_out) == texts_of(first.held_out)
    assert not texts_of(second.train) & texts_of(second.held_out)


def test_of_little_text_more_is_held_out_but_never_more_than_a_fifth(folder, stream, tokenizer):
    found = corpus(stream, stream.domain("phone"), tokenizer=tokenizer, cache=folder / "cache")
    assert 0.1 * 200 < found.held_out.num_documents < 0.3 * 200
    assert found.train.num_documents + found.held_out.num_documents == 200


def test_few_documents_still_give_one_to_hold_out(stream, folder, tokenizer):
    found = corpus(stream, stream.domain("camera"), tokenizer=tokenizer, cache=folder / "cache")
    assert (found.train.num_documents, found.held_out.num_documents) == (2, 1)
    (folder / "general.txt").write_text("the same\nthe same\n")
    with pytest.raises(BadData, match="general text: 0 documents to train on and 2 held out"):
        corpus(stream, None, tokenizer=tokenizer, cache=folder / "cache")


def test_documents_of_a_declared_held_out_source_are_dropped_from_training(stream, folder, tokenizer):
    (folder / "kept.txt").write_text("phone number 3 rings\na sharp lens\n")
    (folder / "phone.jsonl").write_text('{"text": "phone number 3 rings"}\n{"text": "phone rings"}\n')
    domain = dataclasses.replace(stream.domain("phone"), held_out=FilesText(path=("kept.txt",)))
    found = corpus(stream, domain, tokenizer=tokenizer, cache=folder / "cache")
    assert documents(found.train) == [[4, 6, SEP]]
    assert found.held_out.num_documents == 2


def test_corpus_is_made_once_and_again_when_the_text_changes(stream, folder, tokenizer):
    def get():
        return corpus(stream, None, tokenizer=tokenizer, cache=folder / "cache").train.folder

    (folder / "general.txt").write_text("the sea\nthe sky\na lens\n")
    first = get()
    written = (first / "tokens.bin").stat().st_mtime_ns
    assert get() == first
    assert (first / "tokens.bin").stat().st_mtime_ns == written
    (folder / "general.txt").write_text("the sea\nthe sky\na phone\n")
    assert get() != first
    assert not [path for path in (folder / "cache").iterdir() if path.name.startswith(".")]


def test_tokenizers_with_another_end_of_document_share_no_corpus(stream, folder, tokenizer):
    other = copy.deepcopy(tokenizer)
    other.sep_token = other.unk_token
    assert tokenizer_digest(other) == tokenizer_digest(tokenizer)
    packed = [corpus(stream, None, tokenizer=each, cache=folder / "cache").train for each in (tokenizer, other)]
    assert [documents(each)[0][-1] for each in packed] == [tokenizer.sep_token_id, tokenizer.unk_token_id]


def test_another_packing_is_another_schema_of_nodes():
    # Nodes are named after the raw text: whoever raises the one raises the other, and this line.
    assert (PACKING_VERSION, SCHEMA) == (2, 1)


@pytest.mark.parametrize("name", ["tokens.bin", "starts.bin", "meta.json"])
def test_damaged_corpus_is_packed_again(stream, folder, tokenizer, name):
    cache = folder / "cache"
    whole = corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=cache).train.tokens.tolist()
    (damaged,) = cache.glob(f"*/train/{name}")
    damaged.write_bytes(damaged.read_bytes()[:-2])
    assert corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=cache).train.tokens.tolist() == whole


def test_packed_text_that_cannot_be_written_is_one_line(stream, folder, tokenizer):
    (folder / "file").write_text("")
    with pytest.raises(RunFailed, match="cannot be packed into the folder 'corpora' of CTBENCH_HOME"):
        corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=folder / "file" / "corpora")


def test_stream_without_general_text_is_refused(stream, folder, tokenizer):
    with pytest.raises(BadData, match="has no general text"):
        corpus(dataclasses.replace(stream, general=None), None, tokenizer=tokenizer, cache=folder)


def test_tokenizer_digest_ignores_truncation_and_padding_but_not_words(tokenizer):
    from transformers import PreTrainedTokenizerFast

    digest = tokenizer_digest(tokenizer)
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    assert tokenizer_digest(PreTrainedTokenizerFast(tokenizer_object=backend)) == digest
    backend.add_tokens(["zebra"])
    assert tokenizer_digest(PreTrainedTokenizerFast(tokenizer_object=backend)) != digest
