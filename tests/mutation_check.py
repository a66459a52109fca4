"""Take one guard of ctbench out at a time and see that a test fails: `python tests/mutation_check.py` (make mutations).

Each guard is cut out of a copy of the code, and the tests that are named for it run on that copy. They must pass on the
code as it is and fail without the guard.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
COPIED: Final = ("ctbench", "methods", "benchmarks", "tests", "pyproject.toml")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A guard to take out.

    Args:
        name: of the guard.
        file: where it stands.
        old: the text that is replaced, which stands there once; `new`: by what.
        test: the test that must fail then, as FILE::NAME.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS: Final = (
    Mutation(
        name="fsync of a file",
        file="ctbench/machine/files.py",
        old="            file.flush()\n            os.fsync(file.fileno())\n",
        new="            file.flush()\n",
        test="tests/machine/test_files.py::test_data_is_flushed_before_the_rename",
    ),
    Mutation(
        name="fsync of a folder's files",
        file="ctbench/machine/files.py",
        old="        flush_tree(scratch)\n",
        new="",
        test="tests/machine/test_files.py::test_a_folder_is_flushed_before_the_rename",
    ),
    Mutation(
        name="rename of a file",
        file="ctbench/machine/files.py",
        old="        scratch.replace(path)\n        flush_folder(path.parent)\n        return True\n",
        new="        path.write_bytes(scratch.read_bytes())\n        return True\n",
        test="tests/machine/test_files.py::test_data_is_flushed_before_the_rename",
    ),
    Mutation(
        name="scratch folder of a node",
        file="ctbench/machine/files.py",
        old="    scratch = scratch_beside(path)\n    scratch.mkdir(parents=True)\n    try:\n        yield scratch\n",
        new="    path.mkdir(parents=True, exist_ok=True)\n    yield path\n    return\n    try:\n",
        test="tests/engine/test_store.py::test_node_appears_whole_or_not_at_all",
    ),
    Mutation(
        name="claim",
        file="ctbench/machine/claims.py",
        old="    while not _create(path, me):\n",
        new="    while not (_create(path, me) or True):\n",
        test="tests/machine/test_claims.py::test_one_of_several_threads_holds_a_claim_at_a_time",
    ),
    Mutation(
        name="owner in the claim when it appears",
        file="ctbench/machine/claims.py",
        old='        (scratch / me.token).write_text(json.dumps(asdict(me)), encoding="utf-8")\n        scratch.rename(path)\n',
        new='        scratch.rename(path)\n        (path / me.token).write_text(json.dumps(asdict(me)), encoding="utf-8")\n',
        test="tests/machine/test_claims.py"
        "::test_a_process_killed_at_any_call_leaves_no_claim_without_owner_and_the_next_one_waits_for_nothing",
    ),
    Mutation(
        name="token of the owner whose claim is removed",
        file="ctbench/machine/claims.py",
        old="            _delete(file)\n    with contextlib.suppress(OSError):\n        path.rmdir()\n",
        new="            _delete(file)\n    shutil.rmtree(path, ignore_errors=True)\n",
        test="tests/machine/test_claims.py"
        "::test_the_claim_of_whoever_came_in_between_is_not_removed_with_the_stale_one",
    ),
    Mutation(
        name="checksum of a file",
        file="ctbench/machine/manifest.py",
        old='    if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:\n',
        new='    if len(data) != entry["bytes"]:\n',
        test="tests/engine/test_store.py::test_a_file_that_is_missing_or_changed_is_found",
    ),
    Mutation(
        name="checksum of a record",
        file="ctbench/machine/manifest.py",
        old='        if digest != _digest(sealed) or not isinstance(sealed["files"], dict):\n',
        new='        if not isinstance(sealed["files"], dict):\n',
        test="tests/engine/test_store.py::test_one_changed_number_in_a_record_is_found",
    ),
    Mutation(
        name="checksum of a corpus",
        file="ctbench/data/tokens.py",
        old="    if not folder.is_dir() or damage_of(folder) is not None:\n",
        new="    if not folder.is_dir():\n",
        test="tests/data/test_tokens.py::test_a_damaged_record_of_a_corpus_is_found",
    ),
    Mutation(
        name="place of the generators in the checkpoint",
        file="ctbench/training/checkpoint.py",
        old="    stage.num_extra = checkpoint.num_extra\n",
        new="",
        test="tests/methods/test_resuming.py::test_a_resumed_stage_reads_on_where_it_was",
    ),
    Mutation(
        name="step of the checkpoint",
        file="ctbench/training/checkpoint.py",
        old="        step=step,\n",
        new="        step=step - 1,\n",
        test="tests/engine/test_run.py::test_resumed_stage_equals_uninterrupted",
    ),
    Mutation(
        name="guard against NaN",
        file="ctbench/training/log.py",
        old="        if not all(math.isfinite(mean) for mean in means.values()):\n",
        new="        if False:\n",
        test="tests/training/test_divergence.py"
        "::test_a_loss_that_is_not_finite_stops_the_stage_and_names_update_term_and_norm",
    ),
)


def passes(folder: Path, *tests: str) -> bool:
    """Return whether tests pass on the copy of the code in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Try every mutation and exit with 1 if one of them is not noticed."""
    unnoticed = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in COPIED:
            whole = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            whole(ROOT / name, folder / name)
        if not passes(folder, *sorted({mutation.test for mutation in MUTATIONS})):
            sys.exit("the named tests fail on the code as it is")
        for mutation in MUTATIONS:
            path = folder / mutation.file
            before = path.read_text(encoding="utf-8")
            path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
            is_noticed = not passes(folder, mutation.test)
            path.write_text(before, encoding="utf-8")
            unnoticed += not is_noticed
            verdict = "noticed by" if is_noticed else "NOT NOTICED by"
            sys.stdout.write(f"without {mutation.name}: {verdict} {mutation.test.rpartition(':')[2]}\n")
            sys.stdout.flush()
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
