"""What a run starts from: a shipped base, one that is computed, or a checkpoint after a warm-up."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil

import pytest
import torch
from bases import EMBEDDED, FILES, SHIPPED, make_base
from small_streams import spec_of, write_stream

from ctbench.backbone.checkpoint import MADE
from ctbench.backbone.loading import load_backbone, load_saved
from ctbench.cli import main
from ctbench.data.sources import read_texts
from ctbench.data.tokens import Blocks, pack
from ctbench.engine.bases import ABOUT, find_shipped, find_start, require_warm_up, shipped_folder
from ctbench.engine.identity import Arithmetic
from ctbench.engine.job import Job
from ctbench.engine.materials import state_digest
from ctbench.engine.run import run
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, BadData
from ctbench.plugins.find import get_stream
from ctbench.results.schema import Result
from ctbench.training.finetune import held_out_loss

PAIRS = [(stream, model) for stream in EMBEDDED for model in SHIPPED]
MOST_BYTES = 3_000_000
FAR = 0.03
"""How far the LM loss of the same base, about 3.7 nats, may lie from the shipped one's on another kind of processor."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A small stream, and a store of its own."""
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    write_stream(tmp_path)
    return tmp_path


def ship(place, model="tiny", recipe=()) -> None:
    stream = get_stream(str(place / "small.toml"))
    folder = shipped_folder(stream, model)
    folder.mkdir(parents=True)
    make_base(str(place / "small.toml"), model, folder)


def loss_of(backbone, name, folder) -> float:
    """Return the LM loss on some of a stream's general text: single weights go ways of their own on another processor."""
    stream = get_stream(name)
    texts = itertools.islice(read_texts(stream, stream.general, domain=None), 400)
    cls_id = backbone.tokenizer.cls_token_id if backbone.objective == "mlm" else None
    recipe = dataclasses.replace(stream.recipe.pretrain, precision="fp32")
    blocks = Blocks(pack(texts, backbone.tokenizer, folder), recipe.length, cls_id=cls_id)
    return held_out_loss(backbone, blocks, domain="general", recipe=recipe).loss


def go(place, model="tiny", **options) -> tuple[Result, list]:
    todo: list = []

    def listen(nodes):
        todo.extend(nodes)
        return lambda event: None

    job = Job(method="naive", stream=place / "small.toml", model=model, results=place / "results", workers=0, **options)
    (result,) = run(job, say=lambda line: None, listen=listen)
    return result, todo


@pytest.mark.parametrize(("stream", "model"), PAIRS)
def test_embedded_stream_ships_its_base_small_and_whole(stream, model):
    folder = find_shipped(get_stream(stream), model)
    assert folder is not None, "make bases: the recipe or the text is another one now"
    assert {path.name for path in folder.iterdir()} == {*FILES, ABOUT}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES
    about = json.loads((folder / ABOUT).read_text())
    backbone = load_saved(folder)
    assert about["weights_digest"] == state_digest(backbone.state())
    assert (backbone.name, backbone.objective) == (model, MADE[model][0])
    assert all(tensor.dtype == torch.float32 for tensor in backbone.state().values())


@pytest.mark.slow  # minutes; both streams' are made by one recipe, and on `temporal` processors take tiny-causal 0.3 nats apart
@pytest.mark.parametrize(("stream", "model"), [pair for pair in PAIRS if pair[0] == "domain"])
def test_shipped_base_is_what_the_computation_gives(stream, model, tmp_path):
    shipped = find_shipped(get_stream(stream), model)
    about = json.loads((shipped / ABOUT).read_text())
    make_base(stream, model, tmp_path)
    again = json.loads((tmp_path / ABOUT).read_text())
    assert again["made_from"] == about["made_from"]
    if again["weights_digest"] == about["weights_digest"]:
        return  # this kind of processor made it; its name would not tell, as several kinds share one
    wanted = loss_of(load_saved(shipped), stream, tmp_path / "one")
    assert loss_of(load_saved(tmp_path), stream, tmp_path / "two") == pytest.approx(wanted, abs=FAR)
    weaker = load_saved(shipped)
    weaker.load_state({name: 0.9 * tensor for name, tensor in weaker.state().items()})
    assert loss_of(weaker, stream, tmp_path / "three") > wanted + FAR


