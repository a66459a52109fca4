"""Make the bases that are shipped with the embedded streams: `make bases`, or python tests/bases.py [STREAM MODEL].

On another kind of processor the last bits differ; whoever makes them anew says so in the changelog, under Numbers.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

EMBEDDED = ("domain", "temporal")
SHIPPED = ("tiny", "tiny-causal")
"""Models whose bases are shipped; those of other widths are computed where they are asked for."""
FILES = ("backbone.json", "config.json", "tokenizer.json", "weights.safetensors")


def make_base(stream: str, model: str, target: Path) -> None:
    """Compute the base of a stream's default recipe and write it into an empty folder, with what it says of itself."""
    from ctbench.engine.bases import describe_shipped, made_base
    from ctbench.engine.compute import Executor
    from ctbench.engine.identity import Arithmetic
    from ctbench.engine.node import Lookup
    from ctbench.engine.records import StoredBase
    from ctbench.engine.store import Store
    from ctbench.machine.precision import resolve_precision
    from ctbench.machine.provenance import provenance
    from ctbench.plugins.find import get_stream

    found = get_stream(stream)
    assert found.recipe.base is not None
    lookup = Lookup(stream=stream, recipe=found.recipe.name, settings={}, order=0, model=model, online=False)
    node = made_base(found, Arithmetic(precision=resolve_precision(found.recipe.base.precision)), lookup)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store")
        Executor(store, Path(scratch) / "corpora").compute(node.spec())
        record = store.read(node.key)
        assert isinstance(record, StoredBase)
        for name in FILES:
            shutil.copyfile(store.folder(node.key) / name, target / name)
    made_with = {name: provenance()[name] for name in ("torch", "transformers", "platform", "processor")}
    describe_shipped(target, found, model, {"weights_digest": record.weights_digest, **made_with})


def main(wanted: list[str]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # shipped bases are made by a processor
    from ctbench.engine.bases import shipped_folder
    from ctbench.plugins.find import get_stream

    pairs = [(wanted[0], wanted[1])] if wanted else [(stream, model) for stream in EMBEDDED for model in SHIPPED]
    for stream, model in pairs:
        folder = shipped_folder(get_stream(stream), model)
        assert folder is not None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make_base(stream, model, folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder.parent.name}/{folder.name}: {size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
