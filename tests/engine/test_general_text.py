"""Methods that read general text in their stages: node keys, results and refusals."""

from __future__ import annotations

import pytest
from small_streams import spec_of, write_stream

from ctbench.engine.forecast import forecast
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.errors import BadConfig, BadData

GENERAL_REPLAY = {"method.source": "general"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("general")
    write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))


def go(place, name="small", **settings):
    job = Job(method="replay", stream=place / f"{name}.toml", results=place / "results", workers=0, set=settings)
    return run(job)[0]


def test_general_replay_runs_and_its_result_says_that_it_reads_general_text_and_stores_none(place):
    result = go(place, **GENERAL_REPLAY)
    assert result.method.traits.reads_general_text
    assert not result.method.traits.stores_text
    assert result.cost.stored_bytes == 0
    assert result.stages[0].forward_tokens == result.stages[0].tokens
    assert result.metrics["F_Acc"] is not None


def test_only_stages_of_methods_that_read_general_text_are_keyed_by_it(place):
    ordinary, general = (spec_of(place / "small.toml", "replay", settings=set) for set in ({}, GENERAL_REPLAY))
    assert [node.identity.general for node in ordinary.stages] == [None, None]
    (digest,) = {node.identity.general for node in general.stages}
    assert digest
    other = write_stream(place, "other", seeds="[0]", epochs="1", num_test="16", num_general_documents="201")
    changed = spec_of(other, "replay", settings=GENERAL_REPLAY)
    assert {node.identity.general for node in changed.stages} != {digest}


def test_the_control_of_such_a_method_is_that_of_every_method(place):
    graphs = (spec_of(place / "small.toml", "replay", settings=set, control=True) for set in ({}, GENERAL_REPLAY))
    one, other = (graph.control.stages[0].key for graph in graphs)
    assert one == other


STREAM = """
kind = "domain"
summary = "a stream of files"
GENERAL
[[domains]]
name = "a"
text = { source = "files", path = "a.txt" }
task = { source = "files", train = "train.csv", test = "train.csv" }
[pretrain]
tokens = 640
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


def write_files(folder, general):
    """A stream for checkpoints, which may lack general text."""
    (folder / "a.txt").write_text("".join(f"w{n % 80} w{n % 7} w{n % 11}\n" for n in range(300)))
    (folder / "short").mkdir()
    for number in range(6):
        (folder / f"short/{number}.txt").write_text(f"w{number}\n")
    rows = "".join(f"w{n % 80} w{n % 3},{('hot', 'cold')[n % 2]}\n" for n in range(16))
    (folder / "train.csv").write_text(f"text,label\n{rows}")
    (folder / "files.toml").write_text(STREAM.replace("GENERAL", general))
    return folder / "files.toml"


@pytest.mark.parametrize(
    ("general", "error", "words"),
    [
        (
            "",
            BadConfig,
            "method replay with these settings reads general text in its stages, and stream files has none",
        ),
        (
            'general = { source = "files", path = "short" }',
            BadData,
            "general text: 10 of 12 tokens.*a block of length 16 needs",
        ),
    ],
    ids=["none", "too little"],
)
def test_general_text_that_is_missing_or_too_short_is_refused_before_anything_is_computed(
    general, error, words, tmp_path, checkpoint
):
    stream, results = write_files(tmp_path, general), tmp_path / "results"
    options = {"stream": stream, "model": str(checkpoint("roberta")), "results": results, "workers": 0}
    with pytest.raises(error, match=words):
        run(Job(method="replay", set=GENERAL_REPLAY, **options))
    assert not results.exists()
    assert forecast([Job(method="replay", **options)]).num_missing > 0
