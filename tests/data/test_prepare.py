"""Arranging the files of a stream: as they are, through the module beside the TOML, with counts and digests checked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter

import pytest

from ctbench.cli import main
from ctbench.data.prepare import prepare_stream
from ctbench.data.stream import load_stream
from ctbench.data.tasks import check_task
from ctbench.errors import BadConfig, BadData, BadPlugin
from ctbench.plugins.find import find_plugins, get_stream


@pytest.fixture
def here(folder, monkeypatch, tmp_path_factory):
    """The stream of two domains, whose data belongs into an empty folder, and the originals elsewhere."""
    place = tmp_path_factory.mktemp("place")
    monkeypatch.setenv("MY_DATA", str(place / "data"))
    text = (folder / "reviews.toml").read_text()
    (place / "two-reviews.toml").write_text('root = "$MY_DATA"\nobtain = "From the attic."\n' + text)
    return place


def get(here):
    return load_stream(here / "two-reviews.toml", registered=False)


def test_files_are_put_where_the_stream_looks_for_them(here, folder):
    prepared = prepare_stream(get(here), folder)
    assert prepared.folder == here / "data"
    assert (prepared.files, prepared.checked) == (
        ("camera/a.txt", "camera/b.txt", "general.txt", "phone.jsonl", "test.jsonl", "train.jsonl"),
        0,
    )
    for path in prepared.files:
        assert (here / "data" / path).read_bytes() == (folder / path).read_bytes()
    assert prepare_stream(get(here), here / "data").files == prepared.files
    assert not list((here / "data").rglob(".*"))


def test_files_with_the_labels_of_plain_text_are_put_there_too(here, folder):
    toml = here / "two-reviews.toml"
    files = {"train": "a.txt", "train_labels": "a.names", "test": "b.txt", "test_labels": "b.names"}
    table = ", ".join(f'{key} = "{name}"' for key, name in (files | {"format": "text"}).items())
    head, _, rest = toml.read_text().partition('task = { source = "files"')
    toml.write_text(f'{head}task = {{ source = "files", {table} }}{rest[rest.index(chr(10)) :]}')
    for name in files.values():
        (folder / name).write_text("good\nbad\n")
    assert set(files.values()) < set(prepare_stream(get(here), folder).files)
    assert (here / "data" / "a.names").read_text() == "good\nbad\n"
    check_task(get(here), get(here).domain("camera"))
    (folder / "b.names").unlink()
    with pytest.raises(BadData, match=r"b\.names: no such file"):
        prepare_stream(get(here), folder)


def test_an_original_that_is_a_symbolic_link_is_put_there_as_the_file_that_it_leads_to(here, folder):
    (folder / "blobs").mkdir()  # as caches of Hugging Face, DVC and git-annex have them
    for name in ("general.txt", "camera/a.txt"):
        blob = folder / "blobs" / name.replace("/", "-")
        (folder / name).rename(blob)
        (folder / name).symlink_to(os.path.relpath(blob, (folder / name).parent))
    prepare_stream(get(here), folder)
    for name in ("general.txt", "camera/a.txt"):
        path = here / "data" / name
        assert not path.is_symlink()
        assert path.samefile(folder / name)
        assert path.read_bytes() == (folder / name).read_bytes()


def test_files_outside_the_folder_of_the_stream_are_left_there_or_refused(here, folder):
    toml = here / "two-reviews.toml"
    own = toml.read_text()
    toml.write_text(own.replace('"general.txt"', f'"{folder / "general.txt"}"'))
    assert "general.txt" not in prepare_stream(get(here), folder).files
    toml.write_text(own.replace('"general.txt"', '"../general.txt"'))
    (folder.parent / "general.txt").write_text("a stranger's\n")
    with pytest.raises(BadConfig, match=r"\.\./general\.txt: lies outside the folder of stream two-reviews"):
        prepare_stream(get(here), folder)
    assert not (here / "general.txt").exists()


def test_missing_originals_are_one_line(here, folder):
    (folder / "phone.jsonl").unlink()
    with pytest.raises(BadData, match=r"phone\.jsonl: no such file"):
        prepare_stream(get(here), folder)
    with pytest.raises(BadData, match="no folder 'nowhere'"):
        prepare_stream(get(here), here.with_name("nowhere").relative_to(here.parent))
    with pytest.raises(BadConfig, match="stream domain has no files to arrange"):
        prepare_stream(get_stream("domain"), folder)


def test_counts_and_digests_are_compared(here, folder):
    digest = hashlib.sha256((folder / "phone.jsonl").read_bytes()).hexdigest()
    sums = here / "two-reviews.sums"
    sums.write_text(f"200 {digest} phone.jsonl\n12 - train.jsonl\n")
    assert prepare_stream(get(here), folder).checked == 2
    sums.write_text("13 - train.jsonl\n")
    with pytest.raises(BadData, match=r"train\.jsonl: has 12 records, stream two-reviews wants 13"):
        prepare_stream(get(here), folder)
    sums.write_text(f"- {digest} train.jsonl\n")
    with pytest.raises(BadData, match=r"train\.jsonl: is another file than the one"):
        prepare_stream(get(here), folder)
    sums.write_text("1 - other.jsonl\n")
    with pytest.raises(BadData, match=r"other\.jsonl: no such file"):
        prepare_stream(get(here), folder)


def test_module_beside_the_stream_converts_and_a_broken_one_is_one_line(here, folder):
    module = here / "two_reviews.py"
    module.write_text(
        "import shutil\ndef prepare(source, target):\n    shutil.copytree(source / 'deep', target, dirs_exist_ok=True)\n"
    )
    source = here / "originals"
    folder.rename(here / "deep")
    source.mkdir()
    (here / "deep").rename(source / "deep")
    assert "phone.jsonl" in prepare_stream(get(here), source).files
    module.write_text("import nothing_of_this_name\n")
    with pytest.raises(BadPlugin, match=r"two_reviews\.py: has no usable function prepare"):
        prepare_stream(get(here), source)


def test_command_says_where_the_data_comes_from_and_arranges_it(here, folder, capsys):
    path = str(here / "two-reviews.toml")
    assert main(["prepare", path]) == 0
    assert "From the attic." in capsys.readouterr().out
    assert main(["prepare", path, str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][-1] == "train.jsonl"
    assert main(["prepare", path, str(folder / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_modules_beside_streams_are_no_streams():
    streams = find_plugins("stream")
    assert {"dapset", "dapset-mini", "arxiv-years", "tweet"} <= set(streams)
    assert all(plugin.path.suffix == ".toml" for plugin in streams.values())


NAMES = ["AGONIST", "AGONIST-ACTIVATOR", "AGONIST-INHIBITOR", "DOWNREGULATOR", "SUBSTRATE_PRODUCT-OF", "UPREGULATOR"]
NAMES += [
    "ACTIVATOR",
    "ANTAGONIST",
    "INDIRECT-DOWNREGULATOR",
    "INDIRECT-UPREGULATOR",
    "INHIBITOR",
    "PRODUCT-OF",
    "SUBSTRATE",
]
CHEMPROT = [156, 10, 4, 131, 14, 67, *[541] * 7]  # of the real one: the six rarest labels are taken out whole


def labelled(counts, total):
    """Return `total` labels: the given numbers of each, what is left over goes to the last."""
    return [NAMES[n] for n, count in enumerate([*counts[:-1], total - sum(counts[:-1])]) for _ in range(count)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The archive of Ke et al. in its layout and with its numbers of examples, filled with made-up text."""
    root = tmp_path_factory.mktemp("archive") / "data"

    def write(path, text):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    def aspects(path, polarities, start=0):
        records = {
            str(n): {"term": f"t{n}", "sentence": f"s {path} {n}", "polarity": polarity}
            for n, polarity in enumerate(polarities, start)
        }
        write(path, json.dumps(records))

    for path in ("yelp_restaurant", "acl_anthology", "ai_corpus", "format_pubmed_small", "absa/post_train/phone"):
        write(f"{path}.txt", f"text of {path}\n")
    write("absa/post_train/camera.txt", "text of camera\n")
    aspects(
        "SemEval14-res/train.json", ["positive", "neutral", "negative"] * 1150 + ["positive", "neutral", "conflict"]
    )
    aspects("SemEval14-res/test.json", ["positive"] * 1120)
    for folder, counts, sizes in (
        ("citation_intent", [100] * 6, (1688, 114, 139)),
        ("sciie", [400] * 7, (3219, 455, 974)),
        ("chemprot", CHEMPROT, (4169, 2427, 3469)),
    ):
        for part, size in zip(("train", "dev", "test"), sizes, strict=True):
            rows = (
                labelled(counts, size)
                if part == "train"
                else ["INHIBITOR" if folder == "chemprot" else NAMES[0]] * size
            )
            lines = [
                json.dumps({"text": f"{part} {n}", "label": label, "metadata": {}}) for n, label in enumerate(rows)
            ]
            write(f"{folder}/{part}.jsonl", "\n".join(lines) + "\n")
    for product, total in (
        ("Bing5Domains/Nokia6610", 341),
        ("Bing9Domains/Nokia6600", 451),
        ("Bing5Domains/CanonG3", 286),
        ("Bing5Domains/NikonCoolpix4300", 200),
        ("Bing9Domains/CanonPowerShotSD500", 200),
        ("Bing9Domains/CanonS100", 170),
    ):
        sizes = (total - 60, 20, 40)
        for part, size in zip(("train", "dev", "test"), sizes, strict=True):
            aspects(f"absa/dat/{product}/{part}.json", [("+", "-")[n % 2] for n in range(size)])
    return root.parent


