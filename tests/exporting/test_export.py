"""`ctbench export`: from a result and the store to a checkpoint that others can load, or one line that says why not."""

from __future__ import annotations

import dataclasses
import json

import pytest
from small_streams import write_stream

import ctbench
from ctbench.backbone.loading import load_backbone
from ctbench.cli import main
from ctbench.data.sources import read_texts
from ctbench.data.tokens import Blocks, corpus
from ctbench.engine.bases import find_shipped, shipped_digest
from ctbench.engine.job import Job
from ctbench.engine.node import Lookup
from ctbench.engine.run import run
from ctbench.errors import BadConfig, CTBenchError, MissingResult, UnknownName
from ctbench.exporting.source import Request, _choose, base_node
from ctbench.plugins.find import get_stream
from ctbench.training.finetune import held_out_loss

QUICK = {"finetune.epochs": 1, "finetune.seeds": "[0]", "language.num_test": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the stream's path, the folder of results, and a result of naive and of hypermap; the store holds both."""
    folder = tmp_path_factory.mktemp("export")
    stream = write_stream(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTBENCH_HOME", str(folder / "home"))
        found = {}
        for method in ("naive", "hypermap"):
            job = Job(method=method, stream=stream, set=QUICK, workers=0, results=folder / "results")
            found[method] = run(job, say=lambda _line: None)[0]
        yield stream, folder / "results", found


def losses_of(folder, stream_path, home):
    """Return the held-out LM losses of a checkpoint, read as any other checkpoint is."""
    backbone, stream = load_backbone(str(folder)), get_stream(str(stream_path), settings=QUICK)
    cls_id = backbone.tokenizer.cls_token_id if backbone.objective == "mlm" else None
    found = []
    for domain in stream.domains:
        text = corpus(stream, domain, tokenizer=backbone.tokenizer, cache=home).held_out
        blocks = Blocks(text, stream.recipe.pretrain.length, cls_id=cls_id)
        found.append(held_out_loss(backbone, blocks, domain=domain.name, recipe=stream.recipe.pretrain).loss)
    return found


def test_the_shipped_base_is_no_node_of_the_store_and_any_other_base_is_one():
    stream = get_stream("domain")
    lookup = Lookup(stream="domain", recipe=stream.recipe.name, settings={}, order=0, model="tiny", online=False)
    shipped = find_shipped(stream, "tiny")
    assert shipped is not None
    assert base_node(lookup, shipped_digest(shipped)) is None
    assert base_node(lookup, "ab" * 32) == "ab" * 32


def test_an_export_for_which_the_disk_has_no_room_is_one_line(made, small_disk):
    stream, results, found = made
    with pytest.raises(BadConfig, match=r"lm' cannot be written \(No space left on device\); free some space there"):
        ctbench.export(found["naive"].key[:12], row=0, output=small_disk / "lm", results=results, stream=stream)
    assert [*small_disk.iterdir()] == []


@pytest.mark.parametrize("row", [0, 1, 2])
def test_an_exported_row_has_the_lm_loss_of_the_result(row, made, tmp_path):
    stream, results, found = made
    result = found["naive"]
    exported = ctbench.export(result.key[:12], row=row, output=tmp_path / "lm", results=results, stream=stream)
    assert (exported.row, exported.architecture) == (row, "ModernBertForMaskedLM")
    losses = losses_of(exported.folder, stream, tmp_path)
    assert losses == pytest.approx(list(result.lm_loss[row]), rel=1e-5)
    assert losses != pytest.approx(list(result.lm_loss[(row + 1) % 3]), rel=1e-5)


def test_a_conditional_lm_is_baked_for_a_domain_or_a_file(made, tmp_path):
    stream, _, found = made
    result = found["hypermap"]
    with pytest.raises(BadConfig, match="choose the context to bake in with --context, one of domain-1, domain-2"):
        ctbench.export(result, output=tmp_path / "none", stream=stream)
    text = tmp_path / "mine.txt"
    domain = get_stream(str(stream))
    text.write_text("\n".join(read_texts(domain, domain.domains[1].text, domain="domain-2")), encoding="utf-8")
    losses = []
    for number, context in enumerate(("domain-1", "domain-2", str(text))):
        exported = ctbench.export(result, output=tmp_path / str(number), context=context, stream=stream)
        losses.append(losses_of(exported.folder, stream, tmp_path / "home"))
    assert losses[1] == losses[2] != losses[0]
    card = (tmp_path / "2" / "README.md").read_text(encoding="utf-8")
    assert "`mine.txt`" in card
    assert str(tmp_path) not in card


def test_the_card_names_method_stream_data_and_scores(made, tmp_path):
    stream, _, found = made
    ctbench.export(found["naive"], row=1, output=tmp_path / "lm", stream=stream)
    card = (tmp_path / "lm" / "README.md").read_text(encoding="utf-8")
    for text in (
        "`naive` version 1",
        "`small` version 1",
        "**Trained on**: domain-1\n",
        "fill-mask",
        "AutoModelForMaskedLM",
    ):
        assert text in card
    assert (
        f"| domain-2 | accuracy | {100 * found['naive'].matrix[1, 1]:.1f} | {found['naive'].lm_loss[1, 1]:.4f} |"
        in card
    )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"row": 9}, BadConfig, "the rows of this result are 0 to 2"),
        ({"row": -1}, BadConfig, "the rows of this result are 0 to 2"),
        ({"context": "domain-1"}, BadConfig, "leave --context out"),
        ({"stream": None}, BadConfig, "name it with --stream PATH"),
        ({"stream": "domain"}, CTBenchError, "is not the one of this result"),
        ({"model": "nowhere"}, BadConfig, "finds it itself; leave --model out"),
        ({"model": "tiny-causal"}, BadConfig, "finds it itself; leave --model out"),
        ({"output": "full/file/lm"}, BadConfig, "'file' is not a folder"),
        ({"output": "full"}, BadConfig, "is not empty"),
        ({"output": "full/file"}, BadConfig, "is a file"),
    ],
)
def test_a_wrong_call_is_refused_and_writes_nothing(options, error, said, made, tmp_path, monkeypatch):
    stream, _, found = made
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    with pytest.raises(error, match=said):
        ctbench.export(found["naive"], **({"stream": stream, "output": "lm"} | options))
    assert {path.name for path in tmp_path.rglob("*")} == {"full", "file"}


