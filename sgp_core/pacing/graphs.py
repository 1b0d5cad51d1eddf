"""The graphs that a pace's rounds use: those of the topology's phases, and denser ones if the pace asks for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sgp_core.pacing.base import Pace
from sgp_core.registry import NOT_AN_OPTION
from sgp_core.topology.alternatives import Alternatives
from sgp_core.topology.base import Topology
from sgp_core.topology.schedule import TopologySchedule


@dataclass(frozen=True)
class PacedTopology(Alternatives):
    """A topology as alternatives between which the step decides, for phases of a schedule, and the pace.

    So a phase begins at its step, however many rounds there have been before.
    """

    schedule: TopologySchedule | None = field(default=None, metadata=NOT_AN_OPTION)

    def choice(self, step: int, *, denser: bool = False) -> int:
        """Return which topology's graphs the rounds after ``step`` use."""
        phase, _ = self.schedule.phase(step) if self.schedule else (0, 0)
        return phase + (len(self.schedule.topologies) if self.schedule else 1) * denser

    def each_step(self, step: int) -> int:
        """Return the number of the graph of ``step`` where every step has one round."""
        _, start = self.schedule.phase(step) if self.schedule else (0, 0)
        return self.number(self.choice(step), step - start)


def graphs_of(topology: Topology, pace: Pace | None) -> Topology:
    """Return the topology on which a network runs at ``pace``; as it is without one.

    Raises:
        ConfigurationError: the pace needs another topology, or a denser one beside it and there is none.
    """
    if pace is None:
        return topology
    pace.check(topology)
    schedule = topology if isinstance(topology, TopologySchedule) else None
    phases = schedule.topologies if schedule else (topology,)
    denser = [pace.denser_than(phase) for phase in phases]
    chosen = (*phases, *(more for more in denser if more is not None))
    return PacedTopology(topology.world_size, chosen, schedule)
