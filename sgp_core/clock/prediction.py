"""What a step will cost: its time, how much of it is computation, and what passes the busiest link."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgp_core.clock.clock import VirtualClock
from sgp_core.clock.computation import ComputationModel
from sgp_core.clock.network import NetworkModel
from sgp_core.clock.traffic import Traffic


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
    """Return what a step costs in the mean of the first ``steps``.

    Raises:
        ConfigurationError: the traffic is that of another number of workers, or the network does not fit it.
    """
    clock = VirtualClock(network, computation, traffic, workers, seed)
    if traffic.one_sided is None:
        for step in range(steps):
            times = clock.advance(step)
        step_s = float(times.mean()) / steps
        done = steps * workers
    else:
        done = steps * workers
        for _ in range(done):
            clock.next_turn()
        step_s = clock.now * workers / done
    meter = clock.meter
    compute_s = float(meter.computed.mean()) / steps
    load = meter.link_bytes / steps
    busy = load / clock.wiring.capacity
    busiest = int(np.argmax(busy)) if busy.any() else int(np.argmax(load))
    return Prediction(
        step_s,
        compute_s,
        min(1.0, compute_s / step_s) if step_s else 1.0,
        float(load[busiest]),
        float(meter.sent.mean()) / steps,
        clock.wiring.names[busiest] if load[busiest] else "",
    )