def run_once(method, stream, folder, **options):
    job = Job(method=method, stream=stream, workers=0, results=folder / "results", **options)
    return run(job, say=lambda _line: None)[0]


@pytest.mark.slow
def test_a_row_of_a_given_checkpoint_needs_its_folder(made, checkpoint, tmp_path):
    stream, results, _ = made
    model = checkpoint("bert")
    result = run_once("naive", stream, results.parent, model=str(model), set=QUICK)
    with pytest.raises(BadConfig, match="name it with --model FOLDER"):
        ctbench.export(result, output=tmp_path / "lm", stream=stream)
    with pytest.raises(BadConfig, match="is not the one of this result"):
        ctbench.export(result, output=tmp_path / "lm", stream=stream, model=checkpoint("electra"))
    for row in (0, 2):
        exported = ctbench.export(result, row=row, output=tmp_path / str(row), stream=stream, model=model)
        losses = losses_of(exported.folder, stream, tmp_path)
        assert losses == pytest.approx(list(result.lm_loss[row]), rel=1e-5)
        assert losses != pytest.approx(list(result.lm_loss[2 - row]), rel=1e-5)


@pytest.mark.slow
def test_a_row_of_a_warmed_up_checkpoint_is_in_the_store(made, checkpoint, tmp_path):
    stream, results, _ = made
    settings = QUICK | {"base.warmup": "all"}
    result = run_once("lora", stream, results.parent, model=str(checkpoint("bert")), set=settings)
    for row in (0, 2):
        exported = ctbench.export(result, row=row, output=tmp_path / str(row), stream=stream)
        losses = losses_of(exported.folder, stream, tmp_path)
        assert losses == pytest.approx(list(result.lm_loss[row]), rel=1e-5)
        assert losses != pytest.approx(list(result.lm_loss[2 - row]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method"), [("tiny", "naive"), ("tiny-causal", "lora")])
def test_rows_that_start_from_a_shipped_base_are_exported(model, method, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    short = QUICK | {"pretrain.tokens": 3000, "language.num_train": 8}
    assert find_shipped(get_stream("domain"), model) is not None
    result = run_once(method, "domain", tmp_path, model=model, set=short)
    for row in (0, 5):
        exported = ctbench.export(result, row=row, output=tmp_path / f"row-{row}")
        losses = losses_of(exported.folder, "domain", tmp_path)
        assert losses == pytest.approx(list(result.lm_loss[row]), rel=1e-5)
        assert losses != pytest.approx(list(result.lm_loss[5 - row]), rel=1e-5)


def test_an_lm_with_a_prompt_is_refused_before_a_context_is_asked_for(made, tmp_path):
    stream, results, _ = made
    result = run_once("hyperprompt", stream, results.parent, set=QUICK)
    for context in (None, "domain-1"):
        with pytest.raises(BadConfig, match="row 2 of hyperprompt cannot be exported: a prompt stands"):
            ctbench.export(result, output=tmp_path / "lm", context=context, stream=stream)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_context_names_the_known_ones(made, tmp_path):
    stream, _, found = made
    with pytest.raises(UnknownName, match="did you mean 'domain-1'"):
        ctbench.export(found["hypermap"], output=tmp_path / "lm", context="domian-1", stream=stream)


def test_a_row_that_the_store_lacks_says_which_command_computes_it(made, tmp_path, monkeypatch):
    stream, _, found = made
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(MissingResult, match="compute it with `ctbench run --method naive"):
        ctbench.export(found["naive"], output=tmp_path / "lm", stream=stream)


def test_an_edited_method_is_refused(made, tmp_path):
    stream, _, found = made
    result = found["naive"]
    edited = dataclasses.replace(result, method=dataclasses.replace(result.method, digest="0" * 64))
    with pytest.raises(CTBenchError, match="is not the one that made this result"):
        ctbench.export(edited, output=tmp_path / "lm", stream=stream)


def test_an_lm_of_each_domain_is_chosen_by_the_context(made):
    _, _, found = made
    result = found["naive"]
    cells = ((0, 0), (1, 0), (1, None))
    own = dataclasses.replace(result, plan=dataclasses.replace(result.plan, cells=cells))
    assert _choose(Request(result=own), 0) == (None, 0)
    assert _choose(Request(result=own, context="domain-1"), 1) == ("domain-1", 1)
    assert _choose(Request(result=own, context="domain-2"), 1) == ("domain-2", 0)
    with pytest.raises(BadConfig, match="depends on the domain: choose one with --context"):
        _choose(Request(result=own), 1)
    with pytest.raises(UnknownName, match="did you mean 'domain-1'"):
        _choose(Request(result=own, context="domain-11"), 1)
    empty = dataclasses.replace(result, plan=dataclasses.replace(result.plan, cells=((0, 0), (None, None), (1, 1))))
    with pytest.raises(BadConfig, match="rows with one: 0, 2"):
        _choose(Request(result=empty), 1)


def test_the_command_line_says_how_it_is_loaded(made, tmp_path, capsys):
    stream, results, found = made
    call = ["export", found["naive"].key[:12], "--results", str(results), "--stream", str(stream)]
    assert main([*call, "-o", str(tmp_path / "a"), "--row", "1"]) == 0
    assert "transformers.AutoModelForMaskedLM.from_pretrained" in capsys.readouterr().out
    assert main([*call, "-o", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["row"] == 2
    assert main([*call, "-o", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
