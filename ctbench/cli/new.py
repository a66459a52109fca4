"""`ctbench new`: a method or a stream to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.errors import BadConfig, UnknownName


def command(
    what: Annotated[str, typer.Argument(help="method or stream.")],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and underscores.")],
    package: Annotated[
        bool, typer.Option("--package", help="A method as a package of its own, with an entry point and a test.")
    ] = False,
) -> None:
    """Write a method or a stream to start from into the current folder; nothing is overwritten."""
    if what not in ("method", "stream"):
        raise UnknownName("kind of plug-in", what, ("method", "stream"), hint="ctbench new --help")
    if package and what == "stream":
        raise BadConfig("--package is for methods; a stream is one TOML file with its data")
    from ctbench.new import new_method, new_package, new_stream

    if package:
        written = new_package(name, Path())
        following = f"pip install --no-deps -e ./{written[0].parent} && ctbench check {name}"
    else:
        written = new_stream(name, Path()) if what == "stream" else new_method(name, Path())
        run = (
            f"--method ./{written[0]} --stream domain"
            if what == "method"
            else f"--method naive --stream ./{written[0]}"
        )
        following = f"ctbench check ./{written[0]} && ctbench run {run}"
    for path in written:
        print(path)
    print(f"next: {following}", file=sys.stderr)
