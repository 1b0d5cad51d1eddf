"""Local SGD: independent steps, an exact average of the models now and then.

Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits, average_exactly
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError


@ALGORITHMS.register("local_sgd")
@dataclass(frozen=True)
class LocalSGD(Algorithm):
    """Every ``period`` steps (H in the paper) ``x_i <- mean_j x_j``; silence in between. Period 0 never averages.

    Under an outer that averages every ``tau`` steps itself, ``period=0`` leaves the block purely local; a divisor of
    ``tau`` averages within the block, too.
    """

    traits: ClassVar[Traits] = Traits(gossips=False)

    period: int = 12

    def __post_init__(self) -> None:
        if self.period < 0:
            raise ConfigurationError(
                f"algorithm 'local_sgd': period must be 0 (never) or more steps, not {self.period}"
            )

    def receive(self, worker: Worker) -> None:
        if self.period and (worker.step + 1) % self.period == 0:
            average_exactly(worker)
