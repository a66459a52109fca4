"""The generated tables of docs/results.md, from folders that hold all, some or none of what they show."""

from __future__ import annotations

import copy
import re
import shlex

import pytest
import results_page
from fake_results import digest, fake_method, fake_record, with_matrix, write_fakes
from readme import generated, pages
from reference_pages import torn_rows
from results_page import (
    DOCS_PARTS,
    commands,
    effects,
    figure,
    kept,
    losses,
    oracles,
    parts,
    seed_text,
    short,
    studies,
    table_command,
)

from ctbench.results.format import result_from, to_record
from ctbench.results.writing import write_result

FLOPS = {"naive": 2e12, "hypermap": 5e12, "joint": 2e12}


def full(method, seed, stream="domain", **options):
    """A result with general text, FLOPs and, of a conditional LM, effects; stage 2 has twice those of stage 1."""
    record = copy.deepcopy(fake_record(method, seed=seed, stream=stream, num_tasks=2, **options))
    record["general_loss"] = [3.0, 3.1, 3.2 + 0.1 * seed]
    record["general_bits"] = [1.0, 1.1, 1.2]
    record["cost"]["flops"] = FLOPS[method]
    for stage in record["stages"] if method == "hypermap" else ():
        stage["notes"] = {"prompt_effect": 0.125 * stage["stage"] * (1 + seed), "prompt_domains": 0.75}
    return result_from(record | {"key": digest(method, seed, stream, "full")})


@pytest.fixture
def folder(tmp_path):
    for method in ("naive", "hypermap"):
        for seed in range(2):
            write_result(full(method, seed), tmp_path)
    write_result(full("joint", 0, shape="joint"), tmp_path)
    return tmp_path


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("part", DOCS_PARTS, ids=lambda part: part.__name__)
def test_a_part_without_results_is_a_line_that_says_how_to_get_them(part, tmp_path):
    text = part(tmp_path)
    assert text.startswith("- ")
    assert text.endswith("\n")
    assert "make " in text or "no committed results" in text


@pytest.mark.parametrize("part", DOCS_PARTS, ids=lambda part: part.__name__)
def test_a_part_copes_with_one_stream_and_a_few_methods(part, folder):
    text = part(folder)
    assert torn_rows(text) == []
    assert "nan" not in text.lower().split()


def test_the_short_table_of_the_readme_has_dashes_for_methods_without_results(folder):
    text = short(folder)
    assert row(text, "`lwf`")[1:] == ["–"] * 8
    naive = row(text, "`naive`")[1:]
    assert "–" not in naive[:4]
    assert naive[4:] == ["–"] * 4, "the other stream has none"


def test_the_short_table_shows_the_defaults_of_a_method_and_not_its_variants(tmp_path):
    for changed, score in (({}, 0.7), ({"method.source": "general"}, 0.6)):
        record = fake_record("replay", num_tasks=2, changed=changed)
        numbers = with_matrix(record, [[0.5, 0.5], [score, score], [score, score]])
        method = fake_method("replay", changed, registered=True)
        write_result(result_from(record | numbers | {"method": method}), tmp_path)
    assert row(short(tmp_path), "`replay`")[2] == "70.0"


def test_what_is_kept_is_worked_out_by_hand(folder):
    text = kept(folder)
    # general: 0.2 and 0.3 nats; FLOPs 5e12 of naive's 2e12; the joint run has seed 0 alone
    found = row(text, "hypermap")
    assert found[:3] == ["hypermap", "2", "+0.250 ± 0.071"]
    assert found[-2:] == ["5T", "2.50"]
    assert found[4].endswith("(n = 1)")
    assert row(text, "naive")[-1] == "1.00"
    assert "general: G\\[T\\] - G\\[0\\]" in text


def test_a_figure_that_no_result_holds_has_no_column(tmp_path):
    write_fakes(tmp_path, methods=("naive",), stream="domain")
    assert kept(tmp_path).startswith("- No committed results with these figures yet")
    write_fakes(tmp_path, methods=("joint",), stream="domain", shape="joint")
    text = kept(tmp_path)
    assert "gap_to_joint" in text
    assert "general" not in text
    assert "FLOPs" not in text


def test_effects_are_means_over_runs_by_stage(folder):
    text = effects(folder)
    (line,) = [line for line in text.splitlines() if "prompt_effect, nats" in line]
    assert line.endswith("| 2 | 0.188 | 0.375 |"), "0.125 and 0.25, then twice as much"
    assert "| prompt_domains, % | 2 | 75.0 | 75.0 |" in text
    assert "| naive |" not in text
    assert "guessing names 50.0 %" in text


def test_losses_are_ranked_by_the_metrics_of_losses_without_the_findings_of_scores(folder):
    text = losses(folder)
    assert "learned ↓ | unseen ↓ | final ↓" in text
    assert "finding" not in text


def test_commands_join_seeds_and_streams_of_one_row(folder):
    write_result(full("naive", 0, "temporal"), folder)
    write_result(full("naive", 1, "temporal"), folder)
    write_result(full("hypermap", 5, "temporal"), folder)
    text = commands(folder)
    lines = [line.split("`")[3] for line in text.splitlines() if line.startswith("| `")]
    assert [shlex.split(line)[3:8:2] for line in lines] == [
        ["hypermap", "domain", "tiny"],
        ["hypermap", "temporal", "tiny"],
        ["joint", "domain", "tiny"],
        ["naive", "domain,temporal", "tiny"],
    ]
    assert "--seed 0..1 --control" in lines[-1]
    assert "--seed 5 " in lines[1]


