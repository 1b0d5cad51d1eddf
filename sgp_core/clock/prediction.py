"""What a step will cost: its time, how much of it is computation, and what passes the busiest link."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sgp_core.algorithms.base import Algorithm
from sgp_core.clock.acts import Collective
from sgp_core.clock.clock import VirtualClock
from sgp_core.clock.computation import ComputationModel
from sgp_core.clock.follow import Follower
from sgp_core.clock.network import NetworkModel
from sgp_core.clock.traffic import Traffic
from sgp_core.pacing.base import Pace

_BEFORE = 8
"""Steps that are left out: at first nothing is under way."""
_LONGEST = 1024
"""A rhythm that is longer is not looked for."""
_LONG = 256


@dataclass(frozen=True)
class Prediction:
    """A step in the mean.

    Attributes:
        step_s: s from step to step, of the mean worker.
        compute_s: s of it in which a worker computes.
        utilisation: ``compute_s / step_s``.
        busiest_link_bytes: bytes per step on the link that takes longest for what passes it.
        wire_bytes: bytes that a worker sends per step, in the mean.
        busiest_link: the name of that link; empty where nothing is sent.
    """

    step_s: float
    compute_s: float
    utilisation: float
    busiest_link_bytes: float
    wire_bytes: float
    busiest_link: str


def predict(
    network: NetworkModel | None,
    computation: ComputationModel,
    traffic: Traffic,
    workers: int,
    *,
    steps: int = 64,
    seed: int = 0,
) -> Prediction:
    """Return what a step costs in the mean.

    Args:
        steps: over which the mean is taken, after a few that are left out; more, where that makes whole rhythms of the
            rule and the graph.

    Raises:
        ConfigurationError: the traffic is that of another number of workers, or the network does not fit it.
    """
    clock = VirtualClock(network, computation, traffic, workers, seed)
    unit = rhythm(traffic)
    steps = -(-steps // unit) * unit
    _go_on(clock, workers, 0, _BEFORE)
    meter = clock.meter
    began, computed, passed, sent = meter.elapsed, meter.computed.copy(), meter.link_bytes.copy(), meter.sent.copy()
    _go_on(clock, workers, _BEFORE, steps)
    step_s = (meter.elapsed - began) / steps
    compute_s = float((meter.computed - computed).mean()) / steps
    load = (meter.link_bytes - passed) / steps
    busy = load / clock.wiring.capacity
    busiest = int(np.argmax(busy)) if busy.any() else int(np.argmax(load))
    return Prediction(
        step_s,
        compute_s,
        min(1.0, compute_s / step_s) if step_s else 1.0,
        float(load[busiest]),
        float((meter.sent - sent).mean()) / steps,
        clock.wiring.names[busiest] if load[busiest] else "",
    )


def rhythm(traffic: Traffic) -> int:
    """Return after how many steps what a rule does repeats, averages of outers and periods included; 1: none is found.

    It is looked for among the multiples of options that are whole numbers. The graphs' own period is part of it where
    that makes it no longer than some hundred steps.
    """
    found = _rhythm_of_rule(traffic) if traffic.one_sided is None else 1
    together = math.lcm(found, traffic.topology.period or 1)
    return together if together <= max(_LONG, found) else found


def _rhythm_of_rule(traffic: Traffic) -> int:
    longest = min(math.lcm(*_whole_options(traffic.algorithm), *_whole_options(traffic.pace)), _LONGEST)
    follower = Follower(traffic, names_only=True)
    names: dict[str, int] = {}
    kinds = []
    for _ in range(2 * longest + 2 * _BEFORE):
        acts = (f"{type(act).__name__} {act.nbytes if isinstance(act, Collective) else ''}" for act in follower.acts())
        kinds.append(names.setdefault(", ".join(acts), len(names)))
    later = np.array(kinds[longest // 2 + _BEFORE :])  # a warm-up is over by then
    return next((period for period in range(1, longest + 1) if (later[period:] == later[:-period]).all()), 1)


def _whole_options(part: Algorithm | Pace | None) -> Iterator[int]:
    """Yield the options that may be a number of steps, those of an outer's base included."""
    for entry in dataclasses.fields(part) if part is not None else ():
        value = getattr(part, entry.name)
        if isinstance(value, Algorithm):
            yield from _whole_options(value)
        elif isinstance(value, int) and value > 1 and entry.name != "seed":
            yield value


def _go_on(clock: VirtualClock, workers: int, first: int, steps: int) -> None:
    if clock.asynchronous:
        for _ in range(steps * workers):
            clock.next_turn()
    else:
        for step in range(first, first + steps):
            clock.advance(step)
