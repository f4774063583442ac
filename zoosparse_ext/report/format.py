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
    """A number in its unit: all but plain numbers are shares, of which 0.01 is a point.

    >>> measured(0.786, "share"), measured(0.012, "difference"), measured(0.9, "")
    ('78.6 %', '+1.2', '0.90')
    """
    shown = {"share": percent, "spread": spread, "difference": points}
    return shown.get(unit, number)(value)


def with_unit(value: float, unit: str) -> str:
    """The same, with "points" where the unit is not in the number.

    >>> with_unit(0.012, "difference"), with_unit(float("nan"), "difference")
    ('+1.2 points', '–')
    """
    text = measured(value, unit)
    return f"{text} points" if unit in ("spread", "difference") and text != DASH else text


def sort_key(value: float) -> str:
    """A number as JavaScript reads it, to sort by; nothing for NaN.

    >>> sort_key(0.5), sort_key(-math.inf), sort_key(math.nan)
    ('0.5', '-Infinity', '')
    """
    return "" if math.isnan(value) else repr(float(value)).replace("inf", "Infinity")


def interval(low: float, high: float, unit: str) -> str:
    """An interval in its unit; "–" where it is not known.

    >>> interval(-0.004, 0.012, "difference"), interval(0.7, float("nan"), "")
    ('−0.4 … +1.2', '–')
    """
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{measured(low, unit).removesuffix(' %')} … {measured(high, unit)}"


def capital(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def plural(count: float, noun: str) -> str:
    """ "1 model", "12 models"."""
    return f"{integer(count)} {noun}{'' if count == 1 else 's'}"
