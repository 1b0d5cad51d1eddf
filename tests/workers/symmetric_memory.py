"""What real workers do in test_symmetric_memory.py: each function runs in every worker of one gloo group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.distributed.counters import SharedCounters
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.transports.p2p.transport import P2PTransport
from sgp_core.transports.symmetric_memory.transport import SymmetricMemoryTransport
from sgp_core.transports.symmetric_memory.weight_exchange import HostWeightExchange
from tests.support.process_fabric import ProcessFabric
from tests.workers import agreement
from tests.workers.backward_steps import PART_MB
from tests.workers.shared_memory import graphs

LAYOUTS = [{torch.float32: 5}, {torch.float64: 129, torch.bfloat16: 4_097}]
"""Elements per dtype: less than a wave's grain; two dtypes."""


def transport(like: FlatVector, tau: int, dawdle_s: float = 0.0) -> SymmetricMemoryTransport:
    slots = 2 * tau + 4
    fabric = ProcessFabric(dawdle_s)
    return SymmetricMemoryTransport(
        like, fabric, HostWeightExchange(SharedCounters(None, slots), slots), fabric.world_size, tau
    )


def differences(layouts: list[dict[torch.dtype, int]]) -> list[str]:
    """Let the same vectors travel both ways; return where the results differ, or what is left under way."""
    found = []
    chosen = graphs(dist.get_world_size())
    for number, topology in enumerate(chosen if dist.get_world_size() == 4 else chosen[-2:]):  # the least regular ones
        for tau in (0, 1 + number % 2):
            layout = layouts[-1] if tau else layouts[number // 2 % 2]
            ways = [_moved(make, layout, topology, tau) for make in (P2PTransport, _dawdling)]
            same = [torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(*ways, strict=True)]
            if not all(same):
                found.append(f"{layout} {topology} tau={tau}: {same}")
    return found


def _dawdling(like: FlatVector, group: None, tau: int) -> SymmetricMemoryTransport:
    return transport(like, tau, dawdle_s=2e-4)


def _moved(make: Callable[..., Any], layout: dict[torch.dtype, int], topology: Topology, tau: int) -> list[Any]:
    generator = torch.Generator().manual_seed(dist.get_rank())
    x = FlatVector([torch.randn(size, generator=generator).to(dtype) for dtype, size in layout.items()])
    network = DistributedNetwork(topology, None, made := make(x, None, tau))
    weight: Any = 1.0 + dist.get_rank()
    found: list[Any] = []
    for step in range(3 * tau + 3):
        network.scratch().copy_(x)
        if tau:
            kept = network.push(x, step, weight)
            weight = network.pull(x, step - tau, kept)
        else:
            weight = network.mix(x, step, weight)
            own = FlatVector([tensor * 2 for tensor in x.tensors])  # a vector that is not the parameters, and no weight
            network.mix(own, step)
            found += own.tensors
            network.post_ahead(x, step, weight)
            mixed = network.combine(x, step, weight, apart=step % 2 == 1)
            weight = network.complete(x.mul_(0.5), step, mixed)
        found += [*(tensor.clone() for tensor in x.tensors), weight]
    weight = network.drain(x, weight)
    made.settle()
    found += [*x.tensors, weight]
    if isinstance(made, SymmetricMemoryTransport):
        dist.barrier()
        left = [inbox.window.raised() for inbox in (made._mix_inbox, *made._inboxes) if inbox is not None]
        assert not any(left), f"flags are left up: {left}"
        assert not made._fabric.failed
    return found


def train(cases: list[tuple[Algorithm, Topology, str]], steps: int) -> list[dict[str, Any]]:
    """Train every case with models that travel so, one after another, in one group of workers."""
    results = []
    for number, (algorithm, topology, kind) in enumerate(cases):
        model = agreement.make_model()
        optimizer = agreement.make_optimizer(model.parameters(), kind)
        chosen: dict[str, Any] = {"algorithm": algorithm, "topology": topology, "transport": "p2p"}
        if number % 2 and not algorithm.traits.sends_ahead:
            chosen |= {"step_in_backward": True, "part_mb": PART_MB}
        gossip = sgp_core.Gossip(model, optimizer, **chosen)
        if gossip.world_size > 1:
            gossip.network.transport = transport(gossip.shard.flat, algorithm.traits.steps_in_flight, dawdle_s=1e-4)
        models, weights = [agreement.flatten(model)], [gossip.push_sum_weight]
        for step in range(steps):
            if step == steps // 2:  # as if stopped and resumed, with messages in flight
                gossip.load_state_dict(gossip.state_dict())
            inputs, targets = agreement.batch(gossip.rank, step)
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            models.append(agreement.flatten(model))
            weights.append(gossip.push_sum_weight)
            if step == steps // 3:
                with gossip.averaged():
                    pass
        gossip.finish()
        mass = torch.tensor(gossip.push_sum_weight, dtype=torch.float64)
        dist.all_reduce(mass)
        results.append(
            {
                "z": torch.stack(models),
                "w": torch.tensor(weights, dtype=torch.float64),
                "mass": float(mass),
                "transport": gossip.transport,
            }
        )
        gossip.close()
        dist.barrier()
    return results


def too_deep() -> str:
    """Push twice before pulling with a transport that was told of no message in flight; return what is said."""
    x = FlatVector([torch.zeros(3)])
    network = DistributedNetwork(
        sgp_core.build_topology("ring", world_size=dist.get_world_size()), None, transport(x, 0)
    )
    try:
        for step in range(2):
            network.push(x, step, 1.0)
    except RuntimeError as error:
        return str(error)
    return "nothing"


def memory() -> dict[str, int]:
    """Return how many windows are open after some steps of a graph whose in-degree changes."""
    topology = graphs(dist.get_world_size())[-1]
    x = FlatVector([torch.zeros(100)])
    opened = {}
    for tau in (0, 1):
        network = DistributedNetwork(topology, None, made := transport(x, tau))
        weight: Any = 1.0
        for step in range(8):
            weight = network.pull(x, step - 1, network.push(x, step, weight)) if tau else network.mix(x, step, weight)
        network.drain(x, weight)
        opened[f"tau={tau}"] = made._fabric.windows
    network = DistributedNetwork(topology, None, made := transport(x, 0))
    for step in range(8):
        network.post_ahead(x, step, 1.0)
        network.complete(x, step, network.combine(x, step, 1.0, apart=False))
    opened["ahead"] = made._fabric.windows
    return opened


def asked_for() -> str:
    """Return what is said to CPU workers that ask for symmetric memory."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    algorithm = sgp_core.build_algorithm("sgp")
    topology = sgp_core.build_topology("ring", world_size=dist.get_world_size())
    try:
        sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport="symmetric_memory")
    except ConfigurationError as error:
        return str(error)
    return "nothing"


def everything(layouts: list[dict[torch.dtype, int]], cases: list[Any], steps: int) -> dict[str, Any]:
    """Do all of it in one group of workers."""
    return {
        "differences": differences(layouts),
        "trained": train(cases, steps),
        "too deep": too_deep(),
        "memory": memory(),
        "asked": asked_for(),
    }
