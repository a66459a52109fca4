"""How much memory packing a large text takes: `python tests/speed/measure_packing.py [MEGABYTES]`. Not part of the tests.

Writes made-up text into a temporary folder, packs it with a subword tokenizer in a process of its own, and prints the peak
of that process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

STREAM = """
kind = "domain"
summary = "one large text"
[[domains]]
name = "large"
text = { source = "files", path = "large.txt" }
task = { source = "files", train = "task.jsonl" }
[pretrain]
tokens = 1
"""
PACK = """
import resource, sys
from pathlib import Path
from ctbench.data.stream import load_stream
from ctbench.data.tokens import Blocks, corpus
from ctbench.backbone.tiny import build_tokenizer
folder = Path(sys.argv[1])
stream = load_stream(folder / "large.toml", registered=False)
with (folder / "large.txt").open() as file:
    tokenizer = build_tokenizer(line for line, _ in zip(file, range(5000)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = corpus(stream, stream.domains[0], tokenizer=tokenizer, cache=folder / "cache")
blocks = Blocks(found.train, 128)
blocks[__import__("numpy").arange(0, len(blocks), max(1, len(blocks) // 64))]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{found.train.num_tokens:,} tokens; {before / 1024:.0f} MiB before packing, {peak / 1024:.0f} MiB at the peak")
"""


def write_text(path: Path, size: int) -> None:
    """Write `size` bytes of lines of Zipf-like made-up words."""
    import numpy as np

    generator = np.random.default_rng(0)
    words = np.array(["".join(generator.choice(list("abcdefghijklmnopqrst"), 2 + n % 9)) for n in range(30_000)])
    with path.open("w") as file:
        while file.tell() < size:
            places = np.minimum(generator.zipf(1.3, 40_000), len(words)) - 1
            file.writelines(" ".join(words[row]) + "\n" for row in places.reshape(-1, 100))


def main() -> None:
    """Measure and print."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "large.txt", megabytes * 1_000_000)
        (folder / "large.toml").write_text(STREAM)
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", PACK, name], capture_output=True, text=True, check=True)
        print(f"{megabytes} MB of text in {time.perf_counter() - started:.0f} s: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
