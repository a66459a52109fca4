from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from ctbench.data.stream import FilesText, SyntheticText, load_stream, reorder, stream_summary
from ctbench.errors import BadConfig, BadData, UnknownName

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def change(folder: Path, old: str, new: str) -> Path:
    path = folder / "reviews.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def message_of(path: Path, **options: object) -> str:
    with pytest.raises(BadConfig) as caught:
        load_stream(path, registered=False, **options)  # type: ignore[arg-type]  # options of several types
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(path), "reviews.toml")


def test_stream_of_files_is_read_whole(folder):
    stream = load_stream(folder / "reviews.toml", registered=False)
    assert stream.name == "reviews"
    assert stream.names == ("phone", "camera")
    assert stream.domain("camera").text == FilesText(path=("camera/*.txt",))
    assert stream.domain("phone").task.metric == "accuracy"
    assert stream.recipe.pretrain.tokens == 1000
    assert stream.recipe.finetune.seeds == (0, 1, 2)
    assert stream.recipes == ("default", "small")
    assert stream.changed == ()
    with pytest.raises(UnknownName, match="did you mean 'phone'"):
        stream.domain("phon")


def test_whole_numbers_may_be_written_as_floats(folder):
    stream = load_stream(folder / "reviews.toml", registered=False, settings={"pretrain.tokens": "1e6"})
    assert stream.recipe.pretrain.tokens == 1_000_000
    assert type(stream.recipe.pretrain.tokens) is int
    said = message_of(folder / "reviews.toml", settings={"pretrain.tokens": "1.5"})
    assert "must be a whole number, found 1.5" in said


@pytest.mark.parametrize("name", ["domain", "temporal"])
def test_embedded_streams_have_five_synthetic_domains(name):
    stream = load_stream(BENCHMARKS / f"{name}.toml", registered=True)
    assert len(stream.domains) == 5
    assert stream.kind == name
    assert stream.general == SyntheticText()
    assert stream.language is not None
    assert stream.language.num_test >= 1000
    assert {stream.recipe.pretrain.precision, stream.recipe.finetune.precision} <= {"fp32", "bf16"}
    assert stream.recipe.base is not None
    summary = stream_summary(BENCHMARKS / f"{name}.toml")
    assert (summary.name, summary.kind, summary.num_domains, summary.model) == (name, name, 5, "tiny")


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "tokens = 1000",
            "tokens = 0",
            ["reviews.toml:21: pretrain.tokens: must be greater than or equal to 1, found 0"],
        ),
        ("tokens = 1000", 'tokens = "1000"', ["reviews.toml:21: pretrain.tokens", "whole number", 'found "1000"']),
        ("tokens = 1000", "tokens = true", ["reviews.toml:21: pretrain.tokens", "found true"]),
        ("tokens = 1000\n", "", ["reviews.toml:20: missing key 'pretrain.tokens'"]),
        ("lr = 1e-3", "lr = nan", ["reviews.toml:22: pretrain.lr", "found nan"]),
        (
            "lr = 1e-3",
            "learning_rate = 1e-3",
            ["reviews.toml:22: unknown key 'learning_rate' in pretrain", "known: tokens"],
        ),
        ("lr = 1e-3", "bach = 3", ["unknown key 'bach'", "did you mean 'batch'?"]),
        ("summary", "sumary", ["reviews.toml:2: unknown key 'sumary' in the top level", "did you mean 'summary'"]),
        ('kind = "domain"', 'kind = "domains"', ["reviews.toml:1: kind: must be one of 'domain' or 'temporal'"]),
        ('train = "train.jsonl"\n', "", ["reviews.toml:10: missing key 'domains[0].task.train'"]),
        ('source = "files"\npath', 'source = "fil"\npath', ["domains[0].text.source: unknown source 'fil'", "'hub'"]),
        (
            'source = "files"\npath',
            "path",
            ["reviews.toml:7: domains[0].text: missing key 'source'; allowed: 'files', 'hub'"],
        ),
        ('path = "phone.jsonl"', "path = []", ["reviews.toml:9: domains[0].text.path", "at least 1 item"]),
        ('name = "camera"', 'name = "a/b"', ["reviews.toml:16: domains[1].name: letters, digits", 'found "a/b"']),
        ('name = "camera"', 'name = "PHONE"', ["[[domains]]: names must differ"]),
        ('name = "camera"', 'name = "general"', ["[[domains]]: the name 'general' is taken by the general text"]),
        (
            "[recipes.small.pretrain]\ntokens = 10",
            "[recipes.small.pretrain]\ntokens = -1",
            ["reviews.toml:25: pretrain.tokens"],
        ),
        ("[recipes.small", "[recipes.default", ["the default recipe has this name already"]),
        ("[recipes.small.pretrain]\ntokens = 10", "[recipes.small]\npretrain = 10", ["must be a table, found 10"]),
        ('"files", path = "general.txt"', '"synthetic"', ["source 'synthetic' needs [language]"]),
        ("[pretrain]", "[language]\n[pretrain]", ["either [language] or [[domains]], and not both"]),
        ("[pretrain]", "[finetune]\nseeds = [1, 1]\n[pretrain]", ["finetune.seeds: must not repeat a seed"]),
        ("[pretrain]", "[finetune]\nseeds = []\n[pretrain]", ["finetune.seeds: must have at least 1 item, found []"]),
        ("[pretrain]", "[pretrain]\ncarry_optimizer = 1", ["carry_optimizer: must be true or false, found 1"]),
        ('"files", path = "general.txt"', '"hub", id = "a/b"', ["reviews.toml:3: missing key 'general.revision'"]),
        ('"files", path = "general.txt"', '"hub", id = "a/b", revision = "main"', ["revision 'main' moves"]),
        ("[pretrain]", "[pretrain", ["reviews.toml:20: broken TOML syntax"]),
        ("[pretrain]", "[pretrain]\ntokens = 2", ["reviews.toml:22: broken TOML syntax: Cannot overwrite a value"]),
        ("lr = 1e-3", 'lr = "', ["reviews.toml:22: broken TOML syntax"]),
    ],
)
def test_mistake_in_the_file_is_one_line_with_its_place(folder, old, new, wanted):
    message = message_of(change(folder, old, new))
    for part in wanted:
        assert part in message


