"""What a pace is: what communication follows each step. The same on every worker, whatever it decides on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sgp_core.errors import ConfigurationError
from sgp_core.registry import Registry
from sgp_core.topology.base import Topology

PACES: Registry[Pace] = Registry("pace", "sgp_core.pacing")

Numbers = dict[str, float]
"""What a pace remembers between steps; saved and restored with the rest of the state."""


@dataclass(frozen=True)
class Plan:
    """What follows one step.

    Attributes:
        rounds: of gossip.
        denser: whether they use the denser of the pace's two topologies.
        average: whether all workers average exactly instead.
        accelerate: whether the rounds are combined by the Chebyshev recurrence.
    """

    rounds: int = 0
    denser: bool = False
    average: bool = False
    accelerate: bool = False


@dataclass(frozen=True)
class Pace(ABC):
    """How often workers gossip. Fields are its options; what it remembers lives in ``numbers``.

    Stable extension point.
    """

    warmup_steps: int = 0
    """First steps in which all workers average exactly instead of gossiping."""

    @property
    def measure_every(self) -> int:
        """Steps between the moments whose consensus distance :meth:`observe` is told, if not longer; 0: never."""
        return 0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise self.refuse(f"warmup_steps must be 0 or more, not {self.warmup_steps}")

    def plan(self, step: int, numbers: Numbers) -> Plan:
        """Return what follows the optimizer's step number ``step``, from 0."""
        return Plan(average=True) if step < self.warmup_steps else self.after(step, numbers)

    @abstractmethod
    def after(self, step: int, numbers: Numbers) -> Plan:
        """Return what follows a step once the warm-up is over."""

    def observe(self, distance: float, numbers: Numbers) -> None:
        """Take note of the relative consensus distance some rounds ago, the same number on every worker."""

    @property
    def needs_exact_rounds(self) -> bool:
        """Whether rounds that mix approximately, as those of codecs do, would not do."""
        return False

    def check(self, topology: Topology) -> None:
        """Refuse a topology on which the pace is not defined.

        Raises:
            ConfigurationError: with the reason and what would be right.
        """
        return

    def denser_than(self, topology: Topology) -> Topology | None:
        """Return what plans with ``denser`` use in place of ``topology``; None if no plan asks for it.

        Raises:
            ConfigurationError: there is no such topology.
        """
        return None

    def refuse(self, reason: str) -> ConfigurationError:
        """Return (to be raised) the error that says ``reason`` and names this pace."""
        return ConfigurationError(f"pace '{PACES.name_of(type(self))}': {reason}")
