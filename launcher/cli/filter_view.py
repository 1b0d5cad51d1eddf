"""A topology as a graph filter, in text: its eigenvalues, and what k rounds leave of each component as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sgp_core.topology import Topology
    from sgp_core.topology.spectrum import Spectrum

ROUNDS = (1, 4, 16, 64)
"""Rounds, or periods, after which the response is shown."""

_BARS = "▁▂▃▄▅▆▇█"
_MOST_VALUES, _MOST_BARS = 6, 32
_NOTHING = 1e-6
"""When so little is left of all components, later rounds are not worth a line."""


def describe_filter(topology: Topology) -> Iterator[tuple[str, str]]:
    """Return the spectrum and the response in words and bars, each with its title; nothing without a period."""
    from sgp_core.topology.spectrum import spectrum

    found = spectrum(topology)
    if found is None or topology.world_size == 1:
        return
    yield "eigenvalues", _values(found)
    what = "round" if found.period == 1 else "period"
    for count in ROUNDS:
        response = found.response(count)
        accelerated = found.accelerated(count)
        shown = f"{_bars(response)} {response[1:].max():.2g}"
        if accelerated is not None and count > 1:
            shown += f"; Chebyshev {_bars(accelerated)} {accelerated[1:].max():.2g}"
        yield f"left after {count} {what}{'s' * (count > 1)}", shown
        if response[1:].max() < _NOTHING:
            return


def filter_as_data(topology: Topology) -> dict[str, Any] | None:
    """Return the spectrum and the response as plain data; None without a period."""
    from sgp_core.topology.spectrum import left_after, spectrum

    found = spectrum(topology)
    if found is None:
        return None
    accelerated = {count: found.accelerated(count) for count in ROUNDS}
    return {
        "eigenvalues": [[value.real, value.imag] for value in found.eigenvalues.tolist()],
        "left_after_rounds": dict(zip(ROUNDS, left_after(topology, ROUNDS), strict=True)),
        "left_after_rounds_chebyshev": {
            count: float(values[1:].max(initial=0.0)) for count, values in accelerated.items() if values is not None
        },
    }


def _values(found: Spectrum) -> str:
    distinct = found.distinct()
    shown = [_value(value) + (f" x{count}" if count > 1 else "") for value, count in distinct[:_MOST_VALUES]]
    more = len(distinct) - _MOST_VALUES
    return ", ".join(shown) + (f", {more} more" if more > 0 else "")


def _value(value: complex) -> str:
    real = f"{round(value.real, 3) + 0.0:.3f}".rstrip("0").rstrip(".")  # adding 0 makes 0 of -0
    return real if abs(value.imag) < 5e-4 else f"{real} ± {value.imag:.3f}i"


def _bars(response: Sequence[float] | np.ndarray) -> str:
    """Return one bar a component, the mean first and full; of many, the largest of some neighbours."""
    parts = np.array_split(np.asarray(response), min(len(response), _MOST_BARS))
    return "".join(_BARS[min(int(part.max() * len(_BARS)), len(_BARS) - 1)] for part in parts)
