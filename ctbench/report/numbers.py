"""How numbers look: scores in percent with one decimal, differences in points with their sign, missing ones as a dash."""

from __future__ import annotations

import math

from ctbench.metrics import METRICS

DASH = "–"
"""What stands where a number is missing; never a 0."""


def is_missing(value: float | None) -> bool:
    """Tell whether there is no number."""
    return value is None or math.isnan(value)


def percent(value: float | None) -> str:
    """Return a score in percent with one decimal, or a dash.

    Example:
        >>> percent(0.9456), percent(None)
        ('94.6', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text


def points(value: float | None) -> str:
    """Return a difference of scores in points, with its sign, or a dash.

    Example:
        >>> points(0.012), points(-0.0301), points(0.0)
        ('+1.2', '-3.0', '0.0')
    """
    text = percent(value)
    return text if text in (DASH, "0.0") or text.startswith("-") else f"+{text}"


def metric_number(name: str, value: float | None) -> str:
    """Return the value of metric `name` as tables show it: in percent, with a sign where more is a gain.

    Example:
        >>> metric_number("BWT", 0.05), metric_number("forgetting", 0.05), metric_number("F_Acc", 0.05)
        ('+5.0', '5.0', '5.0')
    """
    is_gain = name in METRICS and METRICS[name].is_difference and METRICS[name].better == "higher"
    return points(value) if is_gain else percent(value)


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """Return limits in brackets, or a dash.

    Example:
        >>> interval(0.012, 0.034), interval(math.nan, math.nan)
        ('[1.2, 3.4]', '–')
    """
    show = points if signed else percent
    return DASH if is_missing(low) or is_missing(high) else f"[{show(low)}, {show(high)}]"


def loss(value: float | None) -> str:
    """Return a loss with three decimals, or a dash."""
    return DASH if value is None or math.isnan(value) else f"{value:.3f}"


def count(value: float | None) -> str:
    """Return a count in thousands (k), millions (M) or billions (G), or a dash.

    Example:
        >>> count(1_280_000), count(999_999), count(0)
        ('1.28M', '1M', '0')
    """
    if value is None or math.isnan(value):
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def size(value: float | None) -> str:
    """Return a number of bytes, or a dash.

    Example:
        >>> size(613_000_000)
        '613 MB'
    """
    if value is None or math.isnan(value):
        return DASH
    text = count(value)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def seconds(value: float | None) -> str:
    """Return a duration, or a dash.

    Example:
        >>> seconds(6.04), seconds(75), seconds(7260)
        ('6.0 s', '1 min 15 s', '2 h 1 min')
    """
    if value is None or math.isnan(value):
        return DASH
    whole = round(value)
    if value < 59.95:
        return f"{value:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cost(name: str, value: float | None) -> str:
    """Return a cost as its name asks for: a duration, a number of bytes, or a count.

    Example:
        >>> cost("cpu_seconds", 6.04), cost("stored_bytes", 128_000), cost("tokens", 1_280_000)
        ('6.0 s', '128 kB', '1.28M')
    """
    show = seconds if name.endswith("seconds") else size if name.endswith("bytes") else count
    return show(value)


def p_value(value: float | None) -> str:
    """Return a p-value with the digits that matter, or a dash.

    Example:
        >>> p_value(0.03125), p_value(0.00001)
        ('0.031', '< 0.001')
    """
    if value is None or math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
