from __future__ import annotations

import copy
import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from harm import HARM
from tokenizers import Tokenizer

from ctbench.data.stream import FilesText
from ctbench.data.tokens import PACKING_VERSION, Blocks, _Texts, corpus, corpus_size, pack, tokenizer_digest
from ctbench.engine.node import NODE_SCHEMA
from ctbench.errors import BadData, Notice, RunFailed
from ctbench.machine.files import is_scratch
from ctbench.machine.manifest import ASIDE
from ctbench.randomness import make_generator

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


def with_id(tokenizer, number):
    """The tokenizer with another id for the word phone."""
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    told["model"]["vocab"]["phone"] = number
    other = copy.deepcopy(tokenizer)
    other._tokenizer = Tokenizer.from_str(json.dumps(told))
    return other


@pytest.mark.parametrize(("number", "dtype"), [(2**16 - 1, np.uint16), (2**16, np.uint32), (70_000, np.uint32)])
def test_ids_of_a_vocabulary_with_holes_are_packed_whole(tmp_path, tokenizer, number, dtype):
    file = pack(["phone rings"], with_id(tokenizer, number), tmp_path / "x")
    assert documents(file) == [[number, 6, SEP]]
    assert file.tokens.dtype == dtype


def test_the_name_of_a_corpus_changes_with_high_ids_of_few_tokens_alone(stream, tokenizer, monkeypatch):
    def name(number):
        return _Texts(stream, None, with_id(tokenizer, number)).key()

    low, high = name(2**16 - 1), name(2**16)
    monkeypatch.setattr("ctbench.data.tokens.is_wide", lambda _: False)
    assert (name(2**16 - 1) == low, name(2**16) == high) == (True, False)


def test_packing_in_many_batches_equals_packing_in_one(tmp_path, tokenizer, monkeypatch):
    texts = ["phone rings " * (n % 7 + 1) for n in range(100)]
    whole = pack(texts, tokenizer, tmp_path / "whole")
    monkeypatch.setattr("ctbench.data.encode._BATCH_CHARACTERS", 50)
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


def test_held_out_documents_have_two_percent_of_the_tokens_and_are_never_trained_on(folder, stream, tokenizer):
    lines = [{"text": " ".join("good" if bit == "1" else "bad" for bit in f"{n:012b}")} for n in range(4000)]
    path, phone = folder / "phone.jsonl", stream.domain("phone")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = corpus(stream, phone, tokenizer=tokenizer, cache=folder / "cache")
    assert not texts_of(first.train) & texts_of(first.held_out)
    assert first.train.num_documents + first.held_out.num_documents == 4000
    assert 0.019 < first.held_out.num_tokens / (first.train.num_tokens + first.held_out.num_tokens) <= 0.02
    path.write_text("".join(json.dumps(line) + "\n" for line in [*reversed(lines), *lines]))
    second = corpus(stream, phone, tokenizer=tokenizer, cache=folder / "cache")
    assert texts_of(second.held_out) == texts_of(first.held_out)
    assert not texts_of(second.train) & texts_of(second.held_out)


def test_of_little_text_more_is_held_out_but_never_more_than_a_fifth(folder, stream, tokenizer):
    found = corpus(stream, stream.domain("phone"), tokenizer=tokenizer, cache=folder / "cache")
    assert 0.19 * 200 < found.held_out.num_documents <= 0.2 * 200
    assert found.train.num_documents + found.held_out.num_documents == 200


def test_few_documents_still_give_one_to_hold_out(stream, folder, tokenizer):
    (folder / "general.txt").write_text("a lens\na phone\na sharp lens\nbad lens\ngood phone\n")
    found = corpus(stream, None, tokenizer=tokenizer, cache=folder / "cache")
    assert (found.train.num_documents, found.held_out.num_documents) == (4, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the same\nthe same\n", "general text is a single document, copies left out"),
        ("a lens\na phone\n", r"too little to hold some of it out: 2 documents .* has 3 \(50%\), and at most 20%"),
        (f"a lens\n{'a phone ' * 6}\n{'a lens ' * 7}\n", None),
    ],
)
def test_text_that_is_too_little_to_split_is_refused_with_its_reason(stream, folder, tokenizer, text, words):
    (folder / "general.txt").write_text(text)
    for make in (corpus, corpus_size):
        if words is None:
            make(stream, None, tokenizer=tokenizer, cache=folder / "cache")
            continue
        with pytest.raises(BadData, match=words):
            make(stream, None, tokenizer=tokenizer, cache=folder / "cache")


@pytest.mark.parametrize("seed", range(6))
def test_no_long_document_swallows_the_text_whatever_its_hash(stream, folder, tokenizer, seed):
    draw = make_generator(seed, ["books"], "text")
    words = ["phone", "number", "rings", "a", "sharp", "lens", "good", "bad"]
    books = [" ".join(draw.choice(words, length)) for length in (300, 300, 300, 300, 6000)]
    (folder / "general.txt").write_text("\n".join(books) + "\n")
    size = corpus_size(stream, None, tokenizer=tokenizer, cache=folder / "cache")
    assert (size.train_documents, size.held_out_documents, size.held_out_tokens) == (4, 1, 301)


