"""The streams of real text: what they say of themselves, and their recipes."""

from __future__ import annotations

import pytest

from ctbench.data.stream import FilesTask, load_stream
from ctbench.errors import BadData
from ctbench.plugins import find_plugins, get_stream

REAL = ("arxiv-years", "dapset", "dapset-mini", "tweet")


@pytest.mark.parametrize("name", REAL)
def test_stream_of_real_text_names_origin_licences_and_two_recipes(name, monkeypatch):
    small, large = get_stream(name), get_stream(name, recipe="large")
    assert small.recipe.name == "small"  # nobody starts days of work without asking for it
    assert small.recipes == ("small", "large")
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
