"""Numbers as people read them: fractions become percent, changes become points."""

from __future__ import annotations

import math

MINUS, DASH = "−", "–"


def number(value: float, digits: int = 2) -> str:
    """A number with a proper minus sign; "–" for NaN.

    >>> number(-0.126), number(float("nan")), number(float("inf"))
    ('−0.13', '–', '∞')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.removeprefix("-")


def percent(value: float, digits: int = 1) -> str:
    """A share as percent.

    >>> percent(0.7864), percent(float("nan"))
    ('78.6 %', '–')
    """
    return f"{text} %" if (text := number(100 * value, digits)) not in (DASH, "∞", f"{MINUS}∞") else text


def points(value: float, digits: int = 1) -> str:
    """A difference of two shares, in points, with its sign.

    >>> points(0.012), points(-0.0349), points(0.0)
    ('+1.2', '−3.5', '0.0')
    """
    text = number(100 * value, digits)
    return f"+{text}" if value > 0 and text[0].isdigit() and float(text) else text


def spread(value: float) -> str:
    """A standard deviation of shares, in points.

    >>> spread(0.0123)
    '1.23'
    """
    return number(100 * value)


def p_value(value: float) -> str:
    """A p-value; how small a small one is says little.

    >>> p_value(0.0312), p_value(1e-9), p_value(float("nan"))
    ('0.031', '< 0.001', '–')
    """
    return "< 0.001" if value < 0.001 else number(value, 3)


def integer(value: float) -> str:
    """A count with thin separators.

    >>> integer(2416), integer(float("nan"))
    ('2,416', '–')
    """
    return DASH if value is None or math.isnan(value) else f"{int(value):,}"


def measured(value: float, unit: str) -> str:
    """A claim's number in its unit; a crossover that lies outside of the data in words.

    >>> measured(0.786, "share"), measured(-math.inf, "share")
    ('78.6 %', 'VD leads at every sparsity')
    """
    if unit == "share" and math.isinf(value):
        return "VD does not lead in the end" if value > 0 else "VD leads at every sparsity"
    shown = {"share": percent, "spread": spread, "difference": points}
    return shown.get(unit, number)(value)


def sort_key(value: float) -> str:
    """A number as JavaScript reads it, to sort by; nothing for NaN.

    >>> sort_key(0.5), sort_key(-math.inf), sort_key(math.nan)
    ('0.5', '-Infinity', '')
    """
    return "" if math.isnan(value) else repr(float(value)).replace("inf", "Infinity")


def interval(low: float, high: float, unit: str) -> str:
    """ "−0.4 … +1.2"; "–" where there is none.

    >>> interval(-math.inf, 0.75, "share"), interval(-math.inf, -math.inf, "share")
    ('below 75.0 %', 'the whole interval')
    """
    if math.isnan(low) or math.isnan(high):
        return DASH
    if math.isinf(low) and math.isinf(high):
        return "the whole interval" if low == high else "undetermined"
    if math.isinf(low):
        return f"below {measured(high, unit)}"
    if math.isinf(high):
        return f"above {measured(low, unit)}"
    return f"{measured(low, unit)} … {measured(high, unit)}"


def capital(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def plural(count: float, noun: str) -> str:
    """ "1 model", "12 models"."""
    return f"{integer(count)} {noun}{'' if count == 1 else 's'}"
