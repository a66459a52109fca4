"""Recipes by kind of backbone, learning rates that are far from usual, and passes over a text."""

from __future__ import annotations

import pytest
from small_streams import write_stream

import ctbench
from ctbench.data.split import CorpusSize
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.recipes import choose_recipe, passes, passes_line, rate_remarks
from ctbench.plugins.find import get_stream
from ctbench.plugins.new import new_stream
from ctbench.results.rates import unusual_rates

MORE = "\n[recipes.checkpoint.pretrain]\nlr = 5e-5\n[recipes.checkpoint.finetune]\nlr = 3e-5\nseeds = [0, 1, 2]\n"


@pytest.fixture
def stream(tmp_path):
    path = write_stream(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + MORE, encoding="utf-8")
    return path


def test_a_checkpoint_gets_its_own_recipe_and_tiny_that_of_the_stream(stream, checkpoint):
    model = str(checkpoint("bert"))
    given = read_inputs(Job(method="naive", stream=stream, model=model)).stream.recipe
    assert (given.name, given.pretrain.lr, given.finetune.seeds) == ("checkpoint", 5e-5, (0, 1, 2))
    own = read_inputs(Job(method="naive", stream=stream)).stream.recipe
    assert (own.name, own.pretrain.lr, own.finetune.seeds) == ("default", 1e-3, (0, 1))
    named = read_inputs(Job(method="naive", stream=stream, model=model, recipe="default")).stream.recipe
    assert (named.name, named.pretrain.lr) == ("default", 1e-3)


def test_a_setting_changes_the_recipe_that_was_chosen(stream, checkpoint):
    job = Job(method="naive", stream=stream, model=str(checkpoint("bert")), set={"pretrain.lr": 1e-4})
    found = read_inputs(job).stream
    assert (found.recipe.name, found.recipe.pretrain.lr, found.recipe.finetune.lr) == ("checkpoint", 1e-4, 3e-5)
    assert found.changed == ("pretrain.lr",)


def test_a_stream_without_such_a_recipe_or_with_a_model_of_its_own_keeps_its_default(tmp_path, stream):
    (tmp_path / "own").mkdir()
    plain = write_stream(tmp_path / "own")
    assert choose_recipe(str(plain), model="a/b", recipe=None, settings={}).recipe.name == "default"
    stream.write_text('model = "a/b"\n' + stream.read_text(encoding="utf-8"), encoding="utf-8")
    assert choose_recipe(str(stream), model="c/d", recipe=None, settings={}).recipe.name == "default"


@pytest.mark.parametrize("name", ["domain", "temporal"])
def test_embedded_streams_have_a_recipe_for_checkpoints_with_usual_rates(name):
    chosen = choose_recipe(name, model="a/b", recipe=None, settings={}).recipe
    assert chosen.name == "checkpoint"
    assert chosen.finetune.seeds == (0, 1, 2)
    rates = {"pretrain.lr": chosen.pretrain.lr, "finetune.lr": chosen.finetune.lr}
    assert list(unusual_rates(22_000_000, rates)) == []
    tiny = get_stream(name).recipe
    assert (tiny.name, tiny.pretrain.lr, tiny.finetune.lr, tiny.finetune.seeds) == ("default", 1e-3, 1e-3, (0, 1))


def test_the_template_has_a_recipe_for_checkpoints(tmp_path):
    new_stream("mine", tmp_path)
    chosen = choose_recipe(str(tmp_path / "mine.toml"), model="a/b", recipe=None, settings={}).recipe
    rates = {"pretrain.lr": chosen.pretrain.lr, "finetune.lr": chosen.finetune.lr}
    assert list(unusual_rates(22_000_000, rates)) == []
    assert chosen.finetune.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("parameters", "rates", "said"),
    [
        (22_000_000, {"pretrain.lr": 1e-3}, ["it may lose what it knew"]),
        (22_000_000, {"finetune.lr": 1e-7}, ["it will hardly learn"]),
        (22_000_000, {"pretrain.lr": 1e-4, "finetune.lr": 3e-4}, []),
        (300_000, {"pretrain.lr": 1e-3, "finetune.lr": 1e-3}, []),
        (300_000, {"pretrain.lr": 0.1}, ["it may lose what it knew"]),
    ],
)
def test_a_learning_rate_far_from_usual_is_named(parameters, rates, said):
    lines = list(unusual_rates(parameters, rates))
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))


def test_plan_names_an_unusual_rate_and_none_of_a_usual_one(stream, checkpoint):
    options = {"method": "naive", "stream": str(stream), "model": str(checkpoint("bert"))}
    plan = str(ctbench.plan(**options, set={"pretrain.lr": 0.5}))
    assert "pretrain.lr is 0.5, and 1e-05 to 0.01 is usual for an LM of" in plan
    assert "usual" not in str(ctbench.plan(**options))
    assert rate_remarks(get_stream("domain"), "nowhere") == ()


def test_passes_are_counted_by_domain():
    stream = get_stream("domain")
    sizes = [
        CorpusSize(name=name, train_documents=1, train_tokens=tokens, held_out_documents=1, held_out_tokens=1)
        for name, tokens in (("a", 163_840), ("b", 40_960), (None, 10))
    ]
    assert passes(stream, sizes) == {"a": 1.0, "b": 4.0}
    assert passes_line({"a": 1.0, "b": 4.0}) == "a stage passes over its text 1.0 (a) to 4.0 times (b)"
    assert passes_line({"a": 2.0, "b": 2.0}) == "a stage passes over its text 2.0 times"


def test_plan_and_check_of_files_say_the_passes_and_find_a_domain_inside_the_general_text(tmp_path):
    new_stream("mine", tmp_path)
    path = tmp_path / "mine.toml"
    plan = str(ctbench.plan(method="naive", stream=str(path)))
    assert "a stage passes over its text" in plan
    clean = ctbench.check(str(path))
    assert set(clean.passes) == {"first", "second"}
    assert not any("general text too" in problem for problem in clean.problems)
    data = tmp_path / "mine-data"
    own = (data / "first" / "text.jsonl").read_text(encoding="utf-8").splitlines()
    half = "\n".join(own[: len(own) // 2]).upper().replace('"TEXT"', '"text"')
    with (data / "general.jsonl").open("a", encoding="utf-8") as file:
        file.write(half + "\n")
    found = [problem for problem in ctbench.check(str(path)).problems if "general text too" in problem]
    assert len(found) == 1
    assert found[0].startswith("50 % of the documents of the text of first")
    assert "general text too" not in plan
    again = str(ctbench.plan(method="naive", stream=str(path)))
    assert "50 % of the documents of domain first of mine are in the general text too" in again
    assert again.count("general text too") == 1
