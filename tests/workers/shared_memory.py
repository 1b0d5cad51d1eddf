"""What real workers do in test_shared_memory.py: each function runs in every worker of one gloo group."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core.distributed import host_memory
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError, PeerLost
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.transports.select import place_model
from sgp_core.transports.shared_memory import blocked_mixing
from tests.support.hosts import on_hosts

LAYOUTS = [
    {torch.float32: 5},
    {torch.float32: 0, torch.float64: 65},
    {torch.float32: 30_011},
    {torch.float16: 1_000},
    {torch.bfloat16: 20_063},
    {torch.float64: 129, torch.bfloat16: 4_097},
]
"""Elements per dtype: less than a grain, not a multiple of one, several blocks, several dtypes, none."""


def graphs(world_size: int) -> list[Topology]:
    """Return graphs of every kind: one component or many, regular or not, changing with the step or not."""
    phases = [
        {"start": 0, "name": "star", "weights": "uniform"},
        {"start": 2, "name": "one_peer_exponential", "peers": 2},
        {"start": 4, "name": "ring"},
    ]
    return [
        sgp_core.build_topology("one_peer_exponential", world_size=world_size),
        sgp_core.build_topology("ring", world_size=world_size),
        sgp_core.build_topology("star", world_size=world_size, weights="uniform"),
        sgp_core.build_topology("complete", world_size=world_size),
        sgp_core.build_topology("base_k", world_size=world_size),
        sgp_core.build_topology("random_matching", world_size=world_size),
        sgp_core.build_topology("erdos_renyi", world_size=world_size, weights="uniform"),
        sgp_core.build_topology("schedule", world_size=world_size, unit="step", phases=phases),
    ]


class _Vector:
    """A vector that travels one way, and what travels it."""

    def __init__(self, transport: str, layout: dict[torch.dtype, int], topology: Topology, tau: int = 0) -> None:
        generator = torch.Generator().manual_seed(dist.get_rank())
        parameters = [nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for dtype, n in layout.items()]
        alone = NodeGroup(None, 1, torch.device("cpu"))
        share, self.transport = place_model(nn.ParameterList(parameters), parameters, transport, alone, tau)
        storage = share.storage
        assert self.transport is not None
        assert self.transport.name == transport
        self.x = storage.flat
        self.network = DistributedNetwork(topology, None, self.transport)

    def bits(self, weight: Any) -> list[Any]:
        return [*(tensor.clone() for tensor in self.x.tensors), weight]


def _mixed(vector: _Vector) -> list[Any]:
    weight: Any = 1.0 + dist.get_rank()
    found = []
    for step in range(6):
        weight = vector.network.mix(vector.x, step, weight)
        found += vector.bits(weight)
    vector.network.mix(vector.x, 6)
    return [*found, *vector.bits(weight)]


def _combined(vector: _Vector) -> list[Any]:
    """Let models leave ahead; change them in place and apart in turn, with weights and at last without."""
    weight: Any = 1.0 + dist.get_rank()
    found = []
    for step in range(7):
        own = weight if step < 6 else None
        vector.network.post_ahead(vector.x, step, own)
        mixed = vector.network.combine(vector.x, step, own, apart=step % 2 == 1)
        for tensor in vector.x.tensors:
            tensor.add_(dist.get_rank())
        vector.network.complete(vector.x, step, own)
        if own is not None:
            weight = mixed
            vector.x.div_(weight)
        found += vector.bits(weight)
    return found


def _mixed_elsewhere(vector: _Vector) -> list[Any]:
    """Mix vectors that are not the parameters: one of the rule's own, and the transport's scratch."""
    own = FlatVector([tensor * 2 for tensor in vector.x.tensors])
    weight = vector.network.mix(own, 0, 1.0)
    return [*own.tensors, *vector.bits(weight)]


def _pushed(vector: _Vector, tau: int) -> list[Any]:
    weight: Any = 1.0
    found = []
    for step in range(3 * tau + 3):
        kept = vector.network.push(vector.x, step, weight)
        weight = vector.network.pull(vector.x, step - tau, kept)
        vector.network.scratch().copy_(vector.x)
        found += vector.bits(weight)
    weight = vector.network.drain(vector.x, weight)
    vector.transport.settle()
    return [*found, *vector.bits(weight)]


def differences_of_bits(
    layouts: list[dict[torch.dtype, int]], graphs: list[Topology], transport: str = "shared_memory"
) -> list[str]:
    """Let the same vectors travel by messages and by ``transport``; return where the results differ.

    Graphs take every second layout in turn.
    """
    blocked_mixing._CACHE_BYTES = 1 << 14  # several blocks even of small vectors
    found = []

    def compare(what: str, layout: dict[torch.dtype, int], topology: Topology, tau: int, act: Callable) -> None:
        ways = [act(_Vector(way, layout, topology, tau)) for way in ("p2p", transport)]
        same = [torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(*ways, strict=True)]
        if not all(same):
            found.append(f"{what} {layout} {topology} tau={tau}: {same}")

    for number, topology in enumerate(graphs):
        for layout in layouts[number % 2 :: 2]:
            compare("mix", layout, topology, 0, _mixed)
            compare("combine", layout, topology, 0, _combined)
        compare("mix elsewhere", layouts[-1], topology, 0, _mixed_elsewhere)
        for tau in (1, 2, 4):
            compare("push", layouts[-1 - tau // 2], topology, tau, lambda vector, tau=tau: _pushed(vector, tau))
    return found


def _gossip(transport: str = "auto", group: dist.ProcessGroup | None = None, **options: Any) -> sgp_core.Gossip:
    model = nn.Linear(40, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
    algorithm = sgp_core.build_algorithm("sgp", **options)
    return sgp_core.Gossip(
        model, optimizer, algorithm=algorithm, topology=topology, process_group=group, transport=transport
    )


def chosen(transport: str) -> str:
    """Return how the models of a group travel, or why not as wanted."""
    try:
        return str(_gossip(transport).transport)
    except ConfigurationError as error:
        return str(error)


def choices() -> dict[str, str]:
    """Return what is chosen, or said, where workers share a host and where one only seems to be elsewhere."""
    said = {f"here {wanted}": chosen(wanted) for wanted in ("auto", "p2p", "shared_memory", "hierarchical", "shared")}
    with on_hosts("ab"):
        said |= {f"apart {wanted}": chosen(wanted) for wanted in ("auto", "p2p", "shared_memory", "hierarchical")}
    create = host_memory._create
    if dist.get_rank() == 1:  # as in another pid namespace: the number is another process's, or the file another one
        host_memory._create = lambda size: (*(made := create(size))[:1], made[1]._replace(token=b"other"))
    said |= {f"hidden {wanted}": chosen(wanted) for wanted in ("auto", "shared_memory")}
    host_memory._create = create
    return said


def leftovers() -> dict[str, Any]:
    """Return what of shared memory a worker can be seen to have: while it gossips, and afterwards."""

    def mapped() -> int:
        gc.collect()
        return Path("/proc/self/maps").read_text().count("/memfd:sgp")

    def opened() -> int:
        return sum("memfd" in os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())

    assert mapped() == opened() == 0
    before = set(os.listdir("/dev/shm"))
    gossip = _gossip(overlap_steps=1)
    for _ in range(3):
        gossip.optimizer.step()  # without gradients: gossip alone
    during = mapped(), set(os.listdir("/dev/shm")) - before
    gossip.close()
    del gossip
    return {"during": during, "after": (mapped(), opened())}


def killed(victim: int, overlap_steps: int) -> dict[str, Any]:
    """Let ``victim`` be killed after three steps; return what the others say, and when."""
    gossip = _gossip(overlap_steps=overlap_steps)
    for _ in range(3):
        gossip.optimizer.step()  # without gradients: gossip alone
    if dist.get_rank() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    try:
        for _ in range(5):
            gossip.optimizer.step()
    except PeerLost as error:
        seconds = time.monotonic() - began
        found = {"rank": error.rank, "peers": error.peers, "step": error.step}
        return {"said": str(error), "seconds": seconds, "me": dist.get_rank(), **found}
    return {"said": "nothing"}


def late() -> dict[str, Any]:
    """Let rank 1 come later than the process group waits; return what is said."""
    gossip = _gossip(group=dist.new_group(timeout=timedelta(seconds=1)))
    gossip.optimizer.step()
    if dist.get_rank() == 1:
        time.sleep(2)
        return {}
    try:
        gossip.optimizer.step()
    except PeerLost as error:
        return {"said": str(error), "lost": (error.rank, error.peers, error.step)}
    return {"said": "nothing"}


def deeper_than_declared() -> str:
    """Push twice before pulling with a transport that was told of one message; return what is said."""
    vector = _Vector("shared_memory", {torch.float32: 3}, sgp_core.build_topology("ring", world_size=2))
    try:
        for step in range(2):
            vector.network.push(vector.x, step, 1.0)
    except RuntimeError as error:
        return str(error)
    return "nothing"


def beside_each_other() -> dict[str, Any]:
    """Do in one group of workers what kills none of them."""
    return {"leftovers": leftovers(), "choices": choices(), "deeper": deeper_than_declared(), "late": late()}
