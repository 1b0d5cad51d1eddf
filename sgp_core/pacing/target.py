"""Gossip as often as it takes to hold the workers at a given distance from each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgp_core.pacing.base import PACES, Numbers, Pace, Plan


@PACES.register("target")
@dataclass(frozen=True)
class Target(Pace):
    """Hold the relative consensus distance at ``distance`` by more or fewer rounds of gossip per step.

    The rate, rounds per step, is a number between 1 / ``most_silent`` and ``most_rounds``; its fraction is carried from
    step to step. Estimates of the distance, one in ``every`` steps, move it by ``(measured / distance) ** gain``, by
    at most ``2 ** gain`` either way: too far apart, gossip more; closer than needed, save messages. Kong et al.,
    "Consensus Control for Decentralized Deep Learning", ICML 2021, show how close is close enough for training.
    """

    distance: float = 0.01
    most_rounds: int = 4
    most_silent: int = 256
    gain: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("distance", "gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise self.refuse(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("most_rounds", "most_silent", "every"):
            if getattr(self, name) < 1:
                raise self.refuse(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def measure_every(self) -> int:
        return self.every

    def after(self, step: int, numbers: Numbers) -> Plan:
        due = numbers.get("due", 0.0) + numbers.get("rate", 1.0)
        numbers["due"] = due - math.floor(due)
        return Plan(math.floor(due))

    def observe(self, distance: float, numbers: Numbers) -> None:
        off = min(max(distance / self.distance, 0.5), 2.0)
        rate = numbers.get("rate", 1.0) * off**self.gain
        numbers["rate"] = min(max(rate, 1.0 / self.most_silent), float(self.most_rounds))
