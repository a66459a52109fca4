"""Pictures show the numbers of the results, in a style that anyone can read."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fake_results import fake_record, fake_result, with_matrix
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.reporting.entries import Entry
from ctbench.reporting.plots.curves import stage_means
from ctbench.reporting.plots.figure import PLOTS, make_figure
from ctbench.reporting.plots.looks import NUM_LOOKS, look, looks_of
from ctbench.reporting.plots.style import diverging, ink_on, save, sequential, wrapped
from ctbench.results.format import result_from
from ctbench.results.schema import Result

METHODS = {"naive": "chain", "replay": "chain", "joint": "joint", "separate": "separate"}
RESULTS = [fake_result(name, seed=seed, shape=shape) for name, shape in METHODS.items() for seed in range(3)]
TWO = [result for result in RESULTS if result.method.name in ("naive", "replay")]
NAIVE = RESULTS[:3]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def mean_of(results: list[Result]) -> np.ndarray:
    return np.mean([result.matrix for result in results], axis=0)


MEASURED = ("general", "stability")


def measured(result: Result) -> Result:
    """The result with losses of general text (none in rows that joint training leaves empty) and with probes."""
    losses = tuple(None if np.isnan(row).any() else 2.0 + index / 10 for index, row in enumerate(result.matrix))
    probes = {result.stream.domains[0]: (2.0, 2.5, 2.25), "general": (3.0, 3.5, 3.25)}
    stages = tuple(dataclasses.replace(stage, probe_steps=(0, 1, 10), probes=probes) for stage in result.stages)
    return dataclasses.replace(result, general_loss=losses, stages=stages)


@pytest.mark.parametrize("kind", PLOTS)
def test_every_kind_of_plot_draws_one_run_and_many(kind: str, tmp_path: Path) -> None:
    many = TWO if kind == "difference" else RESULTS
    one = [TWO[0], TWO[3]] if kind == "difference" else [TWO[0]]
    if kind in MEASURED:
        with pytest.raises(MissingResult, match="no result"):
            make_figure(one, kind=kind)
        many, one = [measured(result) for result in many], [measured(result) for result in one]
    for results in (many, one):
        picture = save(make_figure(results, kind=kind), tmp_path / "x.svg").read_text("utf-8")
        assert not re.search(r"\bnan\b", picture, re.IGNORECASE)
        assert picture.count("<path") > 20


def test_matrix_shows_means_in_percent_and_dashes_for_missing_cells() -> None:
    shown = texts(make_figure(RESULTS, kind="matrix"))
    for name in METHODS:
        assert name in shown
    for value in mean_of(NAIVE).ravel():
        assert f"{100 * value:.1f}" in shown
    assert shown.count("–") == 4 * 5, "joint has no rows 1 to 4"
    assert "domain v1 · tiny · mean of 3 runs" in shown


def test_difference_is_first_minus_second_and_marks_intervals_without_zero() -> None:
    level = np.full((6, 5), 0.7)
    noise = np.random.default_rng(0).normal(0, 0.01, size=(3, 6, 5))
    noise[:, 2, 2] = [0.05, -0.05, 0.0]
    one = [result_from(with_matrix(fake_record("one", seed=s), level + 0.1 + noise[s])) for s in range(3)]
    two = [result_from(with_matrix(fake_record("two", seed=s), level)) for s in range(3)]
    shown = texts(make_figure([*one, *two], kind="difference"))
    assert "one minus two" in shown
    mean = (level + 0.1 + noise.mean(axis=0)) - level
    assert f"+{100 * mean[0, 0]:.1f} •" in shown
    assert f"+{100 * mean[2, 2]:.1f}" in shown, "no mark: the interval covers 0"
    swapped = texts(make_figure([*two, *one], kind="difference"))
    assert "two minus one" in swapped
    assert f"−{100 * mean[0, 0]:.1f} •" in swapped


def test_matrices_and_losses_show_one_order_and_name_it() -> None:
    results = [fake_result("naive", seed=seed, order=order) for seed in range(2) for order in (0, 1, 2)]
    shown = texts(make_figure(results, kind="matrix"))
    assert "domain v1 · tiny · mean of 2 runs, order 0" in shown
    assert f"{100 * mean_of([results[0], results[3]])[4, 1]:.1f}" in shown
    loss = make_figure(results, kind="loss").get_suptitle()
    assert loss.startswith("domain v1 · tiny · n = 2, order 0 · ")
    assert make_figure(results, kind="anytime").get_suptitle().startswith("domain v1 · tiny · n = 6 · ")
    with pytest.raises(MissingResult, match="no order of domains in common"):
        make_figure([results[0], fake_result("replay", order=1)], kind="matrix")


def test_difference_uses_shared_seeds() -> None:
    results = [TWO[0], TWO[1], TWO[3]]
    shown = texts(make_figure(results, kind="difference"))
    first = TWO[0].matrix[5, 0] - TWO[3].matrix[5, 0]
    assert f"{100 * first:+.1f}".replace("-", "−") in shown
    assert not any("•" in text for text in shown), "one pair has no interval"
    with pytest.raises(MissingResult, match="share no run seed"):
        make_figure([TWO[0], TWO[4]], kind="difference")


def test_anytime_curves_are_means_over_seen_unseen_and_all_with_bands() -> None:
    figure = make_figure(TWO, kind="anytime")
    curves = 100 * np.array([stage_means(result.matrix) for result in NAIVE])
    assert stage_means(NAIVE[0].matrix)[0, 3] == pytest.approx(NAIVE[0].matrix[3, :3].mean())
    assert stage_means(NAIVE[0].matrix)[1, 3] == pytest.approx(NAIVE[0].matrix[3, 3:].mean())
    assert stage_means(NAIVE[0].matrix)[2, 3] == pytest.approx(NAIVE[0].matrix[3].mean())
    for panel, axis in enumerate(figure.axes):
        line = next(line for line in axis.lines if line.get_label() == "naive")
        assert np.asarray(line.get_ydata()) == pytest.approx(curves[:, panel].mean(axis=0), nan_ok=True)
        low, high = (curves[:, panel].mean(axis=0) + sign * curves[:, panel].std(axis=0, ddof=1) for sign in (-1, 1))
        band = np.concatenate([path.vertices[:, 1] for path in axis.collections[0].get_paths()])
        assert np.nanmin(low) == pytest.approx(band.min())
        assert np.nanmax(high) == pytest.approx(band.max())
    assert not any(axis.collections for axis in make_figure(NAIVE[:1], kind="anytime").axes), "one run has no band"


def test_loss_curves_show_every_domain() -> None:
    figure = make_figure(TWO, kind="loss")
    assert [axis.get_title(loc="left") for axis in figure.axes] == list(NAIVE[0].stream.domains)
    loss = np.mean([result.lm_loss for result in NAIVE], axis=0)
    for column, axis in enumerate(figure.axes):
        line = next(line for line in axis.lines if line.get_label() == "naive")
        assert np.asarray(line.get_ydata()) == pytest.approx(loss[:, column])


def test_training_curves_continue_over_the_stages() -> None:
    (axis,) = make_figure(TWO, kind="training").axes
    line = next(line for line in axis.lines if line.get_label() == "naive")
    steps, losses = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
    assert steps.max() == 5 * 400
    assert np.isnan(losses).sum() == 4, "a gap between stages"
    assert losses[0] == pytest.approx(np.mean([result.stages[0].losses["lm"][0] for result in NAIVE]))


def test_training_stages_are_marked_for_methods_in_any_order() -> None:
    joint = [fake_result("joint", seed=seed, shape="joint") for seed in range(3)]
    for results in ([*NAIVE, *joint], [*joint, *NAIVE]):
        (axis,) = make_figure(results, kind="training").axes
        (above,) = axis.child_axes
        assert [label.get_text() for label in above.get_xticklabels()] == [f"stage {number}" for number in range(1, 6)]


def points(figure: Figure) -> dict[str, tuple[float, float]]:
    """The place of each method in a scatter picture, by the nearest error bar."""
    axis = figure.axes[0]
    names = [text for text in axis.texts if not text.get_text().startswith("better")]
    return {text.get_text(): tuple(text.xy) for text in names}  # type: ignore[attr-defined]


def test_transfer_plot_shows_forgetting_against_forward_transfer() -> None:
    found = points(make_figure(RESULTS, kind="transfer"))
    assert set(found) == set(METHODS) - {"joint"}, "joint defines neither"
    for axis, name in enumerate(("forgetting", "FWT_all")):
        mean = 100 * np.mean([result.metrics[name] for result in NAIVE])
        assert found["naive"][axis] == pytest.approx(mean)


def test_no_error_bar_of_a_transfer_plot_is_cut_off() -> None:
    runs = []
    for name in ("naive", "replay"):
        for seed, shift in ((0, 0.1), (1, -0.1)):
            matrix = np.full((6, 5), 0.8)
            matrix[1:] += shift * np.triu(np.ones((5, 5)), 1)
            runs.append(result_from(with_matrix(fake_record(name, seed=seed), matrix)))
    axis = make_figure(runs, kind="transfer").axes[0]
    low, high = axis.get_ylim()
    ends = [y for lines in axis.collections for segment in lines.get_segments() for y in segment[:, 1]]
    assert max(ends) - min(ends) > 5
    assert low < min(ends)
    assert max(ends) < high


def test_a_stage_with_one_point_is_marked_and_updates_are_whole_numbers() -> None:
    stages = [
        dataclasses.replace(stage, steps=(10,), losses={"loss": (4.0,)}, rates=(0.001,))
        for stage in fake_result("naive").stages
    ]
    figure = make_figure([dataclasses.replace(fake_result("naive"), stages=tuple(stages))], kind="training")
    assert [line.get_marker() for axis in figure.axes[:2] for line in axis.lines[:1]] == ["o", "o"]
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())
    rated = [dataclasses.replace(stage, rates=(0.001,) * len(stage.steps)) for stage in fake_result("naive").stages]
    figure = make_figure([dataclasses.replace(fake_result("naive"), stages=tuple(rated))], kind="training")
    assert figure.axes[1].lines[0].get_marker() == "None"


def test_a_difference_leaves_no_third_method_out() -> None:
    runs = [fake_result("naive"), fake_result("replay"), fake_result("mine", registered=False)]
    with pytest.raises(MissingResult, match=r"found 3 .*mine †"):
        make_figure(runs, kind="difference")
    assert make_figure(runs[:2], kind="difference")


@pytest.mark.parametrize("cost", ["tokens", "seconds", "peak_memory_bytes"])
def test_cost_plot_shows_a_score_against_a_cost(cost: str) -> None:
    found = points(make_figure(TWO, kind="cost", metric="F_Acc", cost=cost))
    assert found["naive"][0] == pytest.approx(getattr(NAIVE[0].cost, cost))
    assert found["naive"][1] == pytest.approx(100 * np.mean([result.metrics["F_Acc"] for result in NAIVE]))


def test_costs_that_differ_strongly_have_a_logarithmic_axis() -> None:
    record = fake_record("greedy")
    greedy = result_from(record | {"cost": record["cost"] | {"forward_tokens": 10**10}})
    assert make_figure([*TWO, greedy], kind="cost").axes[0].get_xscale() == "log"
    assert make_figure(TWO, kind="cost").axes[0].get_xscale() == "linear"


def test_impossible_plots_are_rejected_in_one_line(tmp_path: Path) -> None:
    for wrong in ({"kind": "matrx"}, {"kind": "cost", "cost": "second"}, {"kind": "cost", "metric": "F_acc"}):
        with pytest.raises(UnknownName, match="did you mean"):
            make_figure(TWO, **wrong)
    with pytest.raises(MissingResult, match="there is no result to draw"):
        make_figure([])
    with pytest.raises(MissingResult, match="one stream under one protocol"):
        make_figure([TWO[0], fake_result("naive", protocol="0" * 16)])
    with pytest.raises(MissingResult, match="needs two methods, found 4"):
        make_figure(RESULTS, kind="difference")
    with pytest.raises(MissingResult, match="is not defined for any"):
        make_figure([r for r in RESULTS if r.method.name == "joint"], kind="transfer")
    with pytest.raises(BadConfig, match=r"\.png, \.svg, \.pdf"):
        save(make_figure(TWO), tmp_path / "x.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="cannot be written"):
        save(make_figure(TWO), tmp_path / "file" / "x.png")


def test_missing_cells_leave_gaps() -> None:
    record = fake_record("naive")
    record["matrix"][2][3] = None
    holed = result_from(with_matrix(record, record["matrix"]))
    assert texts(make_figure([holed], kind="matrix")).count("–") == 1
    unseen = make_figure([holed], kind="anytime").axes[1]
    line = next(line for line in unseen.lines if line.get_label() == "naive")
    assert [row for row, y in enumerate(np.asarray(line.get_ydata(), dtype=float)) if math.isnan(y)] == [2, 5]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_equal_results_give_equal_files_under_any_user_settings(suffix: str, tmp_path: Path) -> None:
    first = save(make_figure(TWO, kind="anytime"), tmp_path / f"a.{suffix}").read_bytes()
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "black"}):
        second = save(make_figure(TWO, kind="anytime"), tmp_path / f"b.{suffix}").read_bytes()
    assert first == second


@pytest.mark.parametrize("kind", ["matrix", "anytime", "cost"])
def test_names_are_not_read_as_formulas(kind: str, tmp_path: Path) -> None:
    """A name between dollars is drawn as it is written; read as a formula it would be refused, or lose its dollars."""
    odd = r"$\frac{1}$ <b>"
    record = copy.deepcopy(fake_record("naive", num_tasks=2))
    old = record["stream"]["domains"][0]
    text = json.dumps(record).replace(json.dumps(old), json.dumps(odd))
    record = json.loads(text)
    record["method"]["name"] = odd
    figure = make_figure([result_from(record)], kind=kind)
    assert any("frac" in text.get_text() for text in figure.findobj(Text))
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "frac" in text.get_text())
    save(figure, tmp_path / "x.svg")


# Legible for everyone.


def luminance(colour: object) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: object, other: object) -> float:
    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_methods_differ_by_marker_or_dash_without_colour() -> None:
    looks = [look(index) for index in range(20)]
    for one, other in combinations(looks, 2):
        assert (one.marker, str(one.dash)) != (other.marker, str(other.dash))
    assert len({look.marker for look in looks[:11]}) == 11


def test_lines_have_contrast_on_white_paper() -> None:
    assert min(contrast(look(index).colour, "white") for index in range(20)) >= 3
    assert contrast("#f0e442", "white") < 3, "the palette's yellow would not"


BLINDNESS = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def seen(colour: str, kind: str) -> np.ndarray:
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
    changed = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ changed
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_first_colours_differ_for_colour_blind_readers(kind: str) -> None:
    colours = [look(index).colour for index in range(5)]
    distances = [np.linalg.norm(seen(a, kind) - seen(b, kind)) for a, b in combinations(colours, 2)]
    assert min(distances) > 12
    if kind == "deuteranopia":
        assert np.linalg.norm(seen("#2ca02c", kind) - seen("#b0702c", kind)) < 12, "a pair that is not safe"


def test_scores_are_ordered_by_lightness_alone() -> None:
    shades = [luminance(sequential()(place)[:3]) for place in np.linspace(0, 1, 101)]
    assert all(a > b for a, b in pairwise(shades))
    middle = [luminance(diverging()(place)[:3]) for place in np.linspace(0, 1, 101)]
    assert int(np.argmax(middle)) == 50, "a difference of 0 is the lightest"


def test_texts_are_legible_on_every_colour_of_a_scale() -> None:
    for colours in (sequential(), diverging()):
        for place in np.linspace(0, 1, 101):
            shade = colours(place)[:3]
            assert contrast(ink_on(shade), shade) >= 3.8


def test_training_shows_the_learning_rate_below_the_loss() -> None:
    record = fake_record("naive")
    for stage in record["stages"]:
        stage["rates"] = [1e-3 / (1 + index) for index in range(len(stage["steps"]))]
    above, below = make_figure([result_from(record)], kind="training").axes[:2]
    assert below.get_ylabel() == "learning rate"
    drawn = below.get_lines()[0].get_ydata()
    assert drawn[:3] == pytest.approx([1e-3, 5e-4, 1e-3 / 3])
    assert above.get_lines()[0].get_ydata()[0] == record["stages"][0]["losses"]["lm"][0]


def entries_of(*labels: str) -> list[Entry]:
    found = []
    for label in labels:
        name, _, setting = label.partition(" ")
        changed = {"method.x": int(setting)} if setting else {}
        result = fake_result(name, changed=changed)
        found.append(Entry(label=f"{name} (x={setting})" if setting else name, results={(0, 0): result}))
    return found


def test_a_method_looks_the_same_whatever_else_is_drawn() -> None:
    alone, first, last = (
        looks_of(entries_of(*names)) for names in (["ewc"], ["ewc", "naive"], ["das", "naive", "ewc"])
    )
    assert alone[0] == first[0] == last[2]
    assert first[1] == last[1]
    assert first[0] != first[1]
    for kind in ("anytime", "loss", "training"):
        lines = [
            next(line for line in make_figure(results, kind=kind).axes[0].lines if line.get_label() == "naive")
            for results in (NAIVE, RESULTS)
        ]
        assert lines[0].get_color() == lines[1].get_color() == looks_of(entries_of("naive"))[0].colour


def test_variants_of_a_method_keep_its_colour_and_differ_otherwise() -> None:
    looks = looks_of(entries_of("hyperprompt", "hyperprompt 1", "hyperprompt 2", "naive"))
    assert looks[0] == looks_of(entries_of("hyperprompt"))[0]
    assert len({each.colour for each in looks[:3]}) == 1
    assert len({each.marker for each in looks[:3]}) == 3
    assert looks[3].colour != looks[0].colour


def test_the_methods_that_ctbench_comes_with_are_told_apart() -> None:
    names = [path.stem for path in Path("methods").glob("*.py") if path.stem != "__init__"]
    looks = looks_of(entries_of(*names))
    assert len(names) >= 13
    assert len({each.colour for each in looks}) == len(names)
    assert len({(each.marker, str(each.dash)) for each in looks}) == len(names), "also in black and white"
    twins = [look(0), look(NUM_LOOKS)]
    assert twins[0] == twins[1], "the control: only NUM_LOOKS looks differ"


def test_a_few_lines_are_named_at_their_ends_and_many_in_a_legend() -> None:
    few, many = make_figure(TWO, kind="anytime"), make_figure(thirteen(), kind="anytime")
    assert not few.legends
    assert {"naive", "replay", "untouched LM, same tasks"} == {text.get_text() for text in few.axes[2].texts}
    places = sorted(text.xy[1] for text in few.axes[2].texts)  # type: ignore[attr-defined]
    low, high = few.axes[2].get_ylim()
    assert min(b - a for a, b in pairwise(places)) > 0.05 * (high - low)
    (legend,) = many.legends
    assert len(legend.get_texts()) == 14
    assert not any(axis.collections for axis in many.axes), "thirteen bands are a knot"


@pytest.mark.parametrize("kind", ["anytime", "loss", "training"])
@pytest.mark.parametrize("others", [(), ("naive",), tuple(f"method_{index}" for index in range(6))])
def test_a_method_whose_name_begins_with_a_line_is_named(kind: str, others: tuple[str, ...]) -> None:
    figure = make_figure([fake_result(name, seed=0) for name in ("_mine", *others)], kind=kind)
    shown = {*texts(figure), *(text.get_text() for legend in figure.legends for text in legend.get_texts())}
    assert shown >= {"_mine", *others}
    assert not any("child" in text for text in shown)


def thirteen() -> list[Result]:
    return [fake_result(f"method_{index}", seed=seed) for index in range(13) for seed in range(2)]


@pytest.mark.parametrize("kind", PLOTS)
def test_no_title_is_clipped(kind: str) -> None:
    """Every text lies inside the figure, with long names of stream, method and domains."""
    results = []
    for name in (
        "a_method_of_a_very_long_name_that_goes_on_and_on_and_on",
        "another_one_of_a_name_as_long_as_the_first",
    ):
        record = fake_record(
            name, stream="a-stream-of-a-very-long-name-that-does-not-fit-into-the-title-of-a-picture", num_tasks=3
        )
        record["backbone"]["name"] = "an-organisation-of-a-long-name/a-model-of-a-long-name-with-a-revision"
        results.append(measured(result_from(record)))
    figure = make_figure(results, kind=kind)
    figure.draw_without_rendering()
    titles = [*figure.texts, *(each for axis in figure.axes for each in axis.get_children() if isinstance(each, Text))]
    page = figure.bbox
    for text in (text for text in titles if text.get_text() and text.get_visible()):
        box = text.get_window_extent()
        assert box.x0 >= page.x0 - 1, text.get_text()
        assert box.x1 <= page.x1 + 1, text.get_text()
        assert box.y1 <= page.y1 + 1, text.get_text()
    assert wrapped("word " * 40, 3.0).count("\n") >= 4
    assert wrapped("short", 3.0) == "short"


@pytest.mark.parametrize("kind", ["matrix", "difference", "anytime", "transfer"])
def test_pictures_of_losses_show_nats(kind: str) -> None:
    figure = make_figure(TWO, kind=kind, on="loss")
    shown = {*texts(figure), *(axis.get_ylabel() for axis in figure.axes), *(axis.get_xlabel() for axis in figure.axes)}
    assert any("nats" in text for text in shown)
    assert not any("%" in text or "points" in text for text in shown if "interval" not in text)
    if kind == "matrix":
        mean = np.mean([result.lm_loss for result in NAIVE], axis=0)
        assert f"{mean[3, 2]:.3f}" in shown
    with pytest.raises(UnknownName, match="did you mean 'loss'"):
        make_figure(TWO, kind=kind, on="losses")