@pytest.mark.parametrize(
    ("settings", "is_shipped"),
    [
        ({}, True),
        ({"pretrain.lr": "1e-4", "finetune.seeds": "[3]"}, True),
        ({"language.seed": "7"}, False),
        ({"base.lr": "1e-3"}, False),
        ({"base.threads": "1"}, False),
    ],
)
def test_shipped_base_is_used_where_text_and_recipe_are_its_own(settings, is_shipped):
    inputs = spec_of("domain", settings=settings).inputs
    assert (inputs.base is None) == is_shipped
    assert {node.kind for node in spec_of("domain", settings=settings).nodes} >= {"stage", "cell"}


def test_keys_with_a_shipped_base_are_the_same_on_every_device_and_others_are_not():
    def start(device, settings):
        stream, lookup = get_stream("domain", settings=settings), spec_of("domain", settings=settings).inputs.lookup
        return find_start(stream, Arithmetic(precision="fp32", device=device), lookup).backbone

    assert start("cpu", {}) == start("cuda", {})
    seven = {"language.seed": "7"}
    assert start("cpu", seven) != start("cuda", seven)


@pytest.mark.slow
def test_run_from_a_shipped_base_gives_the_numbers_of_one_that_computes_it(place):
    computed, nodes = go(place)
    assert [node.kind for node in nodes].count("base") == 1
    ship(place)
    shipped, nodes = go(place)
    assert "base" not in {node.kind for node in nodes}
    assert shipped.backbone.weights_digest == computed.backbone.weights_digest
    assert (shipped.matrix == computed.matrix).all()
    assert (shipped.lm_loss == computed.lm_loss).all()
    assert shipped.recipe.base == computed.recipe.base
    assert shipped.key != computed.key
    assert shipped.protocol != computed.protocol


@pytest.mark.slow
def test_two_streams_of_one_process_start_from_their_own_bases(place):
    ship(place)
    other = place / "other"
    other.mkdir()
    write_stream(other, num_classes="4")
    first, _ = go(place)
    second, _ = go(other)
    assert first.backbone.weights_digest != second.backbone.weights_digest


def test_damaged_base_is_one_line_and_not_used(place, capsys):
    ship(place)
    folder = shipped_folder(get_stream(str(place / "small.toml")), "tiny")
    weights = folder / "weights.safetensors"
    good = weights.read_bytes()
    command = ["plan", "--method", "naive", "--stream", str(place / "small.toml")]
    assert main(command) == 0
    capsys.readouterr()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert main(command) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("ctbench: the shipped base 'small-tiny' is damaged")
    assert len(said.splitlines()) == 1
    weights.unlink()
    assert main(command) == 2
    assert "no *.safetensors" in capsys.readouterr().err
    weights.write_bytes(good)
    (folder / ABOUT).write_text("{}")
    with pytest.raises(BadData, match=r"base\.json cannot be read"):
        spec_of(place / "small.toml")
    shutil.rmtree(folder)
    assert spec_of(place / "small.toml").base is not None


# Warm-up of a checkpoint

WARM = {"base.warmup": "head", "base.lr": "1e-2", "pretrain.length": "16", "base.length": "16"}


@pytest.fixture
def headless(place, checkpoint):
    """A folder with an encoder as a sentence encoder comes: without an LM head."""
    folder, whole = place / "encoder", load_backbone(str(checkpoint("bert")))
    whole.model.base_model.save_pretrained(folder)
    whole.tokenizer.save_pretrained(folder)
    return folder


def base_state(node):
    return load_saved(Store(home() / "store").folder(node.key)).state()


