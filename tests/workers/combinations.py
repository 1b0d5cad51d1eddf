"""What real workers do in test_combinations.py: models leave ahead, and are combined as can be computed by hand."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import sgp_core
from sgp_core.distributed.exchange import Exchange
from sgp_core.errors import PeerLost
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.transports.shared_memory import blocked_mixing
from tests.support.hosts import on_hosts
from tests.workers.features import tensor_bytes
from tests.workers.hosts import small_chunks
from tests.workers.transport_contract import WORKERS, place

LAYOUT = {torch.float64: 129, torch.bfloat16: 4_097}
"""Elements per dtype."""
GRAPHS = [
    [[1], [2], [3], [0]],
    [[1, 2], [2, 3], [3, 0], [0, 1]],
    [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]],
    [[], [], [], []],
    [[1, 2, 3], [2], [], []],
    [[2], [3], [0], [1]],
    [[1], [0], [3, 0], [2]],
    [[1], [0], [3], [2]],
]
"""Out-peers of each worker. Where there are two hosts, the first two workers are on one of them."""
WAYS = ["posted", "late", "settled", "recalled", "with scratch"]
STEPS = len(GRAPHS) * len(WAYS)
"""Each graph in each way."""


@dataclass(frozen=True)
class Varied(Topology):
    """The graphs in turn."""

    @property
    def period(self) -> int:
        return len(GRAPHS)

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return GRAPHS[step % len(GRAPHS)][rank]


class ByHand:
    """The vectors and weights of all workers, and what each step makes of them, in plain arithmetic."""

    def __init__(self, layout: dict[torch.dtype, int], *, weighed: bool) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = [
            [torch.randn(n, generator=generator, dtype=torch.float64).to(t) for t, n in layout.items()]
            for _ in range(WORKERS)
        ]
        self.weights = [1.0 + rank if weighed else 1.0 for rank in range(WORKERS)]
        self.weighed = weighed

    def halve(self) -> None:
        self.x = [[piece * 0.5 for piece in pieces] for pieces in self.x]

    def step(self, topology: Topology, number: int, *, apart: bool) -> None:
        """Mix, update and de-bias."""
        vectors, weights = [], []
        for rank in range(WORKERS):
            exchange = Exchange.of(topology, rank, number)
            known = [self.weights[peer] for peer in exchange.in_peers]
            own = exchange.own_weight * self.weights[rank]
            shares = [share * weight for share, weight in zip(exchange.in_weights, known, strict=True)]
            arrived = 0.0
            for share in shares:
                arrived += share
            weights.append(own + arrived if self.weighed else 1.0)
            pieces = []
            for at, mine in enumerate(self.x[rank]):
                received = [self.x[peer][at] for peer in exchange.in_peers]
                new = (_apart if apart else _in_place)(mine, own, received, shares, update(rank))
                pieces.append(new / _scalar(weights[-1], new) if self.weighed else new)
            vectors.append(pieces)
        self.x, self.weights = vectors, weights


def update(rank: int) -> float:
    """Return what an optimizer might add to each element."""
    return 0.25 * (1 + rank)


def _in_place(mine: Tensor, own: float, received: list[Tensor], shares: list[float], change: float) -> Tensor:
    if not received:
        return mine * _scalar(own, mine) + change
    first = received[0]
    if own + shares[0] == 1.0:
        new = torch.lerp(mine, first, shares[0])
    else:
        new = torch.add(mine * _scalar(own, mine), first, alpha=shares[0])
    for theirs, share in zip(received[1:], shares[1:], strict=True):
        new = torch.add(new, theirs, alpha=share)
    return new + change


def _apart(mine: Tensor, own: float, received: list[Tensor], shares: list[float], change: float) -> Tensor:
    if not received:
        return torch.add(mine + change, mine, alpha=own - 1.0)
    kept = torch.add(received[0], mine, alpha=(own - 1.0) / shares[0])
    for theirs, share in zip(received[1:], shares[1:], strict=True):
        kept = torch.add(kept, theirs, alpha=share / shares[0])
    return torch.add(mine + change, kept, alpha=shares[0])


def _scalar(value: float, like: Tensor) -> Tensor:
    return torch.tensor(value, dtype=like.dtype)


def _steps(
    name: str, layout: dict[torch.dtype, int], *, apart: bool, weighed: bool, tolerance: float = 0.0
) -> list[str]:
    """Take every graph in every way; return where the result is not what it is by hand."""
    rank, by_hand, found = dist.get_rank(), ByHand(layout, weighed=weighed), []
    parameters = [nn.Parameter(torch.zeros(n, dtype=dtype)) for dtype, n in layout.items()]
    storage, transport = place(name, parameters)
    kinds = [tensor.dtype for tensor in storage.flat.tensors]
    x = storage.flat
    order = [list(layout).index(kind) for kind in kinds]
    x.copy_(FlatVector([by_hand.x[rank][at] for at in order]))
    topology = Varied(WORKERS)
    network = DistributedNetwork(topology, None, transport)
    weight: Any = by_hand.weights[rank] if weighed else None
    for number in range(STEPS):
        way = WAYS[number % len(WAYS)]
        if way != "late":
            network.post_ahead(x, number, weight)
        if way == "settled":
            network.settle()
        elif way == "recalled":
            network.recall()
            x.mul_(0.5)
            by_hand.halve()
        elif way == "with scratch":
            for tensor in network.scratch().tensors:
                tensor.fill_(number)
        mixed = network.combine(x, number, weight, apart=apart)
        for tensor in x.tensors:
            tensor.add_(update(rank))
        completed = network.complete(x, number, mixed if weighed else None)
        weight = completed if weighed else None
        if weighed:
            x.div_(weight)
        by_hand.step(topology, number, apart=apart)
        expected = [by_hand.x[rank][at] for at in order]
        differ = [float((mine - right).abs().max()) for mine, right in zip(x.tensors, expected, strict=True)]
        if weighed:
            differ.append(abs(weight - by_hand.weights[rank]))
        if not max(differ) <= tolerance:
            found.append(f"step {number}, {way}: {differ}")
        x.copy_(FlatVector(expected))  # what is wrong once is not carried on
        weight = by_hand.weights[rank] if weighed else None
    network.close()
    return found


def bits(name: str) -> dict[str, list[str]]:
    """Return what is wrong in each case, to the bit, of vectors that travel in several chunks."""
    with small_chunks():
        return _cases(name, LAYOUT, 0.0)


def plain() -> dict[str, list[str]]:
    """Do so for a transport that sends nothing ahead, whose results are rounded differently."""
    return _cases("plain", {torch.float64: 129}, 1e-12)


def _cases(name: str, layout: dict[torch.dtype, int], tolerance: float) -> dict[str, list[str]]:
    found = {}
    with torch.no_grad():
        for apart in (False, True):
            for weighed in (False, True):
                case = f"{'apart' if apart else 'in place'}{', weights' if weighed else ''}"
                found[case] = _steps(name, layout, apart=apart, weighed=weighed, tolerance=tolerance)
                dist.barrier()
    return found


def lose_a_peer(name: str, victim: int) -> dict[str, Any]:
    """Let one worker be killed, and combine with it."""
    topology = sgp_core.build_topology("complete", world_size=WORKERS)
    parameters = [nn.Parameter(torch.zeros(300))]
    with torch.no_grad():
        storage, transport = place(name, parameters)
        network = DistributedNetwork(topology, None, transport)
        for step in range(5):
            try:
                network.post_ahead(storage.flat, step, 1.0)
                network.combine(storage.flat, step, 1.0, apart=False)
                network.complete(storage.flat, step, 1.0)
            except PeerLost as error:
                return {"rank": error.rank, "me": dist.get_rank(), "peers": error.peers, "step": error.step}
            if step == 0 and dist.get_rank() == victim:
                os.kill(os.getpid(), signal.SIGKILL)
    return {}


def everything(name: str, victim: int) -> dict[str, Any]:
    """Do all of it in one group of workers, of which one is killed in the end; return what all have found."""
    mine = {"bits": bits(name), "plain": plain() if name == "p2p" else {}}
    found: list[Any] = [None] * WORKERS
    dist.all_gather_object(found, mine)
    return {"found": found, "lost": lose_a_peer(name, victim)}


def footprint(transport: str, graph: str, weight_decay: float) -> dict[str, Any]:
    """Memory that osgp takes beside the model, and what a steady step allocates."""
    model = nn.Sequential(nn.Linear(300, 400), nn.Linear(400, 200))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=weight_decay)  # with some: differences apart
    before = tensor_bytes()
    topology = sgp_core.build_topology(graph, world_size=dist.get_world_size())
    with on_hosts("aabb"):
        gossip = sgp_core.Gossip(model, optimizer, algorithm="osgp", topology=topology, transport=transport)
    for _ in range(2 * topology.period):
        optimizer.step()  # without gradients: gossip alone
    added = {"steps": tensor_bytes() - before}
    gossip.consensus_distance()
    added["consensus_distance()"] = tensor_bytes() - before
    gossip.finish()  # torch's profiler may not survive messages that are posted or waited for while it does not look
    dist.barrier()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as steady:
        for _ in range(topology.period):
            optimizer.step()
        gossip.finish()
    gossip.close()
    return {
        "added": added,
        "parameters": sum(p.numel() * 4 for p in model.parameters()),
        "allocations": [event.name for event in steady.events() if event.self_cpu_memory_usage > 0],
    }


def footprints() -> dict[str, Any]:
    """Return those of messages from one peer, and of hosts whose workers have one peer here and one there."""
    blocked_mixing._CACHE_BYTES = 1 << 14  # the model is small, too
    return {
        (transport, case): footprint(transport, graph, weight_decay)
        for transport, graph in (("p2p", "one_peer_exponential"), ("hierarchical", "ring"))
        for case, weight_decay in (("in place", 0.0), ("apart", 0.01))
    }
