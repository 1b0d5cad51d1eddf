"""Makes rows of metrics for the trackers, and keeps the best and the latest evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sgp_core.tasks.kinds import TaskKind
from sgp_core.tracking import Row, Tracker
from sgp_core.training.gossiping import GossipingWorkers
from sgp_core.training.meter import Meter, row
from sgp_core.training.peers import Peers
from sgp_core.training.utilisation import Utilisation
from sgp_core.training.virtual.workers import VirtualWorkers

OnProgress = Callable[[dict[str, Any]], None]


class Reporter:
    """The rows of one worker, for its trackers. Those of rank 0 are the run's.

    Training rows hold this worker's averages since the previous row; validation rows hold the scores, and timings
    averaged since the previous evaluation. Workers exchange numbers only where a method says that it is collective.
    """

    def __init__(
        self,
        gossip: GossipingWorkers,
        optimizer: torch.optim.Optimizer,
        peers: Peers,
        kind: TaskKind,
        trackers: Sequence[Tracker],
        on_progress: OnProgress | None,
        steps_per_epoch: int,
        total_steps: int,
        utilisation: Utilisation | None = None,
    ) -> None:
        self._gossip = gossip
        self._optimizer = optimizer
        self._peers = peers
        self._kind = kind
        self._trackers = trackers
        self._on_progress = on_progress
        self._steps_per_epoch = steps_per_epoch
        self._utilisation = utilisation
        self._totals = {"total_steps": total_steps, "total_epochs": total_steps / steps_per_epoch}
        self._window, self._since_evaluation = Meter(), Meter()
        self._counted = (0, 0)
        """Number and sum of the ages that the meters have."""
        self._sent = 0
        """Bytes that the meters have."""
        self._earlier_seconds, self._started = 0.0, time.perf_counter()
        self.best: Row | None = None
        self.latest: Row | None = None

    def start(self, step: int) -> None:
        """Training continues after ``step``: trackers drop later rows, and the clock starts."""
        self._started = time.perf_counter()
        self._counted = (self._gossip.staleness.count, self._gossip.staleness.steps)
        self._sent = self._gossip.bytes_sent
        for tracker in self._trackers:
            tracker.resume(step)

    def seconds(self) -> float:
        """Return seconds of training so far, those before an interruption included."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def count(self, **measured: Any) -> None:
        """Count one step; see :meth:`Meter.add`."""
        before, self._sent = self._sent, self._gossip.bytes_sent
        for meter in (self._window, self._since_evaluation):
            meter.add(**measured, sent=self._sent - before)
        if self._gossip.asynchronous:
            seen, staleness = self._counted, self._gossip.staleness
            self._counted = (staleness.count, staleness.steps)
            ages = (staleness.count - seen[0], staleness.steps - seen[1], staleness.take_recent_most())
            self._window.ages.add(*ages)
            self._since_evaluation.ages.add(*ages)

    def mean_loss(self) -> float:
        """Return this worker's mean loss since the last training row."""
        return self._window.averages(1)["loss"] or 0.0

    def training(self, step: int, measure_distance: bool) -> None:
        """Log a training row. Collective if ``measure_distance``; else the push-sum weight is this worker's."""
        weights, distance = [self._gossip.push_sum_weight], None
        if measure_distance:
            weights = self._peers.weights(self._gossip)
            distance = self._gossip.consensus_distance()
        staleness = self._staleness(self._window, of_all=measure_distance)
        self._log(step, "train", self._window, {}, weights, distance, staleness)
        self._window.reset()

    def evaluation(self, step: int, scores: dict[str, float]) -> bool:
        """Log a validation row, and return whether it is the best so far. Collective."""
        weights = self._peers.weights(self._gossip)
        distance = self._gossip.consensus_distance()
        staleness = self._staleness(self._since_evaluation, of_all=True)
        found = {"loss": None, **scores}
        self.latest = self._log(step, "val", self._since_evaluation, found, weights, distance, staleness)
        self._since_evaluation.reset()
        score, best = self._kind.rank(self.latest), self._kind.rank(self.best)
        improved = score is not None and (best is None or score > best)
        if improved:
            self.best = self.latest
        return improved

    def score_at(self, step: int) -> float | None:
        """Return the rank of ``step``, higher is better, if it was the step evaluated last."""
        return self._kind.rank(self.latest) if self.latest and self.latest["step"] == step else None

    def state(self) -> dict[str, Any]:
        """Return what makes rows after a resume those of an uninterrupted run."""
        return {
            "window": self._window.state(),
            "since_evaluation": self._since_evaluation.state(),
            "best": self.best,
            "latest": self.latest,
            "seconds": self.seconds(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self._window.load(state["window"])
        self._since_evaluation.load(state["since_evaluation"])
        self.best, self.latest, self._earlier_seconds = state["best"], state["latest"], state["seconds"]

    def _averages(self, meter: Meter) -> dict[str, float | None]:
        averages = meter.averages(self._peers.world_size, self._kind.unit)
        if self._utilisation is not None:
            devices = 1 if isinstance(self._gossip, VirtualWorkers) else self._peers.world_size
            averages["mfu"] = self._utilisation(averages["samples_per_s"], devices)
        return averages

    def _staleness(self, meter: Meter, *, of_all: bool) -> dict[str, float | None]:
        """Return the staleness of this worker, or (a collective) of all; nothing for algorithms that have none."""
        if not self._gossip.asynchronous:
            return {}
        count, steps, most = float(meter.ages.count), float(meter.ages.steps), meter.ages.most
        largest = -math.inf if most is None else float(most)
        if of_all:
            count, steps = self._peers.sum([count, steps])
            largest = max(self._peers.gather(largest))
        if not count:
            return {"staleness_mean": None, "staleness_max": None}
        return {"staleness_mean": steps / count, "staleness_max": largest}

    def _log(
        self,
        step: int,
        split: str,
        meter: Meter,
        scores: Mapping[str, float | None],
        weights: list[float],
        distance: float | None,
        staleness: dict[str, float | None],
    ) -> Row:
        line = row(
            step=step,
            epoch=step / self._steps_per_epoch,
            split=split,
            wall_time_s=self.seconds(),
            virtual_time_s=self._gossip.virtual_time_s if isinstance(self._gossip, VirtualWorkers) else None,
            lr=self._optimizer.param_groups[0]["lr"],
            measured={**self._averages(meter), **scores},
            bytes_sent=self._gossip.bytes_sent,
            peak_step_bytes=meter.peak_bytes,
            consensus_distance=distance,
            push_sum_weights=weights,
            world_size=self._peers.world_size,
            staleness=staleness,
        )
        for tracker in self._trackers:
            tracker.log(line)
        if self._on_progress is not None:
            self._on_progress({**line, **self._totals})
        return line
