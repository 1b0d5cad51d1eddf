"""Numbers as people read them."""

from __future__ import annotations


def plain(value: float) -> str:
    """Four decimals for what is near 1, two for what is near 100, else as few signs as it takes."""
    return f"{value:.{decimals(value)}f}" if 1e-3 <= abs(value) < 1e3 or value == 0 else small(value)


def decimals(value: float) -> int:
    """Return how many :func:`plain` writes: scores between 0 and 1 need four, of 100 points two."""
    return 4 if abs(value) < 10 else 2


def small(value: float) -> str:
    """A quantity that spans many orders of magnitude."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def milliseconds(value: float) -> str:
    """Three significant digits."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
