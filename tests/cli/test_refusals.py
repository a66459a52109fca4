"""What `run` refuses, `check` and `plan` refuse in the same words, before anything is computed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest

from ctbench.cli import main

STREAM = """
kind = "domain"
summary = "a stream of files"
general = { source = "files", path = "general.txt" }
[[domains]]
name = "a"
text = { source = "files", path = "a" }
task = { source = "files", train = "train.csv", test = "test.jsonl" }
[base]
tokens = 1_000
batch = 4
length = 16
[pretrain]
tokens = 1_000
batch = 4
length = 16
precision = "fp32"
held_out_tokens = 64
[finetune]
epochs = 1
seeds = [0]
max_length = 16
precision = "fp32"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the current folder with a clean stream `s.toml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "s.toml").write_text(STREAM)
    (tmp_path / "general.txt").write_text("".join(f"w{n % 80} w{n % 7} w{n % 11} common\n" for n in range(300)))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.txt").write_text("".join(f"w{n % 80} w{n % 5} w{n % 13} word {n}\n" for n in range(300)))
    rows = "".join(f"text w{n} of kind,{('hot', 'cold')[n % 2]}\n" for n in range(16))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    tests = [{"text": f"test w{n} of it", "label": ("hot", "cold")[n % 2]} for n in range(8)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in tests))
    return tmp_path


def refusals(capsys, *options):
    """Return what check, plan and run say; each must end with exit code 2, one line, and nothing computed."""
    said = []
    calls = (["check", "./s.toml"], ["plan", "-m", "naive", "-s", "./s.toml"], ["run", "-m", "naive", "-s", "./s.toml"])
    for call in calls:
        workers = ["--workers", "0"] if call[0] == "run" else []
        assert main([*call, *options, *workers]) == 2, call
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        said.append(err)
    assert len(set(said)) == 1
    return said[0]


def test_clean_stream_is_clean_and_planned(folder, capsys):
    assert main(["check", "./s.toml"]) == 0
    shown = capsys.readouterr().out
    for words in ("files", "train tokens", "held-out tokens", "held out %"):
        assert words in shown
    assert main(["plan", "-m", "naive", "-s", "./s.toml"]) == 0
    assert not (folder / "home").exists()
    assert main(["check", "./s.toml", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    general, text = record["corpora"]
    assert (general["name"], text["name"]) == (None, "a")
    assert 0 < text["held_out_tokens"] <= 0.2 * (text["train_tokens"] + text["held_out_tokens"])
    assert [source["files"] for source in record["texts"]] == [1, 1]


SPOILED = {
    "pointer": ("a/0.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    "not UTF-8": ("a/0.txt", b"good\nb\xff\xff\n"),
    "unpacked": ("a/1.txt.gz", gzip.compress(b"a line of it\n" * 20)[:-5]),
    "single document": ("a/0.txt", b"one line only\n"),
    "too little to hold": ("a/0.txt", b"one line\nand another\n"),
    "block of length 16": ("a/0.txt", b"".join(b"w%d\n" % n for n in range(6))),
    "a blank": ("train.csv", b"\ntext,label\nx,y\n"),
    "twice": ("train.csv", b"text,label,label\nx,y,z\n"),
    "swallows the line end": ("train.csv", b'label,text\nhot,"x\ncold,y"\nhot,z\n'),
    "1 label": ("train.csv", b"text,label\nx,hot\ny,hot\n"),
    "is not JSON": ("test.jsonl", b'{"text": '),
    "no word": ("general.txt", b"\n\n"),
    "unknown key": ("s.toml", STREAM.replace("batch = 4", "bach = 4").encode()),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_spoiled_data_is_refused_by_all_three(folder, capsys, kind):
    name, content = SPOILED[kind]
    (folder / name).write_bytes(content)
    words = {"a blank": "blank", "is not JSON": "not JSON", "no word": "no text in it"}.get(kind, kind)
    if kind == "unpacked":
        words = "cannot be unpacked"
    assert words in refusals(capsys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("general = {", "# {"), "lacks the table [general]"),
        (('path = "a" }', 'path = "a" }\nheld_out = { source = "files", path = "a" }'), "0 documents to train on"),
        (("length = 16", "length = 60_000"), "a block of length 60000 needs"),
        (('kind = "domain"', 'kind = "domain"\nmodel = "org/nothing"'), "no model 'org/nothing'"),
    ],
)
def test_spoiled_stream_is_refused_by_all_three(folder, capsys, change, words):
    (folder / "s.toml").write_text(STREAM.replace(*change))
    assert words in refusals(capsys)


def test_pipe_as_data_is_refused_by_all_three(folder, capsys):
    (folder / "test.jsonl").unlink()
    os.mkfifo(folder / "test.jsonl")
    assert "test.jsonl: is a pipe or a device" in refusals(capsys)


def test_settings_and_recipe_of_a_run_are_those_of_its_check(folder, capsys):
    assert "no recipe 'small'" in refusals(capsys, "--recipe", "small")
    assert "unknown" in refusals(capsys, "--set", "pretrain.schedule=unknown")
    assert "pretrain.objective is 'clm'" in refusals(capsys, "--set", "pretrain.objective=clm")
    assert "a block of length 60000" in refusals(capsys, "--set", "pretrain.length=60000")
    assert main(["check", "./s.toml", "--set", "pretrain.length=8"]) == 0


def copy_checkpoint(checkpoint, folder, family="bert"):
    return shutil.copytree(checkpoint(family), folder / "model")


def no_tokenizer(model):
    for path in [*model.glob("tokenizer*"), *model.glob("special*")]:
        path.unlink()


def made_up(model):
    no_tokenizer(model)
    (model / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")


def two_tokens_more(model):
    told = json.loads((model / "tokenizer.json").read_text())
    for number, word in ((95, "w999998"), (96, "w999999")):
        told["added_tokens"].append({**told["added_tokens"][-1], "content": word, "id": number, "special": False})
    (model / "tokenizer.json").write_text(json.dumps(told))


def no_mask(model):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (model / name).exists():
            (model / name).write_text((model / name).read_text().replace("<mask>", "w_mask"))
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("mask_token", None)
    (model / "tokenizer_config.json").write_text(json.dumps(config))


def pointer(model):
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def pipe(model):
    (model / "tokenizer.json").unlink()
    os.mkfifo(model / "tokenizer.json")


def cut(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_tokenizer, "the folder of model './model' has no tokenizer"),
        (made_up, "knows no word"),
        (two_tokens_more, "the token 'w999999' has number 96, and the table has 96 rows"),
        (no_mask, "has no mask_token"),
        (pointer, "model.safetensors of model 'model' is a pointer of Git LFS"),
        (pipe, "tokenizer.json of model './model' is not a file"),
        (cut, "weights of model"),
    ],
)
def test_spoiled_checkpoint_is_refused_by_all_three(folder, capsys, checkpoint, spoil, words):
    spoil(copy_checkpoint(checkpoint, folder))
    assert words in refusals(capsys, "--model", "./model")


def test_lengths_beyond_the_positions_of_a_model_are_refused_by_all_three(folder, capsys, checkpoint):
    copy_checkpoint(checkpoint, folder)
    assert "takes texts of at most 40 tokens" in refusals(capsys, "--model", "./model", "--set", "pretrain.length=41")
    long = {"text": " ".join(["w1"] * 60), "label": "hot"}
    (folder / "test.jsonl").write_text(json.dumps(long) + "\n" + json.dumps(long | {"label": "cold"}) + "\n")
    options = ["--model", "./model", "--set", "finetune.max_length=50"]
    assert "has 50 tokens, and model 'model' takes texts of at most 40; set" in refusals(capsys, *options)
    assert main(["plan", "-m", "naive", "-s", "./s.toml", "--model", "./model"]) == 0


def test_whole_checkpoint_passes(folder, capsys, checkpoint):
    copy_checkpoint(checkpoint, folder, "gpt2")
    assert main(["check", "./s.toml", "--model", "./model"]) == 0
    assert main(["plan", "-m", "naive", "-s", "./s.toml", "--model", "./model"]) == 0


@pytest.mark.parametrize("name", ["mü", "model"])
@pytest.mark.slow
def test_name_that_cannot_be_written_in_the_locale_is_refused_before_computing(folder, checkpoint, name):
    shutil.copytree(checkpoint("bert"), folder / name)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for call in (["check", "./s.toml"], ["run", "-m", "naive", "-s", "./s.toml", "--workers", "0"]):
        command = [sys.executable, "-m", "ctbench", *call, "--model", f"./{name}"]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False)
        assert done.returncode == (2 if name == "mü" else 0), done.stderr
        assert (b"cannot be written in this locale" in done.stderr) == (name == "mü")


def test_problems_that_stop_no_run_are_exit_code_1(folder, capsys):
    (folder / "a/1.txt.zip").write_bytes(b"PK")
    assert main(["check", "./s.toml"]) == 1
    assert "a/1.txt.zip was skipped, because it is an archive" in capsys.readouterr().out
    (folder / "a/1.txt.zip").rename(folder / "a/.1.txt.zip")
    assert main(["check", "./s.toml"]) == 0
    assert "skipped in the text of a: a/.1.txt.zip (hidden)" in capsys.readouterr().out
    (folder / "train.csv").write_text((folder / "train.csv").read_text() + "text w1 of kind,hot\n")
    assert main(["check", "./s.toml"]) == 1
    assert "1 texts have two labels, such as 'text w1 of kind' (cold, hot)" in capsys.readouterr().out


def test_method_takes_no_model(capsys):
    assert main(["check", "naive", "--model", "tiny"]) == 2
    assert "is a method, it takes no --model" in capsys.readouterr().err