def test_all_mistakes_are_reported_together(folder):
    message = message_of(
        change(folder, "tokens = 1000\nlr = 1e-3", "tokens = 0\nlr = 2\nbatch = 0\nlenth = 5\nclip = -1")
    )
    for part in ("pretrain.tokens", "pretrain.lr", "pretrain.batch", "'lenth'", "and 1 more"):
        assert part in message


@pytest.mark.parametrize(
    ("kind", "other", "knob", "default"),
    [("domain", "temporal", "drift", 0.15), ("temporal", "domain", "polysemy", 0.2)],
)
def test_knob_of_the_other_kind_of_language_is_refused_unless_it_is_at_its_default(
    kind, other, knob, default, tmp_path
):
    path = tmp_path / "made.toml"

    def write(kind, value):
        path.write_text(f'kind = "{kind}"\nsummary = "x"\n[language]\n{knob} = {value}\n[pretrain]\ntokens = 9\n')
        return path

    wanted = f"language.{knob} changes nothing in a stream of kind '{kind}' (kind '{other}' alone has it); leave it out"
    assert wanted in message_of(write(kind, 0.3))
    load_stream(write(kind, default), registered=False)
    load_stream(write(other, 0.3), registered=False)
    with pytest.raises(BadConfig, match="changes nothing in a stream of kind"):
        load_stream(write(kind, default), registered=False, settings={f"language.{knob}": 0.3})


def test_file_that_is_missing_or_not_utf8_is_refused(tmp_path):
    assert "cannot be read" in message_of(tmp_path / "reviews.toml")
    (tmp_path / "reviews.toml").write_bytes(b'summary = "\xff"')
    assert "not UTF-8" in message_of(tmp_path / "reviews.toml")


def test_registered_stream_is_named_after_its_file(folder):
    path = change(folder, "kind", 'name = "other"\nkind')
    assert load_stream(path, registered=False).name == "other"
    with pytest.raises(BadConfig, match="must be the name of the file, 'reviews', found 'other'"):
        load_stream(path, registered=True)


def test_recipe_lies_over_the_default_one(folder):
    path = folder / "reviews.toml"
    small = load_stream(path, registered=False, recipe="small").recipe
    assert (small.name, small.pretrain.tokens, small.pretrain.lr) == ("small", 10, 1e-3)
    with pytest.raises(UnknownName, match="no recipe 'smal'; did you mean 'small'"):
        load_stream(path, registered=False, recipe="smal")


