"""What a pace is: how many rounds of gossip follow each step. The same on every worker, whatever it decides on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sgp_core.errors import ConfigurationError
from sgp_core.registry import Registry

PACES: Registry[Pace] = Registry("pace", "sgp_core.pacing")

Numbers = dict[str, float]
"""What a pace remembers between steps; saved and restored with the rest of the state."""


@dataclass(frozen=True)
class Pace(ABC):
    """How often workers gossip. Fields are its options; what it remembers lives in ``numbers``."""

    warmup_steps: int = 0
    """First steps in which all workers average exactly instead of gossiping."""

    @property
    def measure_every(self) -> int:
        """Steps between the moments whose consensus distance :meth:`observe` is told, if not longer; 0: never."""
        return 0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise self.refuse(f"warmup_steps must be 0 or more, not {self.warmup_steps}")

    @abstractmethod
    def rounds(self, step: int, numbers: Numbers) -> int:
        """Return how many rounds of gossip follow the optimizer's step number ``step``, from 0."""

    def observe(self, distance: float, numbers: Numbers) -> None:
        """Learn the relative consensus distance some rounds ago; every worker is told the same number."""

    def refuse(self, reason: str) -> ConfigurationError:
        """Return (to be raised) the error that says ``reason`` and names this pace."""
        return ConfigurationError(f"pace '{PACES.name_of(type(self))}': {reason}")
