"""What must be so before a rule acts on a model."""

from __future__ import annotations

import torch
from torch import nn

from sgp_core.algorithms.base import Algorithm
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.optimizers import Optimizers, list_optimizers, parameters_of
from sgp_core.topology import Topology, build_topology


def choose_topology(topology: Topology | None, node: NodeGroup) -> Topology:
    """Return the topology, the complete graph of None.

    Raises:
        ConfigurationError: it is of another size.
    """
    topology = topology or build_topology("complete", world_size=node.count)
    if topology.world_size != node.count:
        made = f"the topology is made for {topology.world_size} {'workers' if node.size == 1 else 'nodes'}"
        raise ConfigurationError(f"{made}, the group has {node.count}")
    return topology


def check_optimizers(optimizer: Optimizers, model: nn.Module, algorithm: Algorithm) -> list[torch.optim.Optimizer]:
    """Return the optimizers.

    Raises:
        ConfigurationError: they update other parameters, or do not go with the algorithm.
    """
    known = {id(parameter) for parameter in model.parameters()}
    optimizers = list_optimizers(optimizer)
    if any(id(parameter) not in known for parameter in parameters_of(optimizers)):
        raise ConfigurationError(
            "the optimizer updates parameters that are not the model's; build it from model.parameters()"
        )
    for each in optimizers:
        for group in each.param_groups:
            algorithm.check_optimizer(group)
    return optimizers
