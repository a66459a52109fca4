"""Both sides of the measured protocol train the base, also where the stream comes with one."""

from __future__ import annotations

import pytest
from small_streams import write_stream

from ctbench.engine.bases import find_shipped
from ctbench.plugins.find import get_stream
from ctbench.speed.protocol import settings_of_own_base, summarise_protocol
from ctbench.speed.rounds import spread
from ctbench.speed.show import protocol_table


@pytest.mark.parametrize("precisions", [("fp32",), ("bf16", "fp32")])
def test_the_engine_finds_no_base_that_came_with_the_stream(precisions):
    assert find_shipped(get_stream("domain", settings={"base.precision": "fp32"}), "tiny") is not None
    settings = settings_of_own_base("domain", precisions)
    for precision in precisions:
        stream = get_stream("domain", settings=settings | {"base.precision": precision})
        assert find_shipped(stream, "tiny") is None
        assert stream.recipe.base.num_steps == get_stream("domain").recipe.base.num_steps + 1


def test_a_stream_without_a_base_of_its_own_keeps_its_recipe(tmp_path):
    assert settings_of_own_base(str(write_stream(tmp_path)), ("fp32", "bf16")) == {}


def test_the_table_says_that_both_sides_train_the_base():
    engine = {"label": "engine fp32", "precision": "fp32", "seconds": 10.0}
    rival = {"label": "Trainer fp32", "precision": "fp32", "base_seconds": 20.0, "stage_seconds": 5.0}
    rival["cell_seconds"] = spread([1.0])
    found = summarise_protocol("some", [engine], [rival], num_stages=4, num_cells=20, threads=2)
    said = "both sides train the base, for one update more than the base that comes with the stream"
    assert said not in protocol_table(found).notes
    assert said in protocol_table(found | {"has_own_base": True}).notes
