"""A schedule over topologies: such as two peers until epoch 30, then one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION
from sgp_core.topology.base import TOPOLOGIES, Edges, MatrixTopology, Topology


class ScheduleUnit(str, Enum):
    """What ``start`` counts."""

    epoch = "epoch"
    step = "step"


def _hybrid() -> list[dict[str, Any]]:
    return [
        {"start": 0, "name": "one_peer_exponential", "peers": 2},
        {"start": 30, "name": "one_peer_exponential", "peers": 1},
    ]


@TOPOLOGIES.register("schedule")
@dataclass(frozen=True)
class TopologySchedule(MatrixTopology):
    """Each phase is a topology (``name`` and its options) from its ``start`` until the next phase's.

    A phase begins with the first graph of its topology. The default is the hybrid of Assran et al. (ICML 2019).
    """

    phases: list[dict[str, Any]] = field(default_factory=_hybrid)
    unit: ScheduleUnit = ScheduleUnit.epoch
    steps_per_epoch: int | None = field(default=None, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("unit", ScheduleUnit)
        if self.steps_per_epoch is not None:
            self._check_whole("steps_per_epoch", at_least=1)
        starts = [start for start, _ in self._parts]
        if starts[0] != 0:
            raise self._refuse(f"must have its first phase start at 0, not {starts[0]}")
        for number, (earlier, later) in enumerate(pairwise(starts), start=1):
            if later <= earlier:
                raise self._refuse(f"has phase {number} start at {later}, not after {earlier} of the phase before")

    @cached_property
    def _parts(self) -> list[tuple[int, Topology]]:
        if not self.phases:
            raise self._refuse("needs at least one phase, such as {start: 0, name: ring}")
        parts = []
        for number, phase in enumerate(self.phases):
            if not isinstance(phase, Mapping):
                raise self._refuse(f"phase {number} must be a mapping such as {{start: 0, name: ring}}, not {phase!r}")
            options = dict(phase)
            start, name = options.pop("start", None), options.pop("name", None)
            if not isinstance(start, int) or isinstance(start, bool) or start < 0:
                raise self._refuse(f"needs a whole number as the start of phase {number}, not {start!r}")
            if not isinstance(name, str):
                raise self._refuse(f"needs the name of a topology in phase {number}, not {name!r}")
            if name == self.name:
                raise self._refuse(f"cannot hold another schedule (phase {number}); list all phases in one")
            try:
                parts.append((start, TOPOLOGIES.build(name, world_size=self.world_size, **options)))
            except ConfigurationError as error:
                raise self._refuse(f"phase {number}: {error}") from None
        return parts

    @property
    def topologies(self) -> tuple[Topology, ...]:
        """The topology of each phase."""
        return tuple(topology for _, topology in self._parts)

    @property
    def period(self) -> int | None:
        """That of the only phase; None if there are several: the last one goes on for ever."""
        return self._parts[0][1].period if len(self._parts) == 1 else None

    def phase(self, step: int) -> tuple[int, int]:
        """Return the number of the phase in force at ``step``, from 0, and the step at which it began.

        Raises:
            ConfigurationError: phases start at epochs and ``steps_per_epoch`` was not given.
        """
        if len(self._parts) == 1:
            return 0, 0
        scale = 1
        if self.unit is ScheduleUnit.epoch:
            if self.steps_per_epoch is None:
                raise self._refuse("counts epochs and needs steps_per_epoch; pass it to build_topology, or unit=step")
            scale = self.steps_per_epoch
        starts = [start * scale for start, _ in self._parts]
        number = max(number for number, start in enumerate(starts) if start <= step)
        return number, starts[number]

    def at(self, step: int) -> tuple[Topology, int]:
        """Return the topology in force at ``step`` and the step counted from the start of its phase.

        Raises:
            ConfigurationError: as :meth:`phase`.
        """
        number, start = self.phase(step)
        return self._parts[number][1], step - start

    def content(self) -> str | None:
        """Return the hashes of the phases that have one."""
        return " ".join(content for topology in self.topologies if (content := topology.content())) or None

    def mixing_matrix(self, step: int) -> np.ndarray:
        topology, local = self.at(step)
        return topology.mixing_matrix(local)

    def edges(self, step: int) -> Edges:
        topology, local = self.at(step)  # the phase's own memory serves: its graphs repeat, the schedule's do not
        return topology.edges(local)

    @property
    def is_doubly_stochastic(self) -> bool:
        return all(topology.is_doubly_stochastic for topology in self.topologies)
