"""What real workers do in test_contract.py: they try every promise of a transport on vectors that all of them know."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from itertools import repeat
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core.distributed.counters import SharedCounters
from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import PeerLost
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.transports.base import ReceivedMessage, Transport, concatenate
from sgp_core.transports.select import place_model
from sgp_core.transports.symmetric_memory.transport import SymmetricMemoryTransport
from sgp_core.transports.symmetric_memory.weight_exchange import HostWeightExchange
from tests.support.hosts import on_hosts
from tests.support.process_fabric import ProcessFabric
from tests.workers.agreement import Irregular
from tests.workers.own_transport import PlainMessages

SHAPES = [(3, 50), (70,), (9, 11), (1,)]
WORKERS = 4
HOSTS = {"hierarchical": "aabb"}
"""The host of each worker, for transports that want several."""


class Vectors:
    """The vectors and weights of all workers, mixed in float64 by the mixing matrices: what to expect."""

    def __init__(self, size: int, topology: Topology) -> None:
        self.topology = topology
        self.x = torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(r)) for r in range(WORKERS)])
        self.x = self.x.to(torch.float64)
        self.w = 1.0 + torch.arange(WORKERS, dtype=torch.float64)

    def matrix(self, step: int) -> Tensor:
        return torch.from_numpy(self.topology.mixing_matrix(step))

    def mix(self, step: int) -> None:
        self.x, self.w = self.matrix(step) @ self.x, self.matrix(step) @ self.w


class Worker:
    """One worker's vector, its transport, and what it and its peers should hold."""

    def __init__(self, name: str, overlap_steps: int = 0) -> None:
        self.rank = dist.get_rank()
        parameters = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in SHAPES]
        self.storage, self.transport = place(name, parameters, overlap_steps)
        self.x = self.storage.flat
        self.expected = Vectors(self.x.numel, Irregular(WORKERS))
        self.x.tensors[0].copy_(self.expected.x[self.rank])
        self.weight = float(self.expected.w[self.rank])

    def exchange(self, step: int) -> Exchange:
        return Exchange.of(self.expected.topology, self.rank, step)

    def parts(self) -> list[FlatVector]:
        return [part for _, part in self.storage.cut(repeat(500))]

    def error(self, x: Tensor | None = None) -> float:
        """Return how far vector and weight are from what they should be."""
        x = self.x.tensors[0] if x is None else x
        difference = (x - self.expected.x[self.rank]).abs().max()
        return max(float(difference), abs(self.weight - float(self.expected.w[self.rank])))


def place(name: str, parameters: list[nn.Parameter], overlap_steps: int = 0) -> tuple[FlatStorage, Transport]:
    """Move parameters to memory that the transport of this name can use; return both."""
    if name == "plain":
        storage = FlatStorage(parameters)
        return storage, PlainMessages(storage.flat)
    if name == "symmetric_memory":
        slots, fabric = 2 * overlap_steps + 4, ProcessFabric(dawdle_s=1e-4)
        storage = FlatStorage(parameters)
        weights = HostWeightExchange(SharedCounters(None, slots), slots)
        return storage, SymmetricMemoryTransport(storage.flat, fabric, weights, WORKERS, overlap_steps)
    node = NodeGroup(None, 1, torch.device("cpu"))
    with on_hosts(HOSTS[name]) if name in HOSTS else nullcontext():
        shard, transport = place_model(nn.ParameterList(parameters), parameters, name, node, overlap_steps)
    assert shard.storage is not None
    assert transport is not None
    assert transport.name == name
    return shard.storage, transport


def mix(name: str) -> float:
    """Mix the parameters over several steps, with weights."""
    worker = Worker(name)
    for step in range(5):
        worker.weight = worker.transport.mix(worker.x, worker.exchange(step), worker.weight)
        worker.expected.mix(step)
    return worker.error()


def mix_another_vector(name: str) -> float:
    """Mix a vector that is not the parameters, without weights."""
    worker = Worker(name)
    other = worker.x.clone()
    before = worker.x.tensors[0].clone()
    assert worker.transport.mix(other, worker.exchange(0), None) == 1.0
    assert worker.x.tensors[0].equal(before)
    worker.expected.mix(0)
    worker.weight = float(worker.expected.w[worker.rank])
    return worker.error(other.tensors[0])


def post(name: str) -> float:
    """Post the parts of the parameters in turn, and mix them."""
    worker = Worker(name)
    for step in range(3):
        exchange = worker.exchange(step)
        parts = worker.parts()
        posted = [worker.transport.post(p, exchange, worker.weight if p.first else None) for p in parts]
        if None in posted:
            assert not any(posted), "all parts or none"
            worker.weight = worker.transport.mix(worker.x, exchange, worker.weight)
        else:
            arrived = [message.mix_into(part) for part, message in zip(parts, posted, strict=True) if message]
            worker.weight = exchange.own_weight * worker.weight + sum(arrived)
        worker.expected.mix(step)
    return worker.error()


