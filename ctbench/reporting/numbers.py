"""Format numbers: scores in percent with one decimal, differences in points with a sign, missing numbers as a dash."""

from __future__ import annotations

import math
from typing import Final

from ctbench.results.metrics import Metric

DASH = "–"
"""Text of a missing number, which is never shown as 0."""

SCORES: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "accuracy_norm": "accuracy per character",
    "pearson": "Pearson's r",
    "spearman": "Spearman's r",
    "exact_match": "exact match",
    "span_f1": "span F1",
    "token_f1": "F1 of words",
}
"""Names of the scores of end tasks."""


def is_missing(value: float | None) -> bool:
    """Return whether a number is None or NaN."""
    return value is None or math.isnan(value)


def percent(value: float | None) -> str:
    """Return a score in percent with one decimal, or a dash.

    Examples:
        >>> percent(0.9456), percent(None)
        ('94.6', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text


def points(value: float | None) -> str:
    """Return a difference of scores in points, with its sign, or a dash.

    Examples:
        >>> points(0.012), points(-0.0301), points(0.0)
        ('+1.2', '-3.0', '0.0')
    """
    text = percent(value)
    return text if text in (DASH, "0.0") or text.startswith("-") else f"+{text}"


def metric_number(metric: Metric, value: float | None) -> str:
    """Return a value of a metric in percent, points or nats, with a sign if the metric is a gain.

    Examples:
        >>> from ctbench.results.metrics import get_metric
        >>> [metric_number(get_metric(name), 0.05) for name in ("BWT", "forgetting", "F_Acc")]
        ['+5.0', '5.0', '5.0']
    """
    return amount(value, is_loss=metric.is_loss, signed=metric.is_difference and metric.better == "higher")


def amount(value: float | None, *, is_loss: bool = False, signed: bool = False) -> str:
    """Return a score in percent or a loss in nats, or a dash.

    Examples:
        >>> amount(0.05), amount(0.05, is_loss=True, signed=True)
        ('5.0', '+0.050')
    """
    text = loss(value) if is_loss else percent(value)
    is_plus = signed and value is not None and value > 0 and text.strip("0.") != ""
    return f"+{text}" if is_plus else text


def interval(low: float | None, high: float | None, *, is_loss: bool = False, signed: bool = False) -> str:
    """Return limits in brackets, or a dash.

    Examples:
        >>> interval(0.012, 0.034), interval(math.nan, math.nan)
        ('[1.2, 3.4]', '–')
    """
    if is_missing(low) or is_missing(high):
        return DASH
    return f"[{amount(low, is_loss=is_loss, signed=signed)}, {amount(high, is_loss=is_loss, signed=signed)}]"


def loss(value: float | None) -> str:
    """Return a loss with three decimals, or a dash."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def count(value: float | None) -> str:
    """Return a count in thousands (k), millions (M), billions (G), 1e12 (T), 1e15 (P) or 1e18 (E), or a dash.

    Examples:
        >>> count(1_280_000), count(999_999), count(0), count(3.1e12)
        ('1.28M', '1M', '0', '3.1T')
    """
    if value is None or math.isnan(value):
        return DASH
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def size(value: float | None) -> str:
    """Return a number of bytes, or a dash.

    Examples:
        >>> size(613_000_000)
        '613 MB'
    """
    if value is None or math.isnan(value):
        return DASH
    text = count(value)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def seconds(value: float | None) -> str:
    """Return a duration, or a dash.

    Examples:
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


def rough_duration(value: float) -> str:
    """Return a duration that is only estimated, with one or two significant digits.

    Examples:
        >>> rough_duration(0.4), rough_duration(47), rough_duration(130), rough_duration(8000), rough_duration(400_000)
        ('1 s', '47 s', '2 min', '2 h 10 min', '4.6 days')
    """
    if value < 60:
        return f"{max(1, round(value))} s"
    if value < 3600:
        return f"{round(value / 60)} min"
    minutes = 10 * round(value / 600)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{value / 86400:.1f} days"


def cost(name: str, value: float | None) -> str:
    """Return a cost by its name: a duration, a number of bytes, or a count.

    Examples:
        >>> cost("cpu_seconds", 6.04), cost("stored_bytes", 128_000), cost("tokens", 1_280_000)
        ('6.0 s', '128 kB', '1.28M')
    """
    show = seconds if name.endswith("seconds") else size if name.endswith("bytes") else count
    return show(value)


def p_value(value: float | None) -> str:
    """Return a p-value with two significant digits, or a dash.

    Examples:
        >>> p_value(0.03125), p_value(0.00001)
        ('0.031', '< 0.001')
    """
    if value is None or math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
