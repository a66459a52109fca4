"""What holds for every method: it runs on encoders and decoders, is listed truthfully, and refuses bad settings."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from method_helpers import QUICK, RECIPE, build, core_first, make_blocks, train, train_stream
from small_streams import write_stream

from ctbench.backbone.loading import load_backbone
from ctbench.data.tasks import encode_task
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.errors import BadConfig, BadData, BadPlugin
from ctbench.method import configure
from ctbench.plugins.find import find_plugin, find_plugins, get_method, load_class
from ctbench.plugins.source import describe_method
from ctbench.training.finetune import finetune

NAMES = list(find_plugins("method"))
CLASSES = {name: load_class(plugin) for name, plugin in find_plugins("method").items()}


@pytest.fixture(scope="module", params=["roberta", "llama"])
def place(request, checkpoint, small, tmp_path_factory):
    """A random checkpoint with the packed text of the first domain and its encoded end task."""
    base = load_backbone(str(checkpoint(request.param, 0.1)))
    name = small.stream.names[0]
    blocks = make_blocks(small.stream, base, tmp_path_factory.mktemp(request.param))
    task = encode_task(small.stream, small.stream.domain(name), base.tokenizer, max_length=32)
    return small.stream, base, {name: blocks[name]}, task


@pytest.mark.parametrize("name", core_first(NAMES))
def test_a_stage_and_a_cell_run_on_an_encoder_and_a_decoder(name, place):
    stream, base, blocks, task = place
    method = get_method(name, **QUICK.get(name, {}))
    domain = stream.names[0]
    after, _, record = train(method, build(method, base, stream), blocks)
    assert base.objective == {"roberta": "mlm", "llama": "clm"}[base.model.config.model_type]
    assert all(value == value for values in record.losses.values() for value in values)
    assert record.trained_parameters > 0
    recipe = dataclasses.replace(stream.recipe.finetune, epochs=1)
    cell = finetune(method.adapt(after, stream, domain, 1), task, name=domain, recipe=recipe, seed=0)
    assert 0.0 <= cell.metrics["accuracy"] <= 1.0


@pytest.mark.parametrize("name", core_first(NAMES))
def test_two_stages_run_in_bf16(name, place):
    stream, base, blocks, _ = place
    method, recipe = get_method(name, **QUICK.get(name, {})), dataclasses.replace(RECIPE, precision="bf16")
    same = dict.fromkeys(stream.names, next(iter(blocks.values())))
    for *_, record in train_stream(method, base, stream, same, recipe=recipe)[1:]:
        assert all(math.isfinite(value) for values in record.losses.values() for value in values)


def test_no_method_is_lost():
    wanted = "adapters averaging das demix derpp ewc expand hat hypermap hyperprompt joint lora lwf mer merge naive"
    assert {*wanted.split(), *["olora", "osf", "prompts", "replay", "separate"]} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_listing_says_without_importing_what_the_class_says(name):
    described, cls = describe_method(find_plugin("method", name)), CLASSES[name]
    said = {key for key, holds in described.traits.items() if holds}
    assert said == {key for key, holds in dataclasses.asdict(cls.traits).items() if holds}
    assert described.paper == cls.paper
    assert described.paper.startswith("arXiv:") or name == "hypermap"  # our own
    assert described.summary.count(":") >= 1
    assert len(described.summary) < 90
    assert cls().configured_traits == cls.traits


@pytest.mark.parametrize("name", ["adapters", "lora"])
def test_one_set_per_domain_changes_the_traits(name):
    traits = get_method(name, per_domain=True).configured_traits
    assert (traits.needs_domain, traits.grows) == (True, True)


def test_traits_that_cannot_be_listed_are_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ctbench import Method, Traits\nALL = Traits(grows=True)\nclass Mine(Method):\n    traits = ALL\n",
        encoding="utf-8",
    )
    with pytest.raises(BadPlugin, match="traits and paper of method 'mine' must be literals"):
        get_method(str(path))


FIELDS = [
    (name, field.name, value, limit)
    for name, cls in CLASSES.items()
    for field in dataclasses.fields(cls)
    for value, limit in (
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ((field.metadata["low"] or 0) - 1, f"{field.metadata['low']}"),
        ((field.metadata["high"] or 0) + 1, f"{field.metadata['high']}"),
    )
    if type(field.default) in (int, float)
    and (limit != "finite" or isinstance(field.default, float))
    and limit != "None"
]


@pytest.mark.parametrize(("name", "field", "value", "limit"), FIELDS)
def test_number_out_of_range_is_refused_naming_field_value_and_range(name, field, value, limit):
    with pytest.raises(BadConfig) as caught:
        configure(CLASSES[name], name, {field: value})
    message = str(caught.value)
    assert message.startswith(f"method.{field} of {name}: must be ")
    assert str(value) in message
    assert limit in message


def test_every_number_of_every_method_has_a_lower_limit():
    numbers = [
        field for cls in CLASSES.values() for field in dataclasses.fields(cls) if type(field.default) in (int, float)
    ]
    assert len(numbers) > 15
    assert all(field.metadata["low"] is not None for field in numbers)


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        (
            "replay",
            {"replay_fraction": -0.1},
            "replay_fraction of replay: must be a finite number from 0.0 to 1.0, found -0.1",
        ),
        ("lora", {"rank": 0}, "rank of lora: must be a whole number of at least 1, found 0"),
        ("ewc", {"weight": float("nan")}, "weight of ewc: must be a finite number of at least 0.0, found nan"),
    ],
)
def test_bad_setting_stops_a_run_before_anything_is_computed(name, setting, words, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    settings = {f"method.{key}": value for key, value in setting.items()}
    job = Job(method=name, stream=write_stream(tmp_path), results=tmp_path / "results", workers=0, set=settings)
    with pytest.raises(BadConfig, match=words):
        run(job)
    assert not list((tmp_path / "home").rglob("record.json"))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_family_is_refused_by_methods_that_need_its_parts(name, tmp_path):
    """Before anything is computed: the checkpoint has not even weights."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "albert"}), encoding="utf-8")
    job = Job(method=name, stream=str(write_stream(tmp_path)), model=str(tmp_path / "model"))
    needs_parts = name in ("adapters", "das", "demix", "expand", "hat")
    with pytest.raises(BadConfig if needs_parts else BadData) as caught:
        read_inputs(job)
    words = f"method {name} needs the module names of the model family 'albert'" if needs_parts else "no *.safetensors"
    assert words in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_method_runs_on_the_embedded_decoder_or_refuses_it_before_anything_is_computed(
    name, tmp_path_factory, monkeypatch
):
    folder = tmp_path_factory.getbasetemp() / "causal"  # one base for all methods
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("CTBENCH_HOME", str(folder / "home"))
    settings = {f"method.{key}": value for key, value in QUICK.get(name, {}).items()}
    job = Job(
        method=name,
        stream=write_stream(folder),
        model="tiny-causal",
        set={"finetune.epochs": 1, "finetune.seeds": "[0]", **settings},
        results=folder / "results",
        workers=0,
    )
    computed = []
    try:
        (result,) = run(job, listen=lambda nodes: computed.append, say=lambda line: None)
    except BadConfig as refusal:
        why = str(refusal)
        result = None
    if result is None:
        assert computed == []
        assert "causal" in why or "decoder" in why
        return
    assert (result.backbone.name, result.backbone.objective) == ("tiny-causal", "clm")
    assert result.metrics["F_Acc"] is not None