def push(name: str) -> float:
    """Push whole vectors, two of them in flight."""
    return _push(name, lambda worker: [worker.x], tau=2)


def push_parts(name: str) -> float:
    """Push the parts of vectors in turn, one vector in flight."""
    return _push(name, Worker.parts, tau=1)


def _push(name: str, cut: Callable[[Worker], list[FlatVector]], tau: int) -> float:
    worker = Worker(name, tau)
    expected, pushed, messages = worker.expected, [], []
    for step in range(3 * tau + 2):
        exchange = worker.exchange(step)
        messages.append(_push_parts(worker, cut(worker), exchange))
        own = torch.diag(torch.diag(expected.matrix(step)))
        others = expected.matrix(step) - own
        pushed.append((others @ expected.x, others @ expected.w))
        expected.x, expected.w = own @ expected.x, own @ expected.w
        worker.weight *= exchange.own_weight
        if step >= tau:
            _pull(worker, messages[step - tau], pushed[step - tau])
    for late in range(3 * tau + 2 - tau, 3 * tau + 2):
        _pull(worker, messages[late], pushed[late])
    worker.transport.settle()
    return worker.error()


def _push_parts(worker: Worker, parts: list[FlatVector], exchange: Exchange) -> list[tuple[FlatVector, Any]]:
    messages = []
    for part in parts:
        weight = worker.weight if part.first else None
        messages.append((part, worker.transport.push(part, exchange, weight)))
        part.mul_(exchange.own_weight)  # it may change at once
    return messages


def _pull(worker: Worker, messages: list[tuple[FlatVector, Any]], pushed: tuple[Tensor, Tensor]) -> None:
    worker.weight += sum(message.add_to(worker.x.at(part)) for part, message in messages)
    worker.expected.x, worker.expected.w = worker.expected.x + pushed[0], worker.expected.w + pushed[1]


def keep(name: str) -> float:
    """Keep what is in flight, as a checkpoint does; discard the messages, and add what was kept. Then go on."""
    worker = Worker(name, 1)
    for step in range(4):
        exchange = worker.exchange(step)
        messages = _push_parts(worker, worker.parts(), exchange)
        worker.weight *= exchange.own_weight
        content = concatenate([message.content() for _, message in messages])
        sent = [(vector.tolist(), weight) for (vector,), weight in content]
        known = [(worker.expected.x[p].tolist(), float(worker.expected.w[p])) for p in exchange.in_peers]
        assert step > 0 or sent == known, "what the in-peers have sent, in their order, bit for bit"
        worker.transport.settle()
        for _, message in messages:
            message.discard()
        worker.weight += ReceivedMessage(content, exchange).add_to(worker.x)
        worker.expected.mix(step)
    return worker.error()


def scratch(name: str) -> float:
    """Write to the scratch memory before every exchange."""
    worker = Worker(name)
    for step in range(4):
        memory = worker.transport.scratch()
        assert [tensor.shape for tensor in memory.tensors] == [tensor.shape for tensor in worker.x.tensors]
        memory.tensors[0].fill_(step)
        assert float(memory.tensors[0].sum()) == step * worker.x.numel
        worker.weight = worker.transport.mix(worker.x, worker.exchange(step), worker.weight)
        worker.expected.mix(step)
    return worker.error()


CASES = (mix, mix_another_vector, post, push, push_parts, keep, scratch)


def errors(name: str) -> dict[str, float]:
    """Return how far each case is from what is expected."""
    found = {}
    with torch.no_grad():
        for case in CASES:
            found[case.__name__] = case(name)
            dist.barrier()
    return found


def lose_a_peer(name: str, victim: int, overlap_steps: int) -> dict[str, Any]:
    """Let one worker be killed, and exchange with it."""
    topology = sgp_core.build_topology("complete", world_size=WORKERS)
    with torch.no_grad():
        worker = Worker(name, overlap_steps)
        worker.transport.mix(worker.x, Exchange.of(topology, worker.rank, 0), 1.0)
        if worker.rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            for step in range(1, 5):
                exchange = Exchange.of(topology, worker.rank, step)
                if overlap_steps:
                    worker.transport.push(worker.x, exchange, 1.0).add_to(worker.x)
                else:
                    worker.transport.mix(worker.x, exchange, 1.0)
        except PeerLost as error:
            return {"rank": error.rank, "me": worker.rank, "peers": error.peers, "step": error.step}
    return {}


def lose_a_peer_that_sends_weights(victim: int) -> dict[str, Any]:
    """Let one worker be killed, and exchange weights with it through the memory of the host."""
    topology = sgp_core.build_topology("complete", world_size=WORKERS)
    weights = HostWeightExchange(SharedCounters(None, 4), 4)
    rank = dist.get_rank()
    dist.barrier()
    if rank == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        for step in range(1, 5):
            exchange = Exchange.of(topology, rank, step)
            weights.receive(exchange, weights.send(exchange, 1.0))
    except PeerLost as error:
        return {"rank": error.rank, "me": rank, "peers": error.peers, "step": error.step}
    return {}
