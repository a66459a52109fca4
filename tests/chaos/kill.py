"""Kill runs over and over and see that nothing is lost and nothing is wrong: `python tests/chaos/kill.py` (make chaos).

Every method is killed at random instants and at random calls to the file system, in one process and in workers, and then
completed; six processes compute into one store and are killed. What is left must equal, bit for bit, what an undisturbed
run leaves. Controls are broken on purpose and must be noticed by the same comparison.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # a process with threads cannot be forked
os.environ.update(CTBENCH_CALIBRATION="off", NO_COLOR="1", TOKENIZERS_PARALLELISM="false")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "helpers")]

from attacks import HEAD, Ground, Row, kill_method, kill_stages, kill_workers, stress  # noqa: E402  # found only now
from controls import CONTROLS, kill_result  # noqa: E402


def tell(row: Row) -> None:
    """Print a row, and what is wrong in it."""
    print(row, flush=True)
    for name in ("different", "left", "odd"):
        for line in getattr(row, name)[:5]:
            print(f"    {name}: {line}", flush=True)


def main() -> None:
    """Kill, print the table, and exit with 1 if anything was lost or wrong, or a control was not noticed."""
    from ctbench.plugins.find import find_plugins

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=8, help="of each method, in one process")
    parser.add_argument("--methods", default=",".join(sorted(find_plugins("method"))))
    parser.add_argument("--parts", default="methods,workers,stress,controls")
    given = parser.parse_args()
    methods, parts = given.methods.split(","), given.parts.split(",")
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        tell(row)

    with tempfile.TemporaryDirectory() as made:
        ground = Ground(Path(made), given.seed)
        print(HEAD, flush=True)
        for method in methods if "methods" in parts else ():
            add(kill_method(ground, method, given.kills))
        if "methods" in parts:
            add(kill_result(ground, None))
        for method in methods if "workers" in parts else ():
            add(kill_workers(ground, method))
        if "stress" in parts:
            add(stress(ground, [*methods[:3] * 2, *methods][:6], 4 * given.kills))
        if "short" in parts:
            add(kill_stages(ground, methods[0], given.kills))
            if not rows[0].num_resumed:
                rows[0].odd.append("no stage resumed from a checkpoint inside it")
        unnoticed = [name for name, control in CONTROLS.items() if "controls" in parts and not noticed(control(ground))]
    total = sum(sum(row.instants.values()) for row in rows)
    print(f"{total} kills, {sum(row.num_resumed for row in rows)} stages resumed from a checkpoint inside them")
    print("".join(f"NOT NOTICED: {name}\n" for name in unnoticed), end="")
    sys.exit(1 if unnoticed or not all(row.is_clean for row in rows) else 0)


def noticed(row: Row) -> bool:
    """Print the row of a control and return whether the comparison noticed it."""
    tell(row)
    return not row.is_clean


if __name__ == "__main__":
    main()
