"""What real workers do in test_lossy_workers.py, over links with faults."""

from __future__ import annotations

from typing import Any

from torch import nn, optim

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.errors import ConfigurationError
from sgp_core.topology import Topology
from tests.workers.asynchronous import average_at_random_speeds, resumed, train_unevenly

Case = tuple[Algorithm, Topology, LinkFaults | None]


def refusal(algorithm: Algorithm, topology: Topology, **chosen: Any) -> str:
    """Return why there is no such Gossip."""
    model = nn.Linear(3, 2)
    try:
        sgp_core.Gossip(model, optim.SGD(model.parameters()), algorithm=algorithm, topology=topology, **chosen)
    except ConfigurationError as error:
        return str(error)
    return ""


def everything(
    averages: list[Case], uneven: list[Case], saved: list[Case], refused: list[tuple[Algorithm, Topology, str]]
) -> dict[str, Any]:
    """Do it all in one group of workers."""
    faults = LinkFaults(drop=0.1)
    return {
        "averages": [
            average_at_random_speeds(rule, graph, seed, transport="p2p", link_faults=bad)
            for seed, (rule, graph, bad) in enumerate(averages)
        ],
        "uneven": [train_unevenly(rule, graph, "sgd", transport="p2p", link_faults=bad) for rule, graph, bad in uneven],
        "resumed": [resumed(rule, graph, link_faults=bad) for rule, graph, bad in saved],
        "refused": [
            refusal(rule, graph, transport=transport, link_faults=faults) for rule, graph, transport in refused
        ],
    }
