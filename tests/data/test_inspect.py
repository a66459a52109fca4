"""Inspection of a stream's data: planted leaks and overlaps are found, look-alikes are not."""

import json

import pytest

from ctbench.cli.inspect import show_inspection
from ctbench.data.inspect import inspect_stream
from ctbench.data.leaks import SHORT, WINDOW, LeakIndex
from ctbench.data.stream import load_stream

LONG = "of all the lenses that I have ever owned this one draws the sharpest pictures by far"
MIDDLE = "this little lens draws sharp pictures"


@pytest.fixture
def inspect(folder):
    """Return a function that inspects the stream of two domains with the given text, train and test examples."""

    def get(text, train=None, test=None):
        (folder / "camera/b.txt").write_text(text)
        for name, examples in (("train", train), ("test", test)):
            if examples:
                records = [{"text": words, "label": label} for words, label in examples]
                (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return inspect_stream(load_stream(folder / "reviews.toml", registered=False))

    return get


@pytest.mark.parametrize(
    ("test_text", "document"),
    [
        (LONG, f"As they say: {LONG}!"),
        (LONG, LONG.upper().replace(" ", "\u00a0 ")),
        (f"<< {LONG[:3]} >>{LONG[3:]}", LONG),
        (LONG, " ".join(LONG.split()[2 : 2 + WINDOW])),
        (MIDDLE, f"It is true, {MIDDLE}."),
        ("sharp!", "Sharp"),
        ("这台相机的镜头非常锐利", "昨天朋友告诉我,这台相机的镜头非常锐利,值得购买。"),
    ],
)
def test_a_planted_leak_is_found(inspect, test_text, document):
    found = inspect(document, test=[(test_text, "+"), ("quite another thing", "-")])
    (leaky,) = [text for text in found.texts if text.leaked]
    assert (leaky.name, leaky.leaked) == ("camera", {"phone": 1, "camera": 1})
    assert any("1 test texts of phone are inside the text of camera" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("test_text", "document"),
    [
        (LONG, " ".join(LONG.split()[: WINDOW - 1])),
        (MIDDLE, " ".join([*MIDDLE.split()[: SHORT - 1], "photographs"])),
        (MIDDLE, " ".join(reversed(MIDDLE.split()))),
        ("sharp!", "sharp and bright"),
        ("这台相机的镜头非常锐利", "昨天朋友告诉我,这台手机的镜头非常锐利。"),
    ],
)
def test_a_look_alike_is_no_leak(inspect, test_text, document):
    found = inspect(document, test=[(test_text, "+"), ("quite another thing", "-")])
    assert all(not text.leaked for text in found.texts)


def test_index_agrees_with_looking_for_every_text_in_every_document():
    words = [f"w{n % 7}{'x' * (n % 3)}" for n in range(400)]
    texts = [" ".join(words[n : n + 5 + n % 12]) for n in range(0, 300, 11)]
    documents = [" ".join(words[n : n + 40]) for n in range(0, 390, 17)] + texts[:3]
    hits = {(hit.text, hit.document) for hit in LeakIndex(texts).find(documents)}
    expected = set()
    for number, text in enumerate(texts):
        parts = text.split()
        runs = [parts[n : n + WINDOW] for n in range(len(parts) - WINDOW + 1)] or [parts]
        for place, document in enumerate(documents):
            inside = any(f" {' '.join(run)} " in f" {document} " for run in runs)
            if inside if len(parts) >= SHORT else document == text:
                expected.add((number, place))
    assert hits == expected
    assert expected


def test_overlap_labels_and_majority_are_counted(inspect):
    train = [("Good  one", "+"), ("good two", "+"), ("good three", "+"), ("bad one", "-"), ("odd", "?")]
    found = inspect("a blurred picture", train=train, test=[("good ONE", "+"), ("new", "+"), ("bad one", "-")])
    task = found.tasks[0]
    assert [(label.name, label.train, label.test) for label in task.labels] == [("+", 3, 2), ("-", 1, 1), ("?", 1, 0)]
    assert task.majority_score == task.majority["accuracy"] == pytest.approx(2 / 3)
    assert task.majority["macro_f1"] == pytest.approx(0.8 / 3)
    assert (task.train_in_test, task.validation_in_test) == (2, 0)
    assert found.tasks[1].validation_in_test == 2
    text = " / ".join(found.problems)
    for part in ("2 of 3 test inputs are also training inputs", "no test example of ?", "training examples of"):
        assert part in text


def test_texts_too_short_to_be_looked_for_are_told(inspect, capsys):
    found = inspect(f"see {LONG}", test=[(LONG, "+"), ("bad 1", "-")])
    assert found.short_tests == 2
    show_inspection(found, as_json=False)
    assert "2 test texts of fewer than 6 words were looked for as whole documents only" in capsys.readouterr().out


def test_sizes_are_those_of_the_texts(inspect):
    general, phone, camera = inspect("a blurred picture\n\nof a cat\n").texts
    assert (general.documents, general.words) == (2, 8)
    assert (phone.documents, phone.words) == (200, 800)
    assert (camera.documents, camera.words, camera.characters) == (4, 12, 51)


def test_texts_with_two_labels_are_told_whichever_split_they_are_in(inspect):
    train = [("good one", "+"), ("Good  ONE", "-"), ("bad one", "-"), ("odd", "+")]
    found = inspect("a blurred picture", train=train, test=[("new", "+"), ("bad one", "+")])
    assert found.tasks[0].contradictions == (("good one", ("+", "-")), ("bad one", ("-", "+")))
    assert any("2 texts have two labels, such as 'good one' (+, -)" in problem for problem in found.problems)
    agreed = inspect("a blurred picture", train=[*train[:1], *train[2:]], test=[("new", "+"), ("bad one", "-")])
    assert agreed.tasks[0].contradictions == ()


def test_files_are_counted_and_what_is_skipped_is_named(inspect, folder, capsys):
    for name in ("camera.zip", "readme", ".b.txt"):
        (folder / "camera" / name).write_text("x")
    (folder / "reviews.toml").write_text((folder / "reviews.toml").read_text().replace("camera/*.txt", "camera"))
    found = inspect("a blurred picture")
    assert [text.files for text in found.texts] == [1, 1, 2]
    assert {each.shown: each.reason for each in found.texts[2].skipped} == {
        "camera/camera.zip": "an archive",
        "camera/readme": "of an unknown ending",
        "camera/.b.txt": "hidden",
    }
    lost = [problem for problem in found.problems if "skipped" in problem]
    assert len(lost) == 2
    show_inspection(found, as_json=False)
    assert "skipped in the text of camera: camera/.b.txt (hidden)" in capsys.readouterr().out


def test_rows_over_line_ends_are_told_unless_the_stream_says_that_they_are_meant(inspect, folder):
    rows = "".join(f"words {n},{'+-'[n % 2]}\n" for n in range(12))
    (folder / "train.csv").write_text(f'text,label\n"One, two.\nThree, four, five.",+\n{rows}')
    text = (folder / "reviews.toml").read_text()
    for dialect, count in (("", 2), (', dialect = { quoting = "double" }', 0)):
        changed = text.replace('train = "train.jsonl"\n', 'train = "train.csv"\n' + dialect.removeprefix(", ") + "\n")
        changed = changed.replace('train = "train.jsonl", ', f'train = "train.csv"{dialect}, ')
        changed = changed.replace('validation = "train.jsonl"', 'validation = "train.csv"').replace(
            "test.jsonl", "test.csv"
        )
        (folder / "test.csv").write_text("text,label\nnew,+\nnewer,-\n")
        (folder / "reviews.toml").write_text(changed)
        told = [problem for problem in inspect("a blurred picture").problems if "go over line ends" in problem]
        assert len(told) == count
        assert all("train.csv: 1 rows go over line ends in quotes, the first from line 2 on" in each for each in told)


def test_inspection_is_printed_as_tables_or_as_one_json_document(inspect, capsys):
    found = inspect(f"see {LONG}", test=[(LONG, "+"), ("bad 1", "-")])
    show_inspection(found, as_json=False)
    shown = capsys.readouterr().out
    assert "text of camera" in shown
    assert "1 test texts of camera are inside the text of camera: 'of all the lenses" in shown
    show_inspection(found, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["texts"][2]["leaked"] == {"phone": 1, "camera": 1}
    assert list(record["problems"]) == list(found.problems)