def test_dapset_is_split_as_its_authors_publish_it(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_DATA", str(tmp_path))
    stream = get_stream("dapset", recipe="large")
    prepared = prepare_stream(stream, archive)  # compares the numbers with those of the authors' table
    assert (len(prepared.files), prepared.checked) == (18, 12)
    train, _, test, labels = check_task(stream, stream.domain("pubmed"))
    assert (len(labels), len({example.label for example in train}), len({example.label for example in test})) == (
        13,
        7,
        13,
    )
    taken = Counter(example.label for example in test if example.text.startswith("train"))
    assert (taken["AGONIST"], taken["SUBSTRATE"]) == (156, 160)
    assert (tmp_path / "dapset/camera/corpus.txt").read_text() == "text of camera\n"


def test_dapset_with_a_missing_or_broken_file_is_one_line(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_DATA", str(tmp_path))
    path = archive / "data/sciie/dev.jsonl"
    text = path.read_text()
    path.write_text("<html>")
    with pytest.raises(BadData, match=r"sciie/dev\.jsonl: not the file of the archive"):
        prepare_stream(get_stream("dapset"), archive)
    path.unlink()
    with pytest.raises(BadData, match=r"sciie/dev\.jsonl: not in 'data'"):
        prepare_stream(get_stream("dapset"), archive)
    path.write_text(text)


def test_a_copy_that_cannot_be_written_is_named_and_not_its_original(here, folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "general.txt"), None, "a scratch file")

    def elsewhere(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", elsewhere)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(BadConfig, match=rf"'{here}/data/general.txt' of stream .*; free some space there, or choose"):
        prepare_stream(get(here), folder)
    assert not (here / "data").exists()
