"""One run: a contestant, a learning rate, a heterogeneity, a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import sgp_core
from suite.leaderboard.contestants import Contestant
from suite.leaderboard.digits import Workers, accuracies

WEIGHT_DECAY = 1e-4
WARM_UP, DROPS, DROP = 0.05, (0.75, 0.9), 0.1
"""Parts of a run: a linear warm-up, and where the learning rate drops, to what part."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a table share."""

    workers: int = 16
    steps: int = 60
    batch_size: int = 32


def schedule(lr: float, step: int, steps: int) -> float:
    """Return the learning rate of a step."""
    warm = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return lr * warm * DROP ** sum(step >= drop * steps for drop in DROPS)


def run(
    contestant: Contestant, setting: Setting, alpha: float, lr: float, seed: int, split: str = "test"
) -> dict[str, Any]:
    """Train and return the scores on ``split``.

    Returns:
        ``averaged``, the accuracy of the average of all models; ``mean`` and ``worst``, of the workers' own;
        ``consensus_distance`` before the first drop of the learning rate; ``bytes_per_step`` of a worker.
    """
    torch.set_num_threads(1)
    workers = Workers(setting.workers, alpha, setting.batch_size, setting.steps, seed)
    distances: list[float] = []
    look_at = int(DROPS[0] * setting.steps)

    def gradient(z: Tensor, step: int) -> Tensor:
        if step == look_at:
            distances.append(_distance(z))
        return workers.gradient(z, step)

    def optimizer(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr, momentum=contestant.momentum, weight_decay=WEIGHT_DECAY)

    trajectory = sgp_core.simulate(
        contestant.rule(),
        contestant.graph_of(setting.workers),
        workers.initial(),
        gradient,
        optimizer=optimizer,
        steps=setting.steps,
        lr=lambda step: schedule(lr, step, setting.steps),
        seed=seed,
        record_every=setting.steps,
    )
    of_workers = accuracies(trajectory.z[-1], split)
    return {
        "averaged": float(accuracies(trajectory.mean[-1:], split)),
        "mean": float(of_workers.mean()),
        "worst": float(of_workers.min()),
        "consensus_distance": distances[0],
        "bytes_per_step": (trajectory.bytes_sent or 0.0) / setting.steps,
    }


def _distance(z: Tensor) -> float:
    mean = z.mean(0)
    return float((z - mean).square().sum(1).mean().sqrt() / mean.norm())
