"""What differs between a run of processes, one of processes that come and go, and one of virtual workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sgp_core.gossip import Gossip
from sgp_core.tasks.base import Batch
from sgp_core.timeline import Timeline
from sgp_core.training.assembly import CommunicationChoice, TrainingParts
from sgp_core.training.batches import TrainingBatches
from sgp_core.training.config import Experiment
from sgp_core.training.due import DueSteps
from sgp_core.training.elastic import ElasticPeers
from sgp_core.training.peers import Peers
from sgp_core.training.step import TrainingStep
from sgp_core.training.virtual.gossip import VirtualGossip
from sgp_core.training.virtual.peers import VirtualPeers
from sgp_core.training.virtual.step import VirtualStep, VirtualTurnsStep
from sgp_core.training.virtual.turns import VirtualTurns


def build_peers(communication: CommunicationChoice, experiment: Experiment, device: torch.device) -> Peers:
    """Return the workers of the run, for the numbers that they agree on."""
    if communication.virtual is not None:
        return VirtualPeers(experiment.world_size)
    return ElasticPeers(communication.elastic) if communication.elastic else Peers(device)


def build_step(
    parts: TrainingParts,
    experiment: Experiment,
    device: torch.device,
    timeline: Timeline | None,
    rate: Callable[[int], float],
    due: DueSteps,
) -> TrainingStep | VirtualStep | VirtualTurnsStep:
    """Return what takes one step: of this worker, or of all virtual ones.

    Args:
        rate: returns what the initial learning rate is multiplied by at a step.
        due: says how many steps a worker takes.
    """
    training, seed = experiment.training, experiment.seed
    criterion = parts.chosen.loss or partial(parts.task.loss, smoothing=training.label_smoothing)
    if isinstance(parts.gossip, VirtualGossip):
        return VirtualStep(parts.gossip, criterion, training, seed)
    if isinstance(parts.gossip, VirtualTurns):
        makers = [TrainingBatches(parts.task, sampler, seed, rank) for rank, sampler in enumerate(parts.samplers)]

        def batch_of(rank: int, step: int) -> Batch:
            return makers[rank](step).to(device, channels_last=training.channels_last)

        return VirtualTurnsStep(parts.gossip, criterion, training, seed, batch_of=batch_of, rate=rate, due=due)
    assert isinstance(parts.gossip, Gossip)
    return TrainingStep(parts.model, parts.optimizer, parts.gossip, criterion, training, timeline)
