"""How long a step of an experiment computes: by one worker alone, by all at once, and while messages travel."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from sgp_core.calibration.exchanges import begin_exchange
from sgp_core.gossip import Gossip
from sgp_core.tasks.base import Batch
from sgp_core.training.assembly import assemble
from sgp_core.training.config import NOTHING, Experiment
from sgp_core.training.peers import Peers
from sgp_core.training.step import TrainingStep

_WARM_UP, _LEAST, _MOST = 2, 5, 40
_LARGEST_MESSAGE = 1 << 26
_FULLY_BUSY = 1.5
"""Times a step that a message takes which travels all the time of the step."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a step's computation, forward, backward and optimizer, in the median.

    Attributes:
        alone: on rank 0 while the others are idle.
        together: on the mean worker while all compute.
        busy: likewise, while a message travels between each and another; None with a single worker.
    """

    alone: float
    together: float
    busy: float | None


def measure_computation(
    experiment: Experiment, peers: Peers, device: torch.device, bytes_per_s: float | None, budget_s: float
) -> StepTimes:
    """Return how long the steps of ``experiment`` compute. Collective: all workers call it.

    Args:
        bytes_per_s: what a worker sends a second while all send; None with a single worker.
        budget_s: how long it may take, about.

    Raises:
        ConfigurationError: the experiment cannot be assembled, for example because its data are not there.
    """
    step = _prepare(experiment, peers, device)
    for _ in range(_WARM_UP):
        step()
    together = _mean(peers, _time(peers, step, peers.world_size, budget_s / 2))
    alone = _time(peers, step, 1, budget_s / 4)
    alone = peers.broadcast(alone)
    busy = None
    if bytes_per_s is not None and peers.world_size > 1:
        size = int(min(_LARGEST_MESSAGE, max(4096.0, _FULLY_BUSY * together * bytes_per_s)))
        busy = _mean(peers, _time_while_sending(peers, step, size, device))
    return StepTimes(alone, together, busy)


def _prepare(experiment: Experiment, peers: Peers, device: torch.device) -> Callable[[], object]:
    """Return a function that takes a step of the experiment without communication."""
    local = dataclasses.replace(
        experiment,
        algorithm={"name": "local_sgd", "period": 0},
        topology={"name": "one_peer_exponential"},
        outer={"name": NOTHING},
        pace={"name": "every"},
        compression={"name": NOTHING},
        callbacks=[],
        node_size=1,
    )
    parts = assemble(local, device, peers)
    training, task = experiment.training, parts.task
    indices = parts.sampler.indices(0)[: _WARM_UP + _MOST]
    assert isinstance(parts.gossip, Gossip), "the workers are processes"
    criterion = parts.chosen.loss or partial(task.loss, smoothing=training.label_smoothing)
    take = TrainingStep(parts.model, parts.optimizer, parts.gossip, criterion, training)
    batches = [task.batch(chosen).to(device, channels_last=training.channels_last) for chosen in indices[:4]]
    for group in parts.optimizer.param_groups:
        group["lr"] = 0.0  # the loss is not to run away while time is taken
    turn = [0]

    def step() -> None:
        batch: Batch = batches[turn[0] % len(batches)]
        turn[0] += 1
        take(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _time(peers: Peers, step: Callable[[], object], workers: int, budget_s: float) -> float:
    """Return the median seconds of a step on this worker while the first ``workers`` compute, all others being idle."""
    computes = peers.rank < workers
    once = max(peers.gather(_once(step) if computes else 0.0))
    count = max(_LEAST, min(_MOST, int(budget_s / max(once, 1e-6))))
    peers.sum([0.0])
    taken = [_once(step) for _ in range(count)] if computes else [0.0]
    peers.sum([0.0])
    return statistics.median(taken)


def _time_while_sending(peers: Peers, step: Callable[[], object], size: int, device: torch.device) -> float:
    n, rank = peers.world_size, peers.rank
    mine, inbox = (torch.zeros(size // 4, device=device) for _ in range(2))
    taken = []
    for _ in range(_LEAST):
        peers.sum([0.0])
        works = begin_exchange(mine, (rank + 1) % n, inbox, (rank - 1) % n)
        taken.append(_once(step))
        for work in works:
            work.wait()
    return statistics.median(taken)


def _once(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _mean(peers: Peers, value: float) -> float:
    return peers.sum([value])[0] / peers.world_size
