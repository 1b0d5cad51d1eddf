"""Numbers as people read them, on terminals and in reports."""

from __future__ import annotations

from sgp_core.metrics import Metric, NumberFormat


def format_value(metric: Metric, value: float) -> str:
    """Return a value of ``metric`` as people read it."""
    return _FORMATS[metric.format](value)


def format_std(metric: Metric, std: float, mean: float) -> str:
    """Return a standard deviation of ``metric`` with as many decimals as its mean has, or two digits if it is small."""
    digits = decimals(mean)
    if metric.format is not NumberFormat.plain:
        return format_value(metric, std)
    return f"{std:.{digits}f}" if std >= 10**-digits or std == 0 else scientific(std)


def format_sample(metric: Metric, mean: float, std: float | None, count: int) -> str:
    """Return a mean over seeds, such as ``0.9090 ± 0.0007 std of 2 seeds``; of one run just the value."""
    if std is None:
        return format_value(metric, mean)
    return f"{format_value(metric, mean)} ± {format_std(metric, std, mean)} std of {count} seeds"


def plain(value: float) -> str:
    """Return four decimals for a value below 10, two for one below 1000, else scientific notation."""
    return f"{value:.{decimals(value)}f}" if 1e-3 <= abs(value) < 1e3 or value == 0 else scientific(value)


def decimals(value: float) -> int:
    """Return how many decimals :func:`plain` writes: four for scores from 0 to 1, two for scores from 0 to 100."""
    return 4 if abs(value) < 10 else 2


def scientific(value: float) -> str:
    """Return two significant digits and an exponent, such as ``6.1e-3``."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def whole(value: float) -> str:
    """Return a whole number with commas between thousands."""
    return f"{value:,.0f}"


def milliseconds(value: float) -> str:
    """Return three significant digits, without the unit."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else whole(value)


def size(value: float) -> str:
    """Return a number of bytes in decimal units, such as ``14.8 MB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours, such as ``2 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


_FORMATS = {
    NumberFormat.plain: plain,
    NumberFormat.scientific: scientific,
    NumberFormat.whole: whole,
    NumberFormat.milliseconds: milliseconds,
    NumberFormat.seconds: duration,
    NumberFormat.bytes: size,
}
