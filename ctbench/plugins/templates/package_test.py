"""The method keeps the laws that all methods of ctbench keep; add tests of what it claims beyond them."""

from ctbench import get_method
from ctbench.laws import check_method


def test_every_law_holds() -> None:
    """All eight, on a tiny encoder and a tiny decoder."""
    broken = [verdict for verdict in check_method(type(get_method("NAME")), name="NAME") if not verdict.holds]
    assert not broken, broken
