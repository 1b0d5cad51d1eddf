"""Several rounds of gossip in a row, each as it is or as parts of one filter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sgp_core.errors import did_you_mean
from sgp_core.pacing.base import PACES, Numbers, Pace, Plan
from sgp_core.topology.base import Topology
from sgp_core.topology.chebyshev import check_symmetric


class Filter(str, Enum):
    """What ``rounds`` rounds do together."""

    plain = "plain"
    """Each mixes what the one before has made."""
    chebyshev = "chebyshev"
    """They are combined to the polynomial of the mixing matrix that leaves least: for symmetric graphs that never
    change."""


@PACES.register("rounds")
@dataclass(frozen=True)
class Rounds(Pace):
    """``rounds`` rounds of gossip after every ``steps`` steps; with ``filter=chebyshev`` accelerated.

    See :mod:`sgp_core.topology.chebyshev`. It costs two more vectors in memory, and no more messages.
    """

    rounds: int = 4
    steps: int = 1
    filter: Filter = Filter.plain

    def __post_init__(self) -> None:
        super().__post_init__()
        words = [str(one.value) for one in Filter]
        if self.filter not in words:
            raise self.refuse(f"no filter '{self.filter}'{did_you_mean(str(self.filter), words)}")
        object.__setattr__(self, "filter", Filter(self.filter))
        for name in ("rounds", "steps"):
            if getattr(self, name) < 1:
                raise self.refuse(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def needs_exact_rounds(self) -> bool:
        return self.filter is Filter.chebyshev

    def after(self, step: int, numbers: Numbers) -> Plan:
        if (step + 1) % self.steps:
            return Plan()
        return Plan(self.rounds, accelerate=self.filter is Filter.chebyshev and self.rounds > 1)

    def check(self, topology: Topology) -> None:
        if self.filter is Filter.chebyshev:
            check_symmetric(topology, "pace 'rounds' with filter=chebyshev")