def test_warm_up_trains_the_head_alone_then_everything(place, headless):
    before = load_backbone(str(headless)).state()
    cold, nodes = go(place, headless, set={name: text for name, text in WARM.items() if name != "base.warmup"})
    assert "base" not in {node.kind for node in nodes}
    head, nodes = go(place, headless, set=WARM)
    (first,) = (node for node in nodes if node.kind == "base")
    moved = {name for name, tensor in base_state(first).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(".cls." in name for name in moved)
    every, nodes = go(place, headless, set=WARM | {"base.warmup": "all"})
    (second,) = (node for node in nodes if node.kind == "base")  # the first one is in the store
    assert [parent.key for parent in second.parents] == [first.key]
    assert any(
        not torch.equal(tensor, before[name]) for name, tensor in base_state(second).items() if ".cls." not in name
    )
    assert every.lm_loss[0].mean() < head.lm_loss[0].mean() < cold.lm_loss[0].mean()
    assert len({result.backbone.weights_digest for result in (cold, head, every)}) == 3
    assert len({result.protocol for result in (cold, head, every)}) == 3
    notes = [finding.message for finding in every.findings if finding.code == "note"]
    assert all(
        word in note for word, note in zip(("no complete LM head", "head alone", "all of it"), notes, strict=True)
    )
    assert cold.recipe.base is None
    assert head.recipe.base is not None


def test_learning_rate_of_the_head_is_its_own_and_does_not_enter_the_rest(place, headless):
    def bases(**settings):
        found = spec_of(place / "small.toml", model=headless, settings=WARM | settings)
        return [node for node in found.nodes if node.kind == "base"]

    (one,), (other,) = bases(), bases(**{"base.head_lr": "3e-3"})
    assert one.identity.recipe["lr"] == 1e-2
    assert other.identity.recipe == {**one.identity.recipe, "lr": 3e-3}
    head, every = bases(**{"base.warmup": "all", "base.head_lr": "3e-3"})
    assert (head.key, every.identity.recipe["lr"]) == (other.key, 1e-2)


def test_decoder_with_a_head_of_its_own_is_warmed_up_and_a_tied_one_is_refused(place, checkpoint):
    result, _ = go(place, checkpoint("gpt_neox"), set=WARM)
    assert any("warm-up" in finding.message for finding in result.findings)
    with pytest.raises(BadConfig, match="tied to the input embeddings"):
        go(place, checkpoint("gpt2"), set=WARM)


def test_warm_up_that_cannot_be_had_is_refused_before_anything_is_computed(place, headless):
    with pytest.raises(BadConfig, match=r"base\.length is 64.*at most 40"):
        go(place, headless, set=WARM | {"base.length": "64"})
    stream = get_stream(str(place / "small.toml"), settings=WARM)
    assert stream.general is not None

    require_warm_up(stream)
    with pytest.raises(BadConfig, match=r"lacks the table \[general\]"):
        require_warm_up(dataclasses.replace(stream, general=None))


# Row 0


def test_base_seeds_add_cells_to_row_0_alone_and_its_mean_is_over_all(place):
    plain, _ = go(place, set={"finetune.seeds": "[0,1]"})
    more, nodes = go(place, set={"finetune.seeds": "[0,1]", "finetune.base_seeds": "[1,2,3]"})
    assert {node.kind for node in nodes} == {"cell"}
    assert len(nodes) == 2 * 2
    seeds = {row: {cell.finetune_seed for cell in more.cells if cell.row == row} for row in range(3)}
    assert seeds == {0: {0, 1, 2, 3}, 1: {0, 1}, 2: {0, 1}}
    assert (more.matrix[1:] == plain.matrix[1:]).all()
    for column, domain in enumerate(more.stream.domains):
        scores = [cell.score for cell in more.cells if (cell.row, cell.domain) == (0, domain)]
        assert more.matrix[0, column] == pytest.approx(sum(scores) / 4)
    assert set(more.seed_scores) == set(plain.seed_scores) == {0, 1}
    assert (more.seed_scores[1] == plain.seed_scores[1]).all()
    assert more.protocol != plain.protocol
    assert not [finding for finding in more.findings if finding.code == "inconsistent"]
