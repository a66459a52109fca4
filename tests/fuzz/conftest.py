"""Property-based tests: few cases as part of all tests, thousands with `--hypothesis-profile=fuzz` (`make fuzz`)."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile(
    "few", max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)
settings.register_profile("fuzz", settings.get_profile("few"), max_examples=2_000, derandomize=False, print_blob=True)
settings.load_profile("few")

sys.path.insert(0, str(Path(__file__).parent))


def pytest_terminal_summary(terminalreporter):
    """Print the figures of `make fuzz`: cases, tracebacks, hangs and partial files by kind."""
    from mutations import COUNTS

    if not COUNTS or settings.get_current_profile_name() != "fuzz":
        return
    columns = ("cases", "tracebacks", "hangs", "partial files")
    width = max(map(len, COUNTS))
    terminalreporter.write_line(f"{'kind':{width}}  {'  '.join(columns)}")
    for name, counts in COUNTS.items():
        numbers = "  ".join(f"{counts[column]:>{len(column)}}" for column in columns)
        terminalreporter.write_line(f"{name:{width}}  {numbers}")