@pytest.mark.parametrize("name", ["phone", None])
def test_size_that_is_measured_is_the_size_that_is_packed(stream, folder, tokenizer, name):
    (folder / "general.txt").write_text("".join(f"a lens {'good ' * (n % 9)}\n" for n in range(300)))
    domain = stream.domain(name) if name else None
    before = corpus_size(stream, domain, tokenizer=tokenizer, cache=folder / "cache")
    assert not (folder / "cache").exists()
    packed = corpus(stream, domain, tokenizer=tokenizer, cache=folder / "cache")
    assert before == corpus_size(stream, domain, tokenizer=tokenizer, cache=folder / "cache")
    assert (before.train_tokens, before.held_out_tokens) == (packed.train.num_tokens, packed.held_out.num_tokens)


def test_tokenizer_that_cannot_encode_a_text_is_one_line(stream, folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"phone": 0}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(BadData, match="cannot encode a text: WordLevel error"):
        corpus_size(
            stream,
            stream.domains[0],
            tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend),
            cache=folder / "cache",
        )


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

    (folder / "general.txt").write_text("the sea\nthe sky\na lens\na phone\nbad rings\n")
    first = get()
    written = (first / "tokens.bin").stat().st_mtime_ns
    assert get() == first
    assert (first / "tokens.bin").stat().st_mtime_ns == written
    (folder / "general.txt").write_text("the sea\nthe sky\na phone\na phone rings\nbad rings\n")
    assert get() != first
    assert not [path for path in (folder / "cache").iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="wants /proc")
def test_no_file_is_mapped_when_the_folder_of_the_whole_text_is_removed(stream, folder, tokenizer, monkeypatch):
    rmtree, mapped = shutil.rmtree, {}

    def look(path, **options):
        if (path / "tokens.bin").exists():
            mapped[path] = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
        rmtree(path, **options)

    monkeypatch.setattr("ctbench.data.tokens.shutil.rmtree", look)
    corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=folder / "cache")
    assert [*mapped.values()] == [[]]


def test_a_folder_of_the_whole_text_that_cannot_be_removed_is_no_part_of_the_corpus(
    stream, folder, tokenizer, monkeypatch
):
    def get(cache):
        return corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=cache).train.folder.parent

    def refuse(*_, **__):
        raise OSError(errno.ENOTEMPTY, "Directory not empty")  # as on NFS, while a file of it is open

    whole = get(folder / "whole")
    monkeypatch.setattr(os, "rmdir", refuse)
    place = get(folder / "cache")
    assert contents(place).keys() == contents(whole).keys()
    assert {path.name for path in place.iterdir()} == {path.name for path in whole.iterdir()}
    assert [path for path in place.parent.iterdir() if is_scratch(path)]  # which the next run sweeps


def test_tokenizers_with_another_end_of_document_share_no_corpus(stream, folder, tokenizer):
    (folder / "general.txt").write_text("the sea\nthe sky\na lens\na phone\nbad rings\n")
    other = copy.deepcopy(tokenizer)
    other.sep_token = other.unk_token
    assert tokenizer_digest(other) == tokenizer_digest(tokenizer)
    packed = [corpus(stream, None, tokenizer=each, cache=folder / "cache").train for each in (tokenizer, other)]
    assert [documents(each)[0][-1] for each in packed] == [tokenizer.sep_token_id, tokenizer.unk_token_id]


def test_another_packing_is_another_schema_of_nodes():
    # Nodes are named after the raw text: whoever raises the one raises the other, and this line.
    assert (PACKING_VERSION, NODE_SCHEMA) == (2, 3)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(
    "name", [f"{part}/{name}" for part in ("train", "held_out") for name in ("tokens.bin", "starts.bin", "meta.json")]
)
def test_a_damaged_corpus_is_named_set_aside_and_packed_again_with_the_same_bytes(
    stream, folder, tokenizer, name, harm
):
    def get():
        return corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=folder / "cache").train.folder.parent

    place = get()
    whole = contents(place)
    HARM[harm](place / name)
    with pytest.warns(Notice, match=rf"^damaged: packed text of domain phone: {name} .*; it is set aside and packed"):
        assert get() == place
    assert contents(place) == whole
    assert contents(place.with_suffix(ASIDE)).keys() - {name} == whole.keys() - {name}
    get()  # no further notice, which would be an error
    assert {path.name for path in place.parent.iterdir()} == {place.name, f"{place.name}{ASIDE}"}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_record_of_a_corpus_is_found(stream, folder, tokenizer, harm):
    def get():
        return corpus(stream, None, tokenizer=tokenizer, cache=folder / "cache").train.folder.parent

    (folder / "general.txt").write_text("".join(f"a lens {'good ' * (n % 9)}\n" for n in range(50)))
    place = get()
    whole = contents(place)
    HARM[harm](place / "record.json")
    with pytest.warns(Notice, match="damaged: packed general text: record.json"):
        get()
    assert contents(place) == whole


def test_foreign_files_beside_and_inside_a_corpus_are_harmless(stream, folder, tokenizer):
    place = corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=folder / "cache").train.folder.parent
    for stray in (place / ".DS_Store", place / "train" / ".DS_Store", place.parent / ".DS_Store"):
        stray.write_bytes(b"Bud1")
    assert corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=folder / "cache").train.num_documents


def test_packed_text_that_cannot_be_written_is_one_line(stream, folder, tokenizer):
    (folder / "file").write_text("")
    with pytest.raises(RunFailed, match=r"packed into .*corpora', cannot be written .*set CTBENCH_HOME"):
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
