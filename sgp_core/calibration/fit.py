"""From timings to a network: what a message costs beside its bytes, and how many bytes pass a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MBIT = 1e6 / 8
_MOST_MISSED = 0.05
"""Relative error at the largest message from which on it decides alone."""


@dataclass(frozen=True)
class Line:
    """``seconds = alpha + bytes / rate``.

    Attributes:
        alpha: seconds of a message without bytes.
        rate: bytes a second; infinite where more bytes take no longer.
    """

    alpha: float
    rate: float

    def seconds(self, nbytes: float) -> float:
        """Return what the line says for a message of so many bytes."""
        return self.alpha + nbytes / self.rate


def fit_line(timings: Sequence[tuple[float, float]]) -> Line:
    """Return the line through timings (bytes, seconds), never negative.

    It has the least squares of relative errors. Where that misses the largest message, as on links that let a burst
    pass before they keep their rate, the two largest decide on the rate, and the smallest on what a message costs
    besides: large messages are what takes time.

    Args:
        timings: in order of bytes.

    Raises:
        ValueError: there are none.
    """
    if not timings:
        raise ValueError("there are no timings")
    sizes, seconds = (np.array(column, dtype=float) for column in zip(*timings, strict=True))
    if len(sizes) == 1:
        return Line(0.0, float(sizes[0] / seconds[0]))
    columns = np.stack([1 / seconds, sizes / seconds], axis=1)
    alpha, beta = np.linalg.lstsq(columns, np.ones(len(sizes)), rcond=None)[0]
    misses = abs(alpha + beta * sizes[-1] - seconds[-1]) > _MOST_MISSED * seconds[-1]
    steep = float((seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2]))
    if (alpha < 0 or misses) and steep > 0:
        alpha, beta = max(0.0, float(seconds[0] - steep * sizes[0])), steep
    elif beta <= 0:
        alpha, beta = float(np.sum(1 / seconds) / np.sum(1 / seconds**2)), 0.0
    return Line(max(0.0, float(alpha)), 1 / float(beta) if beta > 0 else math.inf)


def network_options(
    timings: dict[str, list[tuple[int, float]]],
    workers: int,
    per_host: int,
    cores: int,
    lone_pair: tuple[int, float] | None,
    busy_speed: float,
) -> dict[str, Any]:
    """Return options of :class:`sgp_core.clock.NetworkModel` that give the timings.

    A message takes a delay for the word that its receiver is ready, its bytes, and a delay to arrive; so a delay is
    half of what a message takes without bytes. Rates are those of messages, so the share of headers is in them.

    Args:
        timings: of ``inside``, ``across`` and ``all_reduce``, bytes and seconds each; others do not matter here.
        workers, per_host: how many there are, and on each host.
        cores: of a host.
        lone_pair: bytes and seconds of an exchange between two workers while all others are idle.
        busy_speed: speed of computation while messages travel.
    """
    hosts = workers // per_host
    options: dict[str, Any] = {
        "workers_per_host": per_host if hosts > 1 else 0,
        "payload": 1.0,
        "cores": cores,
        "busy_speed": round(min(1.0, max(busy_speed, 0.01)), 4),
    }
    if timings.get("across"):
        line = fit_line(timings["across"])
        options |= {"bandwidth_mbit": as_mbit(line.rate * per_host), "delay_ms": as_ms(line.alpha / 2)}
    if timings.get("inside"):
        line = fit_line(timings["inside"])
        options |= {"inside_mbit": as_mbit(line.rate * per_host), "inside_delay_ms": as_ms(line.alpha / 2)}
        if lone_pair is not None:
            alone = lone_pair[0] / max(lone_pair[1] - line.alpha, 1e-9)
            options["message_mbit"] = as_mbit(max(alone, line.rate))
    if timings.get("all_reduce") and workers > 1:
        steps = 2 * (workers - 1)
        parts = [(size / workers, seconds / steps) for size, seconds in timings["all_reduce"]]
        whole, message = fit_line(parts), fit_line(timings.get("across") or timings["inside"])
        speed = 1.0 if math.isinf(whole.rate) or math.isinf(message.rate) else whole.rate / message.rate
        options |= {"collective_speed": float(f"{speed:.4g}"), "collective_delay_ms": as_ms(whole.alpha)}
    return options


def as_mbit(rate: float) -> float | None:
    """Return bytes/s in Mbit/s, four digits of it; None for no limit."""
    return None if math.isinf(rate) else float(f"{rate / _MBIT:.4g}")


def as_ms(seconds: float) -> float:
    """Return seconds in ms, four digits of it."""
    return float(f"{seconds * 1e3:.4g}")
