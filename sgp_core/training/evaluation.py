"""How good the model is on the validation set: the workers' average, or each worker's own replica."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgp_core.gossip import Gossip
from sgp_core.tasks.datasets import Examples
from sgp_core.training.config import EvaluatedModel, EvaluationConfig, TrainingConfig
from sgp_core.training.peers import Peers
from sgp_core.training.step import autocast, placed


class Evaluator:
    """Scores the model on the validation set. Collective; the model, its mode and its buffers are left untouched."""

    def __init__(
        self,
        model: nn.Module,
        gossip: Gossip,
        examples: Examples,
        peers: Peers,
        device: torch.device,
        evaluation: EvaluationConfig,
        training: TrainingConfig,
    ) -> None:
        self._model = model
        self._gossip = gossip
        self._examples = examples
        self._peers = peers
        self._device = device
        self._evaluation = evaluation
        self._training = training

    def __call__(self) -> dict[str, float]:
        """Return the scores, the same on every worker.

        ``loss``, ``accuracy`` and ``top5_accuracy`` are those of the averaged model; ``accuracy_local_mean``,
        ``_min``, ``_max`` and ``loss_local_mean`` those of the replicas, over workers.
        """
        scores: dict[str, float] = {}
        if self._evaluation.model is not EvaluatedModel.local:
            scores |= self._averaged()
        if self._evaluation.model is not EvaluatedModel.averaged:
            scores |= self._local()
        return scores

    def _averaged(self) -> dict[str, float]:
        """Each worker scores its share of the examples: the model is the same everywhere."""
        share = torch.arange(self._peers.rank, len(self._examples), self._peers.world_size)
        with self._gossip.averaged():
            loss, correct, in_top5 = self._peers.sum(self._sums(share))
        count = len(self._examples)
        return {"loss": loss / count, "accuracy": correct / count, "top5_accuracy": in_top5 / count}

    def _local(self) -> dict[str, float]:
        """Each worker scores all examples, so that the spread is one of models, not of examples."""
        loss, correct, _ = self._sums(torch.arange(len(self._examples)))
        accuracies = [found / len(self._examples) for found in self._peers.gather(correct)]
        return {
            "loss_local_mean": sum(self._peers.gather(loss)) / len(self._examples) / self._peers.world_size,
            "accuracy_local_mean": sum(accuracies) / len(accuracies),
            "accuracy_local_min": min(accuracies),
            "accuracy_local_max": max(accuracies),
        }

    @torch.no_grad()
    def _sums(self, indices: Tensor) -> list[float]:
        """Return summed loss, number of correct and number of top-5 correct predictions over ``indices``."""
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        was_training = self._model.training
        self._model.eval()
        for some in indices.split(self._evaluation.batch_size) if len(indices) else ():
            inputs, targets = self._examples.batch(some)
            inputs, targets = placed(inputs, self._device, self._training), targets.to(self._device)
            with self._autocast():
                logits = self._model(inputs)
            logits = logits.float()
            top = logits.topk(min(5, logits.shape[1]), dim=1).indices.eq(targets[:, None])
            sums[0] += cross_entropy(logits, targets, reduction="sum")
            sums[1] += top[:, 0].sum()
            sums[2] += top.sum()
        self._model.train(was_training)
        return [float(value) for value in sums.tolist()]

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._device, self._training.precision)
