"""From an experiment's choices to the objects that train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from sgp_core.algorithms import Algorithm, build_algorithm, build_outer
from sgp_core.compression import build_compression
from sgp_core.errors import ConfigurationError
from sgp_core.gossip import Gossip
from sgp_core.pacing import PACES
from sgp_core.pacing.every import Every
from sgp_core.registry import Registry
from sgp_core.tasks.base import BatchSampler, Task
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.kinds import TASKS, TaskKind, check_task
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.partitions import PARTITIONS, check_labels
from sgp_core.tasks.sharding import share_of
from sgp_core.topology import build_topology
from sgp_core.training.compiling import compile_blocks
from sgp_core.training.config import Experiment, choice
from sgp_core.training.optimizers import OPTIMIZERS
from sgp_core.training.peers import Peers
from sgp_core.training.schedules import SCHEDULES, LearningRateSchedule

T = TypeVar("T")


@dataclass
class Parts:
    """What :func:`assemble` builds for one worker."""

    kind: TaskKind
    task: Task
    share: BatchSampler
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LearningRateSchedule
    gossip: Gossip


def assemble(
    experiment: Experiment,
    device: torch.device,
    peers: Peers,
    transport: str = "auto",
    step_in_backward: bool = False,
) -> Parts:
    """Build data, model, optimizer, schedule and Gossip of this worker. Collective.

    The model is initialised from ``experiment.seed``, alike on every worker.

    Raises:
        ConfigurationError: a choice is unknown, refuses its options, or does not fit the number of workers.
    """
    if peers.world_size != experiment.world_size:
        raise ConfigurationError(
            f"the experiment is for {experiment.world_size} workers, but {peers.world_size} were started"
        )
    training = experiment.training
    algorithm = algorithm_of(experiment)
    schedule = _chosen(SCHEDULES, experiment.schedule)
    optimizer_options = _chosen(OPTIMIZERS, experiment.optimizer)
    model_options = _chosen(MODELS, experiment.model)
    dataset = _chosen(DATASETS, experiment.dataset)
    check_task(model_options, dataset)
    partition = _chosen(PARTITIONS, experiment.partition)
    check_labels(partition, dataset)
    dataset.check_training(training.changed())
    task = dataset.load()
    share = share_of(task, partition, peers.world_size, peers.rank, training.batch_size, experiment.seed)
    name, options = choice(experiment.topology)
    topology = build_topology(name, experiment.nodes, steps_per_epoch=share.steps_per_epoch, **options)

    torch.manual_seed(experiment.seed)
    model = task.build(model_options).to(device)
    if training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if training.compile is not None:
        compile_blocks(model)
    optimizer = optimizer_options.build(model)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    pace = _chosen(PACES, experiment.pace)
    codec, codec_options = choice(experiment.compression)
    gossip = Gossip(
        model,
        optimizer,
        algorithm=algorithm,
        topology=topology,
        pace=None if pace == Every() else pace,
        transport=transport,
        node_size=experiment.node_size,
        shard_optimizer=True,  # those that can be chosen are element-wise
        step_in_backward=step_in_backward,
        max_norm=training.clip_norm if step_in_backward else None,
        compression=build_compression(codec, **codec_options),
    )
    return Parts(TASKS.get(dataset.task)(), task, share, model, optimizer, schedule, gossip)


def algorithm_of(experiment: Experiment) -> Algorithm:
    """Return the experiment's algorithm, wrapped in its outer."""
    name, options = choice(experiment.algorithm)
    outer, outer_options = choice(experiment.outer)
    return build_outer(outer, build_algorithm(name, **options), **outer_options)


def _chosen(registry: Registry[T], values: Mapping[str, Any]) -> T:
    name, options = choice(values)
    return registry.build(name, **options)