def test_settings_change_the_stream_and_are_recorded(folder):
    settings = {
        "pretrain.tokens": "2_000",
        "finetune.seeds": "[4]",
        "stream.max_test": "3",
        "pretrain.precision": "fp32",
    }
    stream = load_stream(folder / "reviews.toml", registered=False, recipe="small", settings=settings)
    assert stream.recipe.pretrain.tokens == 2000
    assert stream.recipe.finetune.seeds == (4,)
    assert {domain.task.max_test for domain in stream.domains} == {3}
    assert stream.changed == ("finetune.seeds", "pretrain.precision", "pretrain.tokens", "stream.max_test")


def test_setting_to_the_value_that_stands_there_is_no_change(folder):
    settings = {"pretrain.tokens": "1000", "pretrain.batch": "32", "pretrain.lr": "0.001", "stream.root": "."}
    assert load_stream(folder / "reviews.toml", registered=False, settings=settings).changed == ()


def test_language_seed_is_a_setting_and_recorded():
    stream = load_stream(BENCHMARKS / "domain.toml", registered=True, settings={"language.seed": "9"})
    assert stream.language is not None
    assert stream.language.seed == 9
    assert stream.changed == ("language.seed",)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        (
            "pretrain.tokens",
            "many",
            ['--set pretrain.tokens=many: pretrain.tokens: must be a whole number, found "many"'],
        ),
        ("pretrain.tokens", "0", ["--set pretrain.tokens=0", "greater than or equal to 1"]),
        ("pretrain.tokenz", "1", ["no key 'tokenz' of pretrain", "did you mean 'tokens'"]),
        ("pretrian.tokens", "1", ["no table 'pretrian'", "did you mean 'pretrain.KEY'"]),
        ("pretrain", "1", ["expected a table before the key"]),
        ("stream.version", "2", ["no key 'version' of stream", "max_train"]),
        ("stream.max_test", "-1", ["--set stream.max_test=-1: max_test"]),
        ("language.seed", "1", ["the stream has no table [language]"]),
        ("base.tokens", "1", ["the stream has no table [base]"]),
        ("finetune.pooling", "max", ["--set finetune.pooling=max", "'auto', 'mean', 'first' or 'last'"]),
    ],
)
def test_bad_setting_is_one_line_that_names_it(folder, key, value, wanted):
    message = message_of(folder / "reviews.toml", settings={key: value})
    for part in wanted:
        assert part in message


def test_root_may_be_an_environment_variable(folder, monkeypatch):
    path = change(folder, "kind", 'root = "$REVIEWS/sub"\nkind')
    stream = load_stream(path, registered=False)
    monkeypatch.delenv("REVIEWS", raising=False)
    with pytest.raises(
        BadData, match=r"variable REVIEWS, which is not set; set it to the folder that holds sub/phone.jsonl"
    ):
        stream.folder()
    monkeypatch.setenv("REVIEWS", str(folder))
    assert stream.folder() == folder / "sub"


def test_orders_are_permutations_and_time_keeps_its_order():
    stream = load_stream(BENCHMARKS / "domain.toml", registered=True)
    assert reorder(stream, 0) == stream
    orders = {reorder(stream, order).names for order in range(1, 6)}
    assert len(orders) > 1
    assert {frozenset(names) for names in orders} == {frozenset(stream.names)}
    assert reorder(stream, 2) == reorder(stream, 2)
    with pytest.raises(BadConfig, match="found -1"):
        reorder(stream, -1)
    temporal = load_stream(BENCHMARKS / "temporal.toml", registered=True)
    with pytest.raises(BadConfig, match="temporal"):
        reorder(temporal, 1)
    assert reorder(temporal, 1, allow_temporal=True).order == 1


def test_equal_orders_have_one_number():
    stream = load_stream(BENCHMARKS / "domain.toml", registered=True)
    two = dataclasses.replace(stream, domains=stream.domains[:2])
    found = [reorder(two, order) for order in range(30)]
    orders = {each.names: {other.order for other in found if other.names == each.names} for each in found}
    assert len(orders) == 2
    assert all(len(numbers) == 1 for numbers in orders.values())
    assert orders[two.names] == {0}
    (swapped,) = orders[two.names[::-1]]
    assert found[swapped].names == two.names[::-1]
    assert all(each.names == two.names for each in found[:swapped])


def test_reading_a_stream_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path; from ctbench.data.stream import load_stream; "
        f"load_stream(Path({str(BENCHMARKS / 'domain.toml')!r}), registered=True); "
        "print(*{'torch', 'transformers', 'datasets', 'pandas', 'sklearn', 'tokenizers', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
