from __future__ import annotations

import pytest
from small_streams import write_method, write_stream

from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.engine.store import home
from ctbench.errors import RunFailed
from ctbench.results.files import read_results

AT_13 = """
def loss(self, stage, batch):
    loss = stage.backbone(batch).loss
    return {"lm": loss, "extra": loss * (float("VALUE") if stage.step == 12 else 0.0)}
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_the_stage_and_names_update_term_and_norm(tmp_path, monkeypatch, value):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")
    bad = write_method(tmp_path, AT_13.replace("VALUE", value).strip())
    job = Job(method=bad, stream=stream, results=tmp_path / "results", workers=0)
    with pytest.raises(
        RunFailed, match=rf"stage 1.*update 13: loss is {value}, extra is {value} \(gradient norm.*pretrain.lr"
    ):
        run(job)
    assert [result.is_complete for result in read_results(tmp_path / "results").results] == [False]
    kinds = [path.read_text().count('"kind": "stage"') for path in (home() / "store").rglob("record.json")]
    assert kinds
    assert sum(kinds) == 0


def test_a_large_finite_loss_does_not_stop_a_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")
    large = write_method(tmp_path, AT_13.replace("VALUE", "1e6").strip())
    (result,) = run(Job(method=large, stream=stream, results=tmp_path / "results", workers=0))
    assert len(result.stages) == 2


@pytest.mark.parametrize(("limit", "fails"), [(1e4, True), (1e6, False)])
def test_a_mean_loss_above_the_limit_stops_the_stage_and_names_terms_and_norm(tmp_path, monkeypatch, limit, fails):
    """The spike of one update in ten is a tenth of itself in the mean."""
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")
    large = write_method(tmp_path, AT_13.replace("VALUE", "1e5").strip())
    job = Job(method=large, stream=stream, results=tmp_path / "results", workers=0, max_loss=limit)
    if fails:
        with pytest.raises(
            RunFailed, match=r"stage 1.*exploded in updates 11 to 20.*above the limit.*lm .*extra .*norm"
        ):
            run(job)
    else:
        assert run(job)[0].is_complete


LATE = """
def after_step(self, stage):
    stage.note(odd=float("nan"))
    if WHEN:
        for _, weight in stage.backbone.trainable():
            weight.data.fill_(float("nan"))
"""


@pytest.mark.parametrize("breaks", [True, False])
def test_weights_broken_by_the_last_update_stop_the_stage_and_a_note_that_is_nan_is_null(tmp_path, monkeypatch, breaks):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")
    body = LATE.replace("WHEN", f"{breaks} and stage.step == stage.num_steps - 1")
    job = Job(method=write_method(tmp_path, body.strip()), stream=stream, results=tmp_path / "results", workers=0)
    if breaks:
        with pytest.raises(RunFailed, match=r"stage 1.*weights are not finite"):
            run(job)
    else:
        assert [stage.notes for stage in run(job)[0].stages] == [{"odd": None}] * 2
