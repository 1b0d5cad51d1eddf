"""Builds data, model, optimizer and Gossip of one worker from an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.elastic import ElasticGroup
from sgp_core.errors import ConfigurationError
from sgp_core.gossip import Gossip
from sgp_core.pacing.every import Every
from sgp_core.runtime.optimizers import is_element_wise
from sgp_core.tasks.base import BatchSampler, Task
from sgp_core.tasks.sharding import build_sampler, build_samplers
from sgp_core.timeline import Timeline
from sgp_core.training.compiling import compile_blocks
from sgp_core.training.config import Experiment
from sgp_core.training.elastic import ElasticSampler
from sgp_core.training.experiment import ExperimentParts, build_parts
from sgp_core.training.gossiping import GossipingWorkers
from sgp_core.training.peers import Peers
from sgp_core.training.recomputing import recompute_blocks
from sgp_core.training.virtual.build import build_workers
from sgp_core.training.virtual.world import VirtualWorld
from sgp_core.training.weights import load_weights


class CommunicationChoice(NamedTuple):
    """How the workers of a run communicate; no part of the experiment.

    Attributes:
        transport, step_in_backward, link_faults: as in :class:`sgp_core.Gossip`.
        elastic: the workers, some of which may die or come; None: those of torch.distributed.
        virtual: the world of virtual workers, if this process is all of them.
    """

    transport: str = "auto"
    step_in_backward: bool = False
    elastic: ElasticGroup | None = None
    link_faults: LinkFaults | None = None
    virtual: VirtualWorld | None = None


@dataclass
class TrainingParts:
    """The objects that train one worker, as :func:`assemble` builds them."""

    chosen: ExperimentParts
    task: Task
    sampler: BatchSampler
    model: nn.Module
    optimizer: torch.optim.Optimizer
    gossip: GossipingWorkers
    samplers: Sequence[BatchSampler] = ()
    """Those of all virtual workers, by rank; none where each worker is a process."""

    def record(self, directory: Path, steps: int) -> Timeline | None:
        """Record the exchanges of so many steps in ``directory/timeline``; None if there are none to be recorded."""
        if not steps:
            return None
        timeline = Timeline(directory / "timeline" / f"rank-{self.gossip.rank}.json", self.gossip.rank, steps)
        self.gossip.record(timeline)
        return timeline


def assemble(
    experiment: Experiment,
    device: torch.device,
    peers: Peers,
    communication: CommunicationChoice = CommunicationChoice(),  # noqa: B008 - a tuple
    begins: bool = True,
) -> TrainingParts:
    """Build data, model, optimizer, schedule and Gossip of this worker. Collective.

    The model is initialised from ``experiment.seed``, alike on every worker, or from ``model.weights``.

    Args:
        communication: how workers communicate.
        begins: whether the run has no checkpoint yet; one that has needs no weights to start from.

    Raises:
        ConfigurationError: a choice is unknown, refuses its options, or does not fit the number of workers.
    """
    if peers.world_size != experiment.world_size:
        raise ConfigurationError(
            f"the experiment is for {experiment.world_size} workers, but {peers.world_size} were started"
        )
    if begins and experiment.extends is not None:
        raise ConfigurationError(
            f"the run goes on from step {experiment.extends['step']} of run {experiment.extends['run']}, and its folder"
            " has no checkpoint of that"
        )
    training = experiment.training
    transport, step_in_backward, elastic, link_faults, virtual = communication
    chosen = build_parts(experiment, step_in_backward=step_in_backward)
    task = chosen.dataset.load()

    def sampler_of(workers: int, place: int, seed: int) -> BatchSampler:
        return build_sampler(task, chosen.partition, workers, place, training.batch_size, seed)

    sampler, samplers = sampler_of(peers.world_size, peers.rank, experiment.seed), list[BatchSampler]()
    if virtual is not None:
        ranks = range(peers.world_size)
        samplers = build_samplers(task, chosen.partition, peers.world_size, ranks, training.batch_size, experiment.seed)
    if elastic is not None:
        sampler = ElasticSampler(elastic, sampler_of, experiment.seed)
    model = _build_model(experiment, chosen, task, device, begins=begins, compiles=virtual is None)

    def build_optimizer() -> torch.optim.Optimizer:
        built = chosen.optimizer.build(model)
        for group in built.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return built

    optimizer = build_optimizer()
    topology = chosen.topology_of(sampler.steps_per_epoch)
    if virtual is not None:
        workers = build_workers(virtual, experiment, chosen, topology, model, optimizer, build_optimizer)
        return TrainingParts(chosen, task, sampler, model, workers.optimizer, workers, samplers)
    gossip = Gossip(
        model,
        optimizer,
        algorithm=chosen.algorithm,
        topology=topology,
        pace=None if chosen.pace == Every() else chosen.pace,
        transport=transport,
        node_size=experiment.node_size,
        shard_optimizer=is_element_wise(optimizer),
        step_in_backward=step_in_backward,
        max_norm=training.clip_norm if step_in_backward else None,
        compression=chosen.compression,
        nonfinite=training.nonfinite,
        elastic=elastic or False,
        link_faults=link_faults,
    )
    peers.waits = gossip.waits
    if isinstance(sampler, ElasticSampler):
        sampler.begin(gossip.step)
    return TrainingParts(chosen, task, sampler, model, optimizer, gossip)


def _build_model(
    experiment: Experiment, chosen: ExperimentParts, task: Task, device: torch.device, *, begins: bool, compiles: bool
) -> nn.Module:
    """Return the model on its device, initialised as on every worker."""
    training = experiment.training
    torch.manual_seed(experiment.seed)
    model = task.build(chosen.model)
    if begins:
        load_weights(model, chosen.model)
    model = model.to(device)
    if training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if training.activation_checkpointing and compiles:
        recompute_blocks(model)
    if training.compile is not None and compiles:
        compile_blocks(model)
    return model
