"""What differs between a run of processes, one of processes that come and go, and one of virtual workers."""

from __future__ import annotations

from functools import partial

import torch

from sgp_core.gossip import Gossip
from sgp_core.timeline import Timeline
from sgp_core.training.assembly import CommunicationChoice, TrainingParts
from sgp_core.training.config import Experiment
from sgp_core.training.elastic import ElasticPeers
from sgp_core.training.peers import Peers
from sgp_core.training.step import TrainingStep
from sgp_core.training.virtual.gossip import VirtualGossip
from sgp_core.training.virtual.peers import VirtualPeers
from sgp_core.training.virtual.step import VirtualStep


def build_peers(communication: CommunicationChoice, experiment: Experiment, device: torch.device) -> Peers:
    """Return the workers of the run, for the numbers that they agree on."""
    if communication.virtual:
        return VirtualPeers(experiment.world_size)
    return ElasticPeers(communication.elastic) if communication.elastic else Peers(device)


def build_step(parts: TrainingParts, experiment: Experiment, timeline: Timeline | None) -> TrainingStep | VirtualStep:
    """Return what takes one step: of this worker, or of all virtual ones."""
    training = experiment.training
    criterion = parts.chosen.loss or partial(parts.task.loss, smoothing=training.label_smoothing)
    if isinstance(parts.gossip, VirtualGossip):
        return VirtualStep(parts.gossip, criterion, training, experiment.seed)
    assert isinstance(parts.gossip, Gossip)
    return TrainingStep(parts.model, parts.optimizer, parts.gossip, criterion, training, timeline)
