"""End tasks of other kinds than classification through the engine: what `plan`, `check` and `run` refuse and write."""

from __future__ import annotations

import json

import pytest
from small_streams import spec_of, write_stream

from ctbench.cli import main
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.randomness import make_generator
from ctbench.reporting.summary import matrix_table

STREAM = """
kind = "domain"
summary = "A choice without fine-tuning, and one with"

[[domains]]
name = "one"
text = { source = "files", path = "text.txt" }
task = { source = "files", kind = "choice", choices = "choices", zero_shot = true, test = "test.jsonl" }

[[domains]]
name = "two"
text = { source = "files", path = "text.txt" }
task = { source = "files", kind = "choice", choices = "choices", train = "test.jsonl", metric = "accuracy_norm" }

[pretrain]
tokens = 200
batch = 4
length = 16
precision = "fp32"
held_out_tokens = 64

[finetune]
epochs = 1
seeds = [0]
max_length = 32
precision = "fp32"
"""


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """Return the path of a stream with two tasks of kind choice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    draw = make_generator(0, [], "text")

    def words(count):
        return " ".join(f"w{word}" for word in draw.integers(0, 90, size=count))

    (tmp_path / "text.txt").write_text("\n".join(words(12) for _ in range(120)))
    rows = [{"text": words(4), "choices": [words(2), words(3)], "label": number % 2} for number in range(20)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "mine.toml").write_text(STREAM)
    return "./mine.toml"


def test_a_run_writes_the_scores_of_choices(stream, checkpoint, tmp_path):
    jobs = Job(method="naive", stream=stream, model=str(checkpoint("llama")), workers=0, results=tmp_path / "results")
    (result,) = run(jobs, say=lambda _: None)
    assert result.stream.tasks == {"one": "choice", "two": "choice"}
    assert result.stream.baseline == {"one": 0.5, "two": 0.5}
    assert result.stream.num_test == {"one": 20, "two": 6}
    assert ((result.matrix >= 0) & (result.matrix <= 1)).all()
    table = matrix_table(result)
    assert table.columns == ("%", "one, accuracy", "two, accuracy per character")
    assert "trivial baseline" in [row[0].text for row in table.rows]


def test_fine_tuning_seeds_share_the_cells_of_an_lm_that_is_not_fine_tuned(stream, checkpoint, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(path.read_text().replace("seeds = [0]", "seeds = [3, 5]"))
    asked = {"stream": stream, "model": str(checkpoint("llama")), "settings": ()}
    first = spec_of(**asked)
    keys = {
        domain: [{first.cells[row, domain, seed].key for seed in (3, 5)} for row in range(3)]
        for domain in ("one", "two")
    }
    assert [len(each) for each in keys["one"]] == [1, 1, 1]
    assert [len(each) for each in keys["two"]] == [2, 2, 2]
    assert first.cells[1, "one", 3].title == "cell one in row 1, without fine-tuning"
    others = [spec_of(**asked, seed=seed) for seed in (1, 2)]
    assert {each.cells[0, "one", 3].key for each in others} == keys["one"][0]
    assert not {each.cells[1, "one", 3].key for each in others} & keys["one"][1]

    computed = []
    jobs = Job(method="naive", stream=stream, model=asked["model"], workers=0, results=tmp_path / "results")
    (result,) = run(jobs, say=lambda _: None, listen=lambda nodes: computed.extend(nodes) or (lambda event: None))
    assert sum(node.kind == "cell" for node in computed) == 3 * 1 + 3 * 2
    assert len(result.cells) == 12
    assert [result.seed_scores[seed][2, 0] for seed in (3, 5)] == [result.matrix[2, 0]] * 2


@pytest.mark.parametrize(
    "command", ["check ./mine.toml", "plan -m naive -s ./mine.toml", "run -m naive -s ./mine.toml"]
)
def test_an_encoder_is_refused_before_anything_is_computed(stream, checkpoint, capsys, command):
    code = main([*command.split(), "--model", str(checkpoint("bert"))])
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "is an encoder, which gives texts none" in said


def test_check_shows_the_chance_and_no_labels(stream, checkpoint, capsys):
    assert main(["check", stream, "--model", str(checkpoint("gpt2"))]) == 0
    said = capsys.readouterr().out
    assert "50.0" in said
    assert "to expect of guessing" in said


def test_a_run_writes_correlations_and_scores_of_sets(stream, checkpoint, tmp_path):
    draw = make_generator(0, [], "answers")
    rows = [{"text": f"w{draw.integers(90)} w{n}", "number": float(n), "names": ["a", "b"][: n % 3]} for n in range(20)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = STREAM.replace(
        'kind = "choice", choices = "choices", zero_shot = true, test', 'KIND, train = "test.jsonl", test'
    )
    text = text.replace("KIND", 'kind = "regression", label = "number", metric = "pearson"')
    old = 'kind = "choice", choices = "choices", train = "test.jsonl", metric = "accuracy_norm"'
    new = 'kind = "multilabel", label = "names", train = "test.jsonl", metric = "exact_match"'
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    jobs = Job(method="naive", stream=stream, model=str(checkpoint("bert")), workers=0, results=tmp_path / "results")
    (result,) = run(jobs, say=lambda _: None)
    assert result.stream.tasks == {"one": "regression", "two": "multilabel"}
    assert set(result.cells[0].metrics) == {"pearson", "spearman"}
    assert set(result.cells[1].metrics) == {"micro_f1", "macro_f1", "exact_match"}
    assert ((result.matrix >= -1) & (result.matrix <= 1)).all()
    assert result.stream.majority == {"one": None, "two": None}
    assert result.stream.baseline["one"] == 0.0


def test_a_run_writes_the_scores_of_written_answers(stream, checkpoint, tmp_path):
    rows = [{"text": f"w{number} w2", "label": f"w{number % 3} w5"} for number in range(20)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = STREAM.replace(
        'kind = "choice", choices = "choices"', 'kind = "generation", max_answer = 4, metric = "token_f1"'
    )
    (tmp_path / "mine.toml").write_text(text.replace(', metric = "accuracy_norm"', ""))
    jobs = Job(method="naive", stream=stream, model=str(checkpoint("gpt2")), workers=0, results=tmp_path / "results")
    (result,) = run(jobs, say=lambda _: None)
    assert result.stream.tasks == {"one": "generation", "two": "generation"}
    assert set(result.cells[0].metrics) == {"exact_match", "token_f1"}
    assert 0 < result.stream.baseline["two"] < 1
    assert all(cell.flops > 0 for cell in result.cells)


def test_a_run_on_facts_tells_kept_changed_and_new_words_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    path = write_stream(tmp_path, kind="temporal", seeds="[0]")
    path.write_text("facts = true\n" + path.read_text())
    jobs = Job(method="naive", stream="./small.toml", model="tiny-causal", workers=0, results=tmp_path / "results")
    (result,) = run(jobs, say=lambda _: None)
    assert result.stream.bayes is None
    assert result.stream.baseline == {"period-1": pytest.approx(1 / 3), "period-2": pytest.approx(1 / 3)}
    for cell in result.cells:
        assert {"accuracy", "accuracy_kept", "accuracy_changed", "accuracy_new"} <= set(cell.metrics)
        assert cell.score == cell.metrics["accuracy"]
