"""The streams of real text: what they say of themselves, and their recipes."""

from __future__ import annotations

import pytest

from ctbench.data.stream import FilesTask, load_stream
from ctbench.errors import BadData
from ctbench.plugins.find import find_plugins, get_stream

REAL = ("arxiv-years", "dapset", "dapset-mini", "topics", "tweet")
OTHERS = {"topics": ("bert-tiny", "minilm", "hour"), "arxiv-years": ("bert-tiny",), "dapset-mini": ("bert-tiny",)}
"""Recipes between the two that every stream of real text has."""


@pytest.mark.parametrize("name", REAL)
def test_stream_of_real_text_names_origin_licences_and_two_recipes(name, monkeypatch):
    small, large = get_stream(name), get_stream(name, recipe="large")
    assert small.recipe.name == "small"  # nobody starts days of work without asking for it
    assert small.recipes == ("small", *OTHERS.get(name, ()), "large")
    assert small.obtain and small.citation and small.licences
    assert (large.recipe.pretrain.batch, large.recipe.pretrain.length, large.recipe.pretrain.lr) == (248, 164, 1e-4)
    assert large.recipe.model.startswith("FacebookAI/roberta-base@")
    assert large.recipe.pretrain.tokens >= 40 * small.recipe.pretrain.tokens
    for few, all_ in zip(small.domains, large.domains, strict=True):
        assert few.task.max_train and few.task.max_test
        assert (all_.task.max_train, all_.task.max_test) == (None, None)
        assert isinstance(few.task, FilesTask)
    monkeypatch.delenv("CTBENCH_DATA", raising=False)
    with pytest.raises(BadData, match=rf"environment variable CTBENCH_DATA.*ctbench prepare {name} says"):
        small.folder()


@pytest.mark.parametrize(("recipe", "warmup"), [("bert-tiny", "all"), ("minilm", "all"), ("hour", "none")])
def test_recipes_of_topics_warm_up_what_needs_it_and_give_row_0_ten_seeds(recipe, warmup):
    found = get_stream("topics", recipe=recipe).recipe
    assert found.base is not None
    assert found.base.warmup == warmup
    assert len(found.finetune.seeds_of(is_base=False)) == 5
    assert len(found.finetune.seeds_of(is_base=True)) == 10
    assert get_stream("topics").recipe.finetune.seeds_of(is_base=True) == (0,)


def test_a_list_beside_a_stream_names_its_files():
    for name in REAL:
        path = find_plugins("stream")[name].path.with_suffix(".sums")
        if name == "tweet":
            assert not path.exists()
            continue
        listed = [line.split(maxsplit=2)[2] for line in path.read_text(encoding="utf-8").splitlines()]
        tasks = [domain.task for domain in get_stream(name).domains]
        paths = [path for task in tasks for path in (*task.train, *(task.test or ()), *(task.validation or ()))]
        assert set(paths) <= set(listed)
        assert len(set(listed)) == len(listed)


def test_recipe_lifts_a_limit_with_zero_and_lowers_it_otherwise(folder):
    path = folder / "reviews.toml"
    path.write_text("max_train = 5\nmax_test = 3\n" + path.read_text() + "[recipes.all]\nmax_train = 0\nmax_test = 2\n")
    usual, every = (load_stream(path, registered=False, recipe=recipe).domains[0].task for recipe in (None, "all"))
    assert (usual.max_train, usual.max_test) == (5, 3)
    assert (every.max_train, every.max_test) == (None, 2)
