"""From the names and options of an experiment to checked objects, without data or torch.

The launcher asks before it submits anything, every worker asks before it trains; so both refuse the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sgp_core.algorithms import Algorithm, build_algorithm, build_outer
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec, build_compression
from sgp_core.errors import ConfigurationError
from sgp_core.metrics import Metric
from sgp_core.pacing import PACES, Pace
from sgp_core.registry import Registry
from sgp_core.tasks.datasets import DATASETS, Dataset
from sgp_core.tasks.evaluation_metrics import METRICS, EvaluationMetric
from sgp_core.tasks.kinds import TASKS, TaskKind, check_task, task_kind_of
from sgp_core.tasks.losses import LOSSES, Loss
from sgp_core.tasks.models import MODELS, Model
from sgp_core.tasks.partitions import PARTITIONS, Partition, check_labels
from sgp_core.topology import Topology, build_topology
from sgp_core.training.callbacks import CALLBACKS, Callback
from sgp_core.training.config import NOTHING, Experiment, choice
from sgp_core.training.optimizers import OPTIMIZERS, OptimizerOptions
from sgp_core.training.schedules import SCHEDULES, LearningRateSchedule

T = TypeVar("T")


@dataclass(frozen=True)
class ExperimentParts:
    """The checked choices of an experiment; they go together."""

    kind: TaskKind
    model: Model
    dataset: Dataset
    partition: Partition
    loss: Loss | None
    """None: the task's own."""
    topology: Topology
    """Over the gossip nodes. One that counts epochs does not know their length yet; see :meth:`topology_of`."""
    algorithm: Algorithm
    """The algorithm inside its outer optimizer."""
    pace: Pace
    compression: Codec | None
    optimizer: OptimizerOptions
    schedule: LearningRateSchedule
    callbacks: tuple[Callback, ...]

    def topology_of(self, steps_per_epoch: int) -> Topology:
        """Return the topology for epochs of ``steps_per_epoch`` optimizer steps."""
        return build_topology(self.topology, steps_per_epoch=steps_per_epoch)


def build_parts(experiment: Experiment, *, step_in_backward: bool = False, elastic: bool = False) -> ExperimentParts:
    """Return the parts of an experiment. No data are read: see :meth:`Dataset.check` and :meth:`Dataset.load`.

    Args:
        step_in_backward: whether the optimizer's steps are to be taken inside backward.
        elastic: whether workers may die and come while training goes on.

    Raises:
        ConfigurationError: a choice is unknown, refuses its options, or does not go with another.
    """
    dataset = _build(DATASETS, experiment.dataset)
    model = _build(MODELS, experiment.model)
    check_task(model, dataset)
    dataset.check_training(experiment.training.changed_options())
    partition = _build(PARTITIONS, experiment.partition)
    check_labels(partition, dataset)
    topology_name, topology_options = choice(experiment.topology)
    algorithm_name, algorithm_options = choice(experiment.algorithm)
    outer, outer_options = choice(experiment.outer)
    codec, codec_options = choice(experiment.compression)
    optimizer = _build(OPTIMIZERS, experiment.optimizer)
    parts = ExperimentParts(
        kind=TASKS.get(dataset.task)(),
        model=model,
        dataset=dataset,
        partition=partition,
        loss=_build_loss(experiment, dataset),
        topology=build_topology(topology_name, experiment.nodes, **topology_options),
        algorithm=build_outer(outer, build_algorithm(algorithm_name, **algorithm_options), **outer_options),
        pace=_build(PACES, experiment.pace),
        compression=build_compression(codec, **codec_options),
        optimizer=optimizer,
        schedule=_build(SCHEDULES, experiment.schedule).with_rate(optimizer.lr),
        callbacks=tuple(_build(CALLBACKS, chosen) for chosen in experiment.callbacks),
    )
    check_compatibility(
        parts.algorithm,
        parts.topology,
        pace=parts.pace,
        compression=parts.compression,
        node_size=experiment.node_size,
        step_in_backward=step_in_backward,
        nonfinite=experiment.training.nonfinite,
        elastic=elastic,
    )
    parts.algorithm.check_optimizer(experiment.optimizer)
    if getattr(parts.algorithm, "buffers", None) == "reset" and not optimizer.starts_from_zero:
        raise ConfigurationError(
            f"outer.buffers=reset zeroes the state of the optimizer, and that of {experiment.optimizer['class_name']}"
            " does not start at zero; use outer.buffers=maintain or average"
        )
    return parts


def build_metrics(choices: Sequence[Mapping[str, Any]], kind: TaskKind) -> tuple[EvaluationMetric, ...]:
    """Return the metrics ``evaluation.metrics`` that an evaluation computes beside the scores of the task.

    Raises:
        ConfigurationError: a metric is unknown, refuses its options, is for another task, or repeats a score.
    """
    metrics = tuple(_build(METRICS, chosen) for chosen in choices)
    known = {metric.name for metric in kind.metrics}
    for metric in metrics:
        name = METRICS.name_of(type(metric))
        _check_same_task(METRICS, metric, kind.name)
        for fact in metric.metrics:
            if fact.name in known:
                raise ConfigurationError(f"evaluation.metrics: '{name}' computes '{fact.name}', which is there already")
            known.add(fact.name)
    return metrics


def score_facts(dataset: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]] = ()) -> tuple[str, list[Metric]]:
    """Return the name of the score that ranks a run, and the facts of every score that its evaluations return.

    Args:
        dataset: the choice ``Experiment.dataset``.
        metrics: the choices ``EvaluationConfig.metrics``.

    Raises:
        ConfigurationError: as :func:`build_metrics`.
    """
    kind = task_kind_of(choice(dataset)[0])
    chosen = build_metrics(metrics, kind)
    return kind.score, [*kind.metrics, *(fact for metric in chosen for fact in metric.metrics)]


def _build_loss(experiment: Experiment, dataset: Dataset) -> Loss | None:
    if experiment.loss.get("name") == NOTHING:
        return None
    loss = _build(LOSSES, experiment.loss)
    _check_same_task(LOSSES, loss, dataset.task)
    if experiment.training.label_smoothing:
        raise ConfigurationError(
            f"training.label_smoothing={experiment.training.label_smoothing} is an option of the task's own loss; "
            f"with loss={LOSSES.name_of(type(loss))} leave it 0"
        )
    return loss


def _check_same_task(registry: Registry[Any], part: Loss | EvaluationMetric, task: str) -> None:
    if part.task != task:
        fitting = [name for name in registry.names() if registry.get(name).task == task]
        instead = f"; use {' or '.join(fitting)}" if fitting else ""
        raise ConfigurationError(
            f"{registry.kind} '{registry.name_of(type(part))}' is for the task '{part.task}', not '{task}'{instead}"
        )


def _build(registry: Registry[T], values: Mapping[str, Any]) -> T:
    name, options = choice(values)
    return registry.build(name, **options)
