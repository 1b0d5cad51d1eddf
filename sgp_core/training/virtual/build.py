"""Builds the virtual workers of an experiment."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from sgp_core.pacing.every import Every
from sgp_core.topology import Topology
from sgp_core.training.config import Experiment
from sgp_core.training.experiment import ExperimentParts
from sgp_core.training.virtual.gossip import VirtualGossip
from sgp_core.training.virtual.models import VirtualModels
from sgp_core.training.virtual.turns import VirtualTurns
from sgp_core.training.virtual.world import VirtualWorld


def build_workers(
    world: VirtualWorld,
    experiment: Experiment,
    chosen: ExperimentParts,
    topology: Topology,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    build_optimizer: Callable[[], torch.optim.Optimizer],
) -> VirtualGossip | VirtualTurns:
    """Return all workers of an experiment, alike.

    Args:
        world: what the clock is made of.
        chosen: the parts of the experiment.
        topology: over the gossip nodes.
        model: as one worker would build it.
        optimizer: over its parameters; that of rank 0, or of all workers if they keep step.
        build_optimizer: makes the others' where each worker takes its own steps.
    """
    asynchronous = chosen.algorithm.traits.asynchronous
    optimizers = [optimizer]
    if asynchronous:
        optimizers += [build_optimizer() for _ in range(experiment.nodes - 1)]
    models = VirtualModels(model, experiment.nodes, experiment.node_size)
    clock = world.build_clock(experiment, chosen, topology, models)
    nonfinite = experiment.training.nonfinite
    if asynchronous:
        return VirtualTurns(
            models, optimizers, algorithm=chosen.algorithm, topology=topology, nonfinite=nonfinite, clock=clock
        )
    return VirtualGossip(
        models,
        optimizer,
        algorithm=chosen.algorithm,
        topology=topology,
        pace=None if chosen.pace == Every() else chosen.pace,
        compression=chosen.compression,
        nonfinite=nonfinite,
        clock=clock,
    )
