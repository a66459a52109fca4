"""What enters the key of a node because a model reads tasks or texts otherwise than when the first nodes were made."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from checkpoints import make_tokenizer
from small_streams import spec_of

from ctbench.engine.identity import plain_identity
from ctbench.engine.readings import EXACT, NOISE_VERSION, PAIRS_VERSION, Readings

STREAM = """
kind = "domain"
summary = "A task of pairs, and one of single texts"

[[domains]]
name = "pairs"
text = { source = "files", path = "text.txt" }
task = { source = "files", train = "task.jsonl", test = "task.jsonl", pair = "other" }

[[domains]]
name = "singles"
text = { source = "files", path = "text.txt" }
task = { source = "files", train = "task.jsonl", test = "task.jsonl" }

[pretrain]
tokens = 200
batch = 4
length = 16
precision = "fp32"

[finetune]
seeds = [0]
precision = "fp32"
"""


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """Return the path of a stream with a task of pairs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("\n".join(f"w{number} w{number + 1} w2" for number in range(80)))
    rows = [{"text": f"w{number}", "other": "w3 w4", "label": "ab"[number % 2]} for number in range(8)]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "mine.toml").write_text(STREAM)
    return "./mine.toml"


@pytest.fixture
def copied(checkpoint, tmp_path):
    """Return a function to a RoBERTa, which knows no segments, with a tokenizer that joins pairs by `template`."""
    from tokenizers import processors

    def get(template):
        folder = shutil.copytree(checkpoint("roberta"), tmp_path / "copy")
        tokenizer = make_tokenizer()
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair=template, special_tokens=[("<s>", 2), ("</s>", 3)]
        )
        tokenizer.save_pretrained(folder)
        return str(folder)

    return get


@pytest.mark.parametrize(("template", "version"), [("$A </s> $B", None), ("<s> $A $B </s>", PAIRS_VERSION)])
def test_cells_of_pairs_have_other_keys_where_their_texts_were_glued(stream, copied, template, version):
    cells = cells_of(spec_of(stream=stream, model=copied(template)))
    assert (cells["pairs"].identity.pairs, cells["singles"].identity.pairs) == (version, None)


def cells_of(run):
    return {name: node for (source, name, _), node in run.cells.items() if source == 0}


@pytest.mark.parametrize(("model_type", "version"), [("bert", PAIRS_VERSION), ("roberta", None)])
def test_cells_of_pairs_have_other_keys_where_the_model_is_told_which_text_is_which(
    stream, checkpoint, model_type, version
):
    run = spec_of(stream=stream, model=str(checkpoint(model_type)))
    cells = cells_of(run)
    assert (cells["pairs"].identity.pairs, cells["singles"].identity.pairs) == (version, None)
    before = {
        name: dataclasses.replace(node, identity=dataclasses.replace(node.identity, pairs=None)).key
        for name, node in cells.items()
    }
    assert cells["singles"].key == before["singles"]
    assert (cells["pairs"].key == before["pairs"]) == (version is None)
    protocol = dataclasses.replace(run.inputs, readings=Readings()).protocol
    assert (run.inputs.protocol == protocol) == (version is None)


CHOICE = """
[[domains]]
name = "choice"
text = { source = "files", path = "text.txt" }
task = { source = "files", kind = "choice", choices = ["text", "other"], zero_shot = true, test = "choice.jsonl" }

[pretrain]"""


@pytest.mark.parametrize("probes", [0, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_in_float32_change_the_keys_of_what_is_read_off_them_in_bf16(
    stream, checkpoint, tmp_path, precision, probes
):
    text = STREAM.replace("[pretrain]", CHOICE.strip()).replace('"fp32"', f'"{precision}"')
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "choice.jsonl").write_text(json.dumps({"text": "w1", "other": "w2", "label": 0}))
    run = spec_of(stream=stream, model=str(checkpoint("llama")), settings=(f"pretrain.probes={probes}",))
    exact = EXACT if precision == "bf16" else None
    assert {name: node.identity.logits for name, node in cells_of(run).items()} == {
        "pairs": None,
        "singles": None,
        "choice": exact,
    }
    assert {node.identity.logits for node in run.losses.values()} == {exact}
    assert [node.identity.logits for node in run.stages] == [None, *[exact if probes else None] * 2]
    assert all("logits" not in plain_identity(node.identity) for node in run.nodes if node.identity.logits is None)
    before = dataclasses.replace(run.inputs, readings=dataclasses.replace(run.inputs.readings, cells={}, losses=None))
    assert (before.protocol == run.inputs.protocol) == (exact is None)


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_keys_of_losses_of_encoders_in_bf16_stay(stream, checkpoint, tmp_path, model_type):
    (tmp_path / "mine.toml").write_text(STREAM.replace('"fp32"', '"bf16"'))
    run = spec_of(stream=stream, model=str(checkpoint(model_type)))
    assert {node.identity.logits for node in (*run.losses.values(), *run.cells.values(), *run.stages)} == {None}


def test_ranks_that_draw_dropout_with_torch_have_other_keys(stream, checkpoint, tmp_path, monkeypatch):
    folder = shutil.copytree(checkpoint("bert"), tmp_path / "copy")
    asked = {
        "known": {"model": str(checkpoint("bert"))},
        "foreign": {"model": str(folder)},
    }
    told = json.loads((folder / "config.json").read_text()) | {"model_type": "albert"}
    (folder / "config.json").write_text(json.dumps(told))

    def noise():
        return {name: spec_of(stream=stream, **each).stages[0].identity.noise for name, each in asked.items()}

    assert noise() == {"known": None, "foreign": None}
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert noise() == {"known": None, "foreign": NOISE_VERSION}
    monkeypatch.setenv("CTBENCH_PLAIN_KERNELS", "1")
    assert noise() == {"known": NOISE_VERSION, "foreign": NOISE_VERSION}
