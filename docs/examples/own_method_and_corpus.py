"""Add a method and a corpus of your own: write both, check them, run them beside `naive`, compare.

    python own_method_and_corpus.py FOLDER

Everything is written into FOLDER: the method, the corpus with its stream, the results and a table. It takes a few minutes on
two cores.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import ctbench

METHOD = '''\
"""Anchor: stay near the weights of the LM before the stage.

    L = L_lm(theta; x) + weight * |theta - theta_before|^2
"""

from ctbench import Batch, Method, Stage, hyper
from torch import Tensor


class Anchor(Method):
    """The weights of the stage before hold the new ones back."""

    weight: float = hyper(0.1, low=0.0)
    """Weight of the distance; 0 is naive."""

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        before = dict(stage.teacher.named_parameters())
        distances = [(now - before[name]).square().sum() for name, now in stage.backbone.trainable()]
        return super().loss(stage, batch) | {"anchor": self.weight * sum(distances)}
'''

STREAM = """\
name = "shops"
version = 1
kind = "domain"
summary = "Made-up reviews of two shops"
root = "shops-data"
general = { source = "files", path = "general.txt" }

[[domains]]
name = "coffee"
text = { source = "files", path = "coffee.txt" }
task = { source = "files", train = "coffee.train.jsonl", test = "coffee.test.jsonl" }

[[domains]]
name = "bicycles"
text = { source = "files", path = "bicycles.txt" }
task = { source = "files", train = "bicycles.train.jsonl", test = "bicycles.test.jsonl" }

[base] # how the small LM `tiny` is pre-trained on general.txt, once for all methods
tokens = 60_000
batch = 16
length = 32
lr = 2e-3

[pretrain] # a stage
tokens = 20_000
batch = 16
length = 32
lr = 1e-3

[finetune] # a cell
epochs = 4
lr = 1e-3
seeds = [0]
"""

WORDS = {
    "coffee": {
        "good": ["creamy", "fresh", "mellow"],
        "bad": ["burnt", "stale", "bitter"],
        "things": ["cup", "bean", "milk"],
    },
    "bicycles": {
        "good": ["light", "sturdy", "quick"],
        "bad": ["rusty", "wobbly", "loose"],
        "things": ["wheel", "chain", "saddle"],
    },
}
"""What the reviews of each shop are made of."""


def review(words: Mapping[str, list[str]], mood: str, draw: random.Random) -> str:
    """Return a made-up review."""
    first, second = draw.sample(words["things"], 2)
    return f"the {first} was {draw.choice(words[mood])} and the {second} felt {draw.choice(words[mood])} to us"


def write_corpus(folder: Path) -> Path:
    """Write the texts, the labelled examples and the stream; return the path of the stream."""
    data, draw = folder / "shops-data", random.Random(0)
    data.mkdir(parents=True, exist_ok=True)
    general = []
    for name, words in WORDS.items():
        reviews = [review(words, draw.choice(["good", "bad"]), draw) for _ in range(800)]
        write_lines(data / f"{name}.txt", reviews)
        general += [" ".join(draw.sample(text.split(), 8)) for text in reviews]  # the same words without their order
        for split, count in (("train", 60), ("test", 100)):
            moods = [("good", "bad")[number % 2] for number in range(count)]
            examples = [{"text": review(words, mood, draw), "label": mood} for mood in moods]
            write_lines(data / f"{name}.{split}.jsonl", map(json.dumps, examples))
    write_lines(data / "general.txt", general)
    path = folder / "shops.toml"
    path.write_text(STREAM, encoding="utf-8")
    return path


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines into a file."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(folder: Path) -> None:
    """Write, check, run and compare."""
    stream = write_corpus(folder)
    method = folder / "anchor.py"
    method.write_text(METHOD, encoding="utf-8")

    inspection = ctbench.check(stream)  # sizes, labels, leaks; `ctbench.check(method)` tries the laws of methods
    print(f"{inspection!r}", *inspection.problems, sep="\n- ")

    results = folder / "results"
    for each in ("naive", method):
        ctbench.run(method=each, stream=stream, seed="0..1", results=results, progress=False)
    # Runs of files of your own are marked as not comparable: `all` shows them.
    print(ctbench.compare(results, metric=["anytime", "F_Acc"], all=True))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "my-example"))
