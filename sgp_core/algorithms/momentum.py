"""Momentum that a rule has in place of the optimizer's: kept as a displacement, so that no rate divides anything."""

from __future__ import annotations

from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError

RATE = "momentum_lr"
"""Name of the number that remembers at which learning rate the displacement was made."""


def rescaling(worker: Worker) -> float:
    """Return what turns ``lr_k' m``, as it is kept, into ``lr_k m``: ``lr_k / lr_k'``; 0 while the rate is 0.

    Only ratios of rates matter, so parameter groups whose rates share one schedule are all treated exactly.
    """
    return worker.lr / worker.number(RATE, default=worker.lr) if worker.lr > 0.0 else 0.0


def check_share(name: str, option: str, value: float) -> None:
    """Refuse a share that does not lie in [0, 1).

    Raises:
        ConfigurationError: naming the algorithm and its option.
    """
    if not 0.0 <= value < 1.0:
        raise ConfigurationError(f"algorithm '{name}': {option} must lie in [0, 1), not {value}")
