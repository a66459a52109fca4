"""A newcomer's path: the files, the stream and the commands that the guide names, and nothing else."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from checkpoints import NUM_WORDS
from readme import DOCS

from ctbench.backbone.loading import load_backbone
from ctbench.cli import main
from ctbench.data.stream import load_stream
from ctbench.data.tasks import check_task
from ctbench.randomness import make_generator
from ctbench.results.files import load_results

WORDS = {"general": range(NUM_WORDS), "kitchen": range(NUM_WORDS // 2), "garden": range(NUM_WORDS // 2, NUM_WORDS)}
QUICK = " --set finetune.epochs=1 --set pretrain.held_out_tokens=200 --workers 0 --results results"


def section():
    return (DOCS / "guides" / "corpus.md").read_text(encoding="utf-8").partition("\n## Versions")[0]


def block(language):
    return re.search(rf"```{language}\n(.*?)```", section(), re.S)[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder of the guide: two folders of plain text, two files of examples, general text, the stream."""
    folder = tmp_path_factory.mktemp("mine")
    for name, words in WORDS.items():
        draw = make_generator(0, [name], "text")
        lines = [" ".join(f"w{draw.choice(words)}" for _ in range(12)) for _ in range(240)]
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text("\n".join(lines[:200]) + "\n")
        (folder / name / "b.txt").write_text("\n".join(lines[200:]) + "\n")
        examples = [{"text": f"{line} {n}", "label": ("baking", "frying")[n % 2]} for n, line in enumerate(lines[:40])]
        if name != "general":
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    (folder / "mine.toml").write_text(block("toml"), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def here(corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    monkeypatch.setenv("CTBENCH_HOME", str(corpus / "home"))


def call(line, capsys):
    program, *arguments = shlex.split(line)
    assert program == "ctbench"
    code = main(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def test_the_files_of_the_guide_are_those_of_its_stream(corpus):
    for name in ("general/*.txt", "kitchen/*.txt", "garden/*.txt", "kitchen.jsonl", "garden.jsonl", "mine.toml"):
        assert name in section()
        assert list(corpus.glob(name)), name


def test_commands_of_the_guide_lead_from_two_folders_to_a_matrix(corpus, checkpoint, capsys):
    _, first, full, own = block("sh").strip().splitlines()
    assert "A_Acc" in call(first + QUICK, capsys)
    budgets = first.partition("mine.toml")[2]  # what the guide calls a try in seconds
    assert full in own
    folder = corpus / "encoder"
    whole = load_backbone(str(checkpoint("modernbert")))  # its rotary positions take the guide's blocks
    whole.model.base_model.save_pretrained(folder)  # as a sentence encoder comes, without an LM head
    whole.tokenizer.save_pretrained(folder)
    said = call(own.replace("path/to/checkpoint", str(folder)) + budgets + QUICK, capsys)
    assert folder.name in said
    results = list(load_results(corpus / "results")["result"])
    assert [result.backbone.name for result in results].count("tiny") == 1
    notes = [finding.message for result in results for finding in result.findings if finding.code == "note"]
    assert notes == [note for note in notes if "no complete LM head" in note] != []
    assert [result.matrix.shape for result in results] == [(3, 2), (3, 2)]


def test_check_of_the_guide_prints_what_the_data_is(capsys):
    said = call(block("sh").strip().splitlines()[0], capsys)
    for part in ("text of garden", "baking 50%", "majority"):
        assert part in said


def test_examples_without_a_test_file_are_set_apart_by_their_text(corpus):
    domain = (stream := load_stream(corpus / "mine.toml", registered=False)).domain("kitchen")
    train, _, test, _ = check_task(stream, domain)
    assert (len(train), len(test)) == (28, 12)
    assert not {example.text for example in train} & {example.text for example in test}
    path = corpus / "kitchen.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*reversed(lines), lines[0], lines[1]]))  # copies stay on the side of their originals
    again = check_task(stream, domain)
    path.write_text("".join(lines))
    assert {example.text for example in again[0]} == {example.text for example in train}


def test_words_that_the_general_text_lacks_are_told(corpus, capsys):
    text = "\n".join(" ".join(f"new{word}" for word in range(start, start + 12)) for start in range(200)) + "\n"
    shown = (corpus / "mine.toml").read_text(encoding="utf-8").replace('path = "kitchen"', 'path = "unknown.txt"')
    (corpus / "unknown.txt").write_text(text, encoding="utf-8")
    (corpus / "unknown.toml").write_text(shown, encoding="utf-8")
    settings = " --set base.tokens=2000 --set pretrain.tokens=2000 --set finetune.seeds=[0]"
    call("ctbench run -m naive -s unknown.toml" + settings + QUICK, capsys)
    found = [finding for result in load_results("results")["result"] for finding in result.findings]
    told = [finding.message for finding in found if finding.code == "unknown-words"]
    assert len(told) == 1
    assert told[0].startswith("stage 1 (kitchen): ")
    assert told[0].endswith(" % of the tokens of its text are unknown to the tokenizer")
