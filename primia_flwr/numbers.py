"""Numbers as people read them: few digits, a true minus sign, a dash where there is none."""

from typing import Any, Protocol

DASH = "\N{EN DASH}"
_TO, BRACKETS = "{} ({} to {})", "{} [{}, {}]"


class Limited(Protocol):
    """A value with the limits of its interval."""

    @property
    def value(self) -> float | None:
        """The value, None where it is not defined."""

    @property
    def low(self) -> float | None:
        """The lower limit, None where there is no interval."""

    @property
    def high(self) -> float | None:
        """The upper limit."""


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with some digits after the point."""
    if value is None or value != value:
        return DASH
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval(found: Limited | None, form: str = _TO) -> str:
    """Return a value with its limits, `0.912 (0.890 to 0.931)`, or alone where it has none."""
    if found is None or found.value is None or found.low is None or found.high is None:
        return figure(found.value if found else None)
    return form.format(figure(found.value), figure(found.low), figure(found.high))


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals, or as smaller than 0.001."""
    return "< 0.001" if p is not None and p < 0.001 else figure(p)


def scientific(value: float | None) -> str:
    """Return a small number with three digits."""
    return DASH if value is None else f"{value:.2e}"


def shown(value: Any) -> str:
    """Return a setting with as many digits as one reads."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def count(value: Any) -> str:
    """Return a whole number in groups of three digits."""
    return DASH if value is None else f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(value: float) -> str:
    """Return a number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: Any) -> str:
    """Return seconds in the two largest units that are not 0; nothing where they are not known."""
    if seconds is None:
        return ""
    if float(seconds) < 60:
        return f"{float(seconds):.1f} s"
    minutes, rest = divmod(round(float(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
