"""What each candidate would cost and how far it departs, for every number of workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from launcher.config.clusters import Cluster
from launcher.config.run_plan import RunPlan
from launcher.planning.candidates import Candidate, candidates, complete
from launcher.planning.departure import MOST_SPREAD, changes_of, distance_of
from sgp_core.clock import ComputationModel, NetworkModel, Prediction, gradient_buckets, predict, traffic_of
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.layout import Layout
from sgp_core.training.config import Experiment
from sgp_core.training.experiment import ExperimentParts, build_parts

DDP = "ddp"
"""What torch's DistributedDataParallel is called."""
STEPS = 32
"""Steps that are predicted: all graphs of a period of usual length, several times over."""


@dataclass(frozen=True)
class Question:
    """What a plan is asked for.

    Attributes:
        plan: the experiment as composed.
        network, computation: what steps are predicted from.
        model_bytes, layout: of the model.
        most_spread: the largest spread that counts as close to AllReduce.
    """

    plan: RunPlan
    network: NetworkModel
    computation: ComputationModel
    model_bytes: int
    layout: Layout
    most_spread: float = MOST_SPREAD


@dataclass(frozen=True)
class Evaluated:
    """A candidate with its figures.

    Attributes:
        candidate: what it is.
        workers: how many.
        prediction: of its steps.
        spread: distance of models from their mean, in updates.
        changes: what else departs from AllReduce: ``compressed``, ``outer``, ``asynchronous``.
        most_spread: the largest spread that counts as close.
        remarks: sentences on what the prediction has taken for granted.
    """

    candidate: Candidate
    workers: int
    prediction: Prediction
    spread: float
    changes: tuple[str, ...]
    most_spread: float
    remarks: tuple[str, ...] = field(default=())

    @cached_property
    def departure(self) -> str:
        """``none``, ``close``, or what departs: ``far`` for distant models, and the changes."""
        found = list(self.changes)
        if self.spread > self.most_spread:
            found.insert(0, "far")
        return ", ".join(found) if found else "close" if self.spread > 0 else "none"

    @property
    def is_close(self) -> bool:
        """Whether it learns as AllReduce does as far as can be said beforehand."""
        return self.departure in ("none", "close")

    @property
    def is_allreduce(self) -> bool:
        """Whether it is plain AllReduce, as ``sgp-train`` runs it."""
        chosen = self.candidate.experiment.algorithm["name"]
        return chosen == "allreduce" and not self.changes and not self.candidate.reference


def evaluate(question: Question, workers: int) -> tuple[list[Evaluated], list[str]]:
    """Return the candidates over so many workers, the fastest first, and why others are left out.

    Beside AllReduce there is torch's DDP, which computes the same.

    Raises:
        ConfigurationError: the cluster cannot have so many workers.
    """
    experiment, cluster = scaled(question.plan, workers)
    found, left_out = [], []
    for candidate in candidates(experiment, cluster.step_in_backward):
        try:
            parts = build_parts(candidate.experiment, step_in_backward=candidate.step_in_backward)
        except ConfigurationError as reason:
            left_out.append(f"{candidate.label}: {reason}")
            continue
        found.append(_evaluate(question, candidate, parts, workers))
        if found[-1].is_allreduce:
            ddp = dataclasses.replace(candidate, words=(), own=False, reference=DDP)
            found.append(_evaluate(question, ddp, parts, workers))
    return sorted(found, key=lambda row: row.prediction.step_s), left_out


def scaled(plan: RunPlan, workers: int) -> tuple[Experiment, Cluster]:
    """Return the experiment and the cluster with so many workers: more nodes of the same size if there are nodes.

    Raises:
        ConfigurationError: they do not fill nodes of that size.
    """
    cluster, experiment = plan.cluster, plan.experiment
    if workers == plan.world_size:
        return experiment, cluster
    size = cluster.workers_per_node
    if cluster.nodes == 1 and experiment.node_size == 1:
        cluster = dataclasses.replace(cluster, workers_per_node=workers)
    elif workers % size:
        raise ConfigurationError(
            f"--workers {workers}: nodes have cluster.workers_per_node={size} workers; nearest:"
            f" {max(1, workers // size) * size} or {(workers // size + 1) * size}"
        )
    else:
        cluster = dataclasses.replace(cluster, nodes=workers // size)
    return dataclasses.replace(experiment, world_size=workers), cluster


def cluster_words(before: Cluster, after: Cluster) -> list[str]:
    """Return the words that turn one cluster into the other."""
    return [
        f"cluster.{key}={getattr(after, key)}"
        for key in ("nodes", "workers_per_node")
        if getattr(after, key) != getattr(before, key)
    ]


def _evaluate(question: Question, candidate: Candidate, parts: ExperimentParts, workers: int) -> Evaluated:
    experiment = candidate.experiment
    traffic = traffic_of(
        parts.algorithm,
        parts.topology,
        model_bytes=question.model_bytes,
        pace=parts.pace,
        compression=parts.compression,
        node_size=experiment.node_size,
        step_in_backward=candidate.step_in_backward,
        layout=question.layout,
        buckets=gradient_buckets(question.layout) if candidate.reference == DDP else (),
    )
    prediction = predict(question.network, question.computation, traffic, workers, steps=_steps(experiment))
    return Evaluated(
        candidate,
        workers,
        prediction,
        distance_of(parts),
        tuple(changes_of(parts)),
        question.most_spread,
        traffic.remarks,
    )


def _steps(experiment: Experiment) -> int:
    """Return how many steps to predict: whole periods of what happens now and then."""
    rhythms = (("outer", "tau"), ("algorithm", "period"), ("pace", "steps"))
    cycle = max(int(complete(group, getattr(experiment, group)).get(option) or 1) for group, option in rhythms)
    return cycle * -(-STEPS // cycle)


def closest_first(rows: Sequence[Evaluated]) -> Iterator[Evaluated]:
    """Yield the rows that are close to AllReduce, then the others, each in the order they have."""
    yield from (row for row in rows if row.is_close)
    yield from (row for row in rows if not row.is_close)


def as_data(row: Evaluated) -> dict[str, Any]:
    """Return a row as plain data."""
    return {
        "label": row.candidate.label,
        "words": list(row.candidate.words),
        "workers": row.workers,
        "own": row.candidate.own,
        "reference": bool(row.candidate.reference),
        **dataclasses.asdict(row.prediction),
        "spread": row.spread,
        "departure": row.departure,
        "remarks": list(row.remarks),
    }
