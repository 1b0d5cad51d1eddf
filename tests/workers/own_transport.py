"""What real workers do in test_registry.py: they train with a transport that is not the package's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import sgp_core
from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.model_shard import place_in_flat_memory
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.timeline import Marks
from sgp_core.transports.p2p.transport import P2PTransport
from sgp_core.transports.registry import Placement, TransportKind, register_transport


class OwnMessages(P2PTransport):
    name = "messages_of_my_own"


class PlainMessages:
    """A transport with the methods that all had before any vector travelled ahead."""

    name = "plain"

    def __init__(self, like: FlatVector) -> None:
        self.marks: Marks | None = None
        self._messages = P2PTransport(like, None)

    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        return self._messages.mix(x, exchange, weight)

    def scratch(self) -> FlatVector:
        return self._messages.scratch()

    def settle(self) -> None:
        self._messages.settle()


class PlainKind(TransportKind):
    summary = "Messages that are exchanged when an optimizer is about to step."
    priority = -1

    def place(self, request: Placement) -> Any:
        shard = place_in_flat_memory(request.model, request.parameters, request.node)
        return shard, PlainMessages(shard.flat)


class OwnKind(TransportKind):
    summary = "Messages, with another name."
    priority = 100

    def place(self, request: Placement) -> Any:
        shard = place_in_flat_memory(request.model, request.parameters, request.node)
        return shard, OwnMessages(shard.flat, request.node.peers, request.steps_in_flight)


def train() -> dict[str, Any]:
    """Train two steps with each way to choose the transport; return what was chosen."""
    register_transport("messages_of_my_own")(OwnKind)  # here rather than in the process of the tests
    register_transport("plain")(PlainKind)
    found: dict[str, Any] = {}
    for key, wanted in (("asked", OwnKind.name), ("auto", "auto")):
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        algorithm = sgp_core.build_algorithm("dpsgd")
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, transport=wanted)
        model(torch.full((1, 3), float(gossip.rank))).sum().backward()
        optimizer.step()
        found[key], found["mixed"] = gossip.transport, gossip.consensus_distance() < 1e-6
        gossip.close()
    found["ahead"] = [_sent_ahead(transport) for transport in ("p2p", "plain")]
    return found


def _sent_ahead(transport: str) -> float:
    """Train with models that are sent ahead, if the transport can; return the sum of this worker's parameters."""
    torch.manual_seed(3)
    model = nn.Linear(3, 2).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    gossip = sgp_core.Gossip(model, optimizer, algorithm="osgp", topology="ring", transport=transport)
    for _ in range(4):
        model(torch.full((1, 3), 1.0 + gossip.rank, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    gossip.consensus_distance()
    gossip.finish()
    assert gossip.transport == transport
    gossip.close()
    return sum(float(parameter.detach().sum()) for parameter in model.parameters())
