"""Evaluation on the validation set: of the average over the workers, or of each worker's replica."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sgp_core.errors import PeerLost
from sgp_core.nonfinite import NotFinite
from sgp_core.tasks.base import VALIDATION, Task
from sgp_core.tasks.evaluation_metrics import EvaluationMetric
from sgp_core.tasks.kinds import TaskKind
from sgp_core.training.config import EvaluatedModel, EvaluationConfig, LoaderConfig, TrainingConfig, When
from sgp_core.training.experiment import build_metrics
from sgp_core.training.gossiping import GossipingWorkers
from sgp_core.training.loader import Loader
from sgp_core.training.peers import Peers
from sgp_core.training.step import TrainingDiverged, autocast


class Evaluator:
    """Scores the model on the validation set. Collective; the model, its mode and its buffers are left untouched."""

    def __init__(
        self,
        model: nn.Module,
        gossip: GossipingWorkers,
        kind: TaskKind,
        task: Task,
        peers: Peers,
        device: torch.device,
        evaluation: EvaluationConfig,
        training: TrainingConfig,
        loader: LoaderConfig | None = None,
    ) -> None:
        self._model = model
        self._gossip = gossip
        self._score = kind.score
        self._task = task
        self._peers = peers
        self._device = device
        self._evaluation = evaluation
        self._metrics = build_metrics(evaluation.metrics, kind)
        self._training = training
        self._loader = loader or LoaderConfig()

    def __call__(self, *, last: bool = True) -> dict[str, Any]:
        """Return the scores, the same on every worker; ``last``: training is over.

        Scores of the averaged model have the names of the task's metrics. Those of the replicas are
        ``loss_local_mean`` and, for the score that ranks, ``_local_mean``, ``_local_min`` and ``_local_max``.
        """
        scores: dict[str, Any] = {}
        if self._evaluation.model is not EvaluatedModel.local:
            scores |= self._averaged()
            if last or self._evaluation.generate is When.always:
                scores |= self._generation()
        if self._evaluation.model is not EvaluatedModel.averaged:
            scores |= self._local()
        return scores

    def generation_at_end(self) -> dict[str, Any]:
        """Return the scores that the last evaluation has beside those of the others, when it was not known as such."""
        due = self._evaluation.model is not EvaluatedModel.local and self._evaluation.generate is When.end
        return self._generation() if due else {}

    def _generation(self) -> dict[str, Any]:
        return self._score_generation(VALIDATION) if VALIDATION in self._task.generated_splits else {}

    def tests(self) -> dict[str, dict[str, Any]]:
        """Return the scores of what the averaged model generates for each test split, the same on every worker."""
        return {split: self._score_generation(split) for split in self._task.generated_splits if split != VALIDATION}

    @torch.no_grad()
    def _score_generation(self, split: str) -> dict[str, Any]:
        """Return the scores of what the averaged model generates for a split, each worker for a part of it."""
        if self._evaluation.generate is When.never:
            return {}
        was_training = self._model.training
        self._model.eval()
        with self._gossip.averaged(), autocast(self._device, self._training.precision):
            sums = self._peers.sum_of_parts(lambda part, of: self._task.generate(self._model, split, part, of))
        self._model.train(was_training)
        return self._task.generation_scores(sums)

    def _averaged(self) -> dict[str, float]:
        """Score the averaged model, each worker on its part of the examples."""
        mine: list[float] = []

        def compute(part: int, of: int) -> list[float]:
            mine[:] = sums = self._sums(part, of, self._metrics)
            return sums

        with self._gossip.averaged():
            total = self._peers.sum_of_parts(compute)
        del mine[self._task.statistics_size :]
        own, *others = self._split(total)
        scores = self._task.scores(own)
        self._require_finite(scores["loss"], mine)
        for metric, numbers in zip(self._metrics, others, strict=True):
            scores |= metric.scores(numbers)
        return scores

    def _split(self, sums: list[float]) -> list[list[float]]:
        """Return the sums of the task's statistics, then those of each metric."""
        sizes = [self._task.statistics_size, *(metric.statistics_size for metric in self._metrics)]
        ends = list(itertools.accumulate(sizes))
        return [sums[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def _local(self) -> dict[str, float]:
        """Score every replica on all examples, so that the spread is that of the models, not of the examples."""

        def compute() -> list[float]:
            scores = self._task.scores(self._sums(0, 1))
            return [scores["loss"], scores[self._score]]

        found = self._peers.of_replicas(self._gossip, compute)
        losses, ranks = ([values[number] for values in found] for number in range(2))
        self._require_finite(sum(losses), [losses[self._peers.ranks.index(self._peers.rank)]])
        return {
            "loss_local_mean": sum(losses) / len(losses),
            f"{self._score}_local_mean": sum(ranks) / len(ranks),
            f"{self._score}_local_min": min(ranks),
            f"{self._score}_local_max": max(ranks),
        }

    def _require_finite(self, loss: float, mine: Sequence[float]) -> None:
        """Refuse a loss that is not finite: the same on all workers, of which this one has computed ``mine``.

        Raises:
            NotFinite: with the rank at which it began: that of a model that is not finite, or else of the examples.
            PeerLost: it began in the model of another worker.
        """
        if math.isfinite(loss):
            return
        problem: NotFinite | None = None
        try:
            self._gossip.check_finite()
        except NotFinite as error:
            problem = error
        models = self._peers.gather(float(problem is not None))
        parts = self._peers.gather(float(not all(map(math.isfinite, mine))))
        step, rank = self._gossip.step, self._peers.ranks[([*models, *parts, 1.0].index(1.0)) % len(parts)]
        if problem is not None:
            raise problem
        message = f"validation loss is {loss} after step {step}, as of rank {rank}"
        if any(models):
            raise PeerLost(f"{message}, whose model is not finite", rank=self._peers.rank, peers=[rank], step=step)
        raise TrainingDiverged(message, rank=rank, step=step, tensor="validation loss")

    @torch.no_grad()
    def _sums(self, rank: int, world_size: int, metrics: Sequence[EvaluationMetric] = ()) -> list[float]:
        """Return the summed statistics of the task, and of ``metrics``, over one part of the examples."""
        size = self._task.statistics_size + sum(metric.statistics_size for metric in metrics)
        sums = torch.zeros(size, dtype=torch.float64, device=self._device)
        was_training = self._model.training
        self._model.eval()
        indices = self._task.validation_indices(rank, world_size, self._evaluation.batch_size)
        processes = self._loader.number(self._task.slow)
        with Loader(self._task.validation_batch, indices, processes, self._loader.ahead) as batches:
            for batch in batches:
                placed = batch.to(self._device, channels_last=self._training.channels_last)
                with autocast(self._device, self._training.precision):
                    outputs = self._model(*placed.inputs)
                statistics = [self._task.statistics, *(metric.statistics for metric in metrics)]
                sums += torch.cat([compute(outputs, placed.targets).to(sums) for compute in statistics])
        self._model.train(was_training)
        return [float(value) for value in sums.tolist()]
