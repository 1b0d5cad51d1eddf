"""Gossip as usual, and do more about it while workers are farther apart than they should be."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.pacing.base import PACES, Numbers, Pace, Plan
from sgp_core.topology.base import TOPOLOGIES, Topology


class Action(str, Enum):
    """What is done about it."""

    average = "average"
    """All workers average exactly, once for every estimate that is too large."""
    round = "round"
    """One round of gossip more after every step."""
    peers = "peers"
    """Rounds use a denser graph."""


@PACES.register("threshold")
@dataclass(frozen=True)
class Threshold(Pace):
    """A round after every ``steps`` steps; ``action`` when the estimated distance is above ``distance``.

    More rounds, or more peers, last until an estimate is below ``calm * distance``, so that estimates near the
    threshold do not switch them on and off. With ``steps=0`` workers are silent until they are too far apart: with
    exact averages that is the dynamic averaging of Kamp et al., "Communication-Efficient Distributed Online Prediction
    by Dynamic Model Synchronization", ECML PKDD 2014, with an estimate in place of its local conditions.

    Args:
        denser: a topology, its ``name`` and options; None for the run's own with one more peer.
    """

    distance: float = 0.02
    action: Action = Action.round
    calm: float = 0.5
    every: int = 10
    steps: int = 1
    denser: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        words = [str(action.value) for action in Action]
        if self.action not in words:
            raise self.refuse(f"no action '{self.action}'{did_you_mean(str(self.action), words)}")
        object.__setattr__(self, "action", Action(self.action))
        if not 0 < self.distance < math.inf:
            raise self.refuse(f"distance must be positive, not {self.distance}")
        if not 0 < self.calm <= 1:
            raise self.refuse(f"calm must be above 0 and at most 1, a share of distance, not {self.calm}")
        if self.every < 1:
            raise self.refuse(f"every must be at least 1, not {self.every}")
        if self.steps < 0 or (self.steps == 0 and self.action is Action.peers):
            raise self.refuse(f"steps must be at least {int(self.action is Action.peers)}, not {self.steps}")
        if self.denser is not None and self.action is not Action.peers:
            raise self.refuse("denser is for action=peers")

    @property
    def measure_every(self) -> int:
        return self.every

    def after(self, step: int, numbers: Numbers) -> Plan:
        rounds = int(self.steps > 0 and (step + 1) % self.steps == 0)
        if not numbers.get("far"):
            return Plan(rounds)
        if self.action is Action.average:
            numbers["far"] = 0.0
            return Plan(average=True)
        return Plan(rounds + 1) if self.action is Action.round else Plan(rounds, denser=True)

    def observe(self, distance: float, numbers: Numbers) -> None:
        enough = self.calm if numbers.get("far") else 1.0
        numbers["far"] = float(distance > enough * self.distance)

    def denser_than(self, topology: Topology) -> Topology | None:
        if self.action is not Action.peers:
            return None
        if self.denser is None:
            if not hasattr(topology, "peers"):
                raise self.refuse(
                    f"topology '{topology.name}' has no number of peers to raise; name a denser one, such as"
                    " denser={name: exponential}"
                )
            return dataclasses.replace(topology, **{"peers": topology.peers + 1})
        options = dict(self.denser)
        name = options.pop("name", None)
        if not isinstance(name, str) or name == "schedule":
            raise self.refuse(f"denser must name a topology, such as {{name: exponential}}, not {self.denser}")
        try:
            return TOPOLOGIES.build(name, world_size=topology.world_size, **options)
        except ConfigurationError as error:
            raise self.refuse(f"denser: {error}") from None