def test_seeds_are_written_as_the_command_line_takes_them():
    assert [seed_text(seeds) for seeds in ((0, 1, 2), (0, 1, 5), (3,))] == ["0..2", "0,1,5", "3"]


def test_a_study_with_results_shows_the_table_of_its_command(tmp_path):
    for order in (0, 1):
        write_fakes(tmp_path / "orders", methods=("naive",), stream="domain", order=order)
    text = studies(tmp_path)
    assert "`make orders`, then `ctbench compare --results results/orders --across order --levels`" in text
    assert "| naive | 6 | 0, 1 |" in text
    assert "yet of `make schedules`, `make compute`, `make doubled`, `make length`" in text
    assert "`make orders`, `make" not in text


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("domain naive F_Acc", "70.0"),
        ("domain hypermap F_Acc", "73.0"),
        ("domain hypermap-naive F_Acc", "+3.0 [-9.7, +15.7]"),  # 2 and 4 points: 12.706 times 1 on both sides
        ("domain naive FWT_all", "+20.0"),
        ("domain row0", "50.0"),
        ("domain control", "51.0"),
        ("domain hypermap/naive flops", "2.5"),
        ("domain hypermap flops", "5T"),
        ("domain naive general", "+0.250"),
        ("domain lwf F_Acc", "–"),
        ("temporal naive F_Acc", "–"),
    ],
)
def test_a_figure_in_a_sentence_is_worked_out_by_hand(asked, shown, tmp_path):
    for method, scores in {"naive": (0.69, 0.71), "hypermap": (0.71, 0.75)}.items():
        for seed, score in enumerate(scores):
            record = to_record(full(method, seed))
            numbers = with_matrix(record, [[0.5, 0.5], [score, 0.70], [score, score]])
            numbers["cost"]["flops"] = FLOPS[method]
            write_result(result_from(record | numbers), tmp_path)
    assert figure(asked, tmp_path) == shown


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("domain row0", "50.0"),
        ("domain row0 learned", "3.000"),
        ("domain naive A_Acc", "70.0"),
        ("domain part(trains=words) A_Acc", "80.0"),
        ("domain part(trains=words) learned", "2.400"),  # losses are 4 minus twice the score
        ("domain part(trains=words) anytime", "80.0"),  # scores have a metric of that name, too
        ("domain part(trains=layers) A_Acc", "–"),
        ("temporal part(trains=words) A_Acc", "–"),
    ],
)
def test_a_figure_may_be_of_a_loss_and_of_a_row_with_settings(asked, shown, tmp_path):
    for name, changed, score in (("naive", {}, 0.7), ("part", {"method.trains": "words"}, 0.8)):
        record = fake_record("naive", num_tasks=2, changed=changed)
        numbers = with_matrix(record, [[0.5, 0.5], [score, score], [score, score]])
        method = fake_method(name, changed, registered=name == "naive")
        write_result(result_from(record | numbers | {"method": method}), tmp_path)
    assert figure(asked, tmp_path) == shown
    text = parts(tmp_path)
    assert re.search(r"\| part \(trains=words\) † \| 1 \| 80\.0 ", text)
    assert "learned ↓" in text
    assert text.count("| naive |") == 2


def test_oracles_stand_beside_the_methods_that_they_are_ceilings_of(folder):
    assert oracles(folder).startswith("- No committed results"), "there is no oracle yet"
    record = to_record(full("hypermap", 0))
    method = fake_method("oracle_map", {}, registered=False)
    write_result(result_from(record | {"method": method, "key": digest("oracle")}), folder)
    text = oracles(folder)
    assert "| oracle_map † | 1 |" in text
    assert "| naive | 2 |" in text
    assert text.count("prompt_effect, nats") == 2
    assert "joint" not in text


def test_a_wrong_figure_in_a_sentence_is_drift():
    right = generated("ends at <!-- = domain naive F_Acc -->0<!-- / -->.")
    assert right == f"ends at <!-- = domain naive F_Acc -->{figure('domain naive F_Acc')}<!-- / -->."
    assert "-->0<" not in right


def torn_figures(text):
    """Return the lines that a figure begins, which Markdown would take for HTML."""
    return [line for line in text.splitlines() if line.lstrip(" -").startswith(("<!-- = ", "<!-- / -->"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_figure_begins_a_line(page):
    assert torn_figures(page.read_text(encoding="utf-8")) == []


def test_a_figure_that_begins_a_line_is_found():
    figure_at_start = "<!-- = domain row0 -->71.8<!-- / --> points"
    assert torn_figures(f"- ends at\n  {figure_at_start}\n") == [f"  {figure_at_start}"]
    assert torn_figures(f"- ends at {figure_at_start}\n") == []


def test_every_study_names_one_command():
    for name in results_page.QUESTIONS:
        words = table_command(results_page.STUDIES / f"{name}.toml")
        assert words[:4] == ["ctbench", "compare", "--results", f"results/{name}"]
