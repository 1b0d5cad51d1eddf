"""What real workers do in test_compressed.py: each function runs in every worker of one gloo group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.profiler import ProfilerActivity, profile

import sgp_core
from sgp_core.compression import COMPRESSIONS, Codec
from sgp_core.runtime.compressed.network import CompressedNetwork
from sgp_core.topology import Topology
from tests.workers.agreement import Irregular, batch, flatten, make_model, make_optimizer
from tests.workers.features import Awkward

STEPS = 8


def graphs() -> list[Topology]:
    """Two graphs of four workers: a regular one, and one on which weights leave 1."""
    return [sgp_core.build_topology("one_peer_exponential", world_size=4), Irregular(4)]


def codecs() -> list[Codec]:
    """Every codec with its defaults."""
    return [COMPRESSIONS.build(name) for name in COMPRESSIONS.names()]


def _train(gossip: sgp_core.Gossip, model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs, targets = batch(dist.get_rank(), step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def cases() -> list[tuple[Codec, Topology, int]]:
    """Every codec on both graphs, with messages that are waited for and with some under way: codec, graph, tau.

    With tau = 1 they are of models that travel while gradients are computed.
    """
    regular, irregular = graphs()
    return [
        (codec, graph, tau)
        for codec in codecs()
        for graph, tau in ((regular, 0), (irregular, 0), (irregular, 1), (irregular, 2))
    ]


def train(codec: Codec, topology: Topology, tau: int) -> dict[str, Any]:
    """Train, and train again from a checkpoint half way; return models, weight, bytes, and whether the two agree.

    The second training looks at the average on its way. With two messages in flight it goes back to the checkpoint
    once more from its end, so that what is in flight then is given up.
    """

    def build() -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        options = {"algorithm": sgp_core.build_algorithm("sgp", overlap_steps=tau), "topology": topology}
        return model, optimizer, sgp_core.Gossip(model, optimizer, compression=codec, **options)

    model, optimizer, gossip = build()
    _train(gossip, model, optimizer, range(STEPS // 2))
    saved = gossip.state_dict()
    momenta = optimizer.state_dict()
    kept_momenta = [_copied(momenta) for _ in range(2)]
    _train(gossip, model, optimizer, range(STEPS // 2, STEPS - 1))
    given = network_of(gossip).replicas.state_dict()["given"]
    _train(gossip, model, optimizer, range(STEPS - 1, STEPS))
    result = {"z": flatten(model), "w": gossip.push_sum_weight, "bytes": gossip.bytes_sent}
    other, other_optimizer, other_gossip = build()
    again = []
    for kept in kept_momenta[: 2 if tau > 1 else 1]:
        other_optimizer.load_state_dict(kept)
        other_gossip.load_state_dict(saved)
        with other_gossip.averaged():
            mean = flatten(other)
        _train(other_gossip, other, other_optimizer, range(STEPS // 2, STEPS))
        again.append((flatten(other), other_gossip.push_sum_weight, other_gossip.bytes_sent))
    before = len(saved["in_flight"]), len(saved["ahead"])
    gossip.finish()
    total = _mass(gossip, model)
    parcels = network_of(gossip).replicas.payloads
    result |= {
        "resumed": all(torch.equal(z, result["z"]) and (w, b) == (result["w"], result["bytes"]) for z, w, b in again),
        "in_flight": before,
        "given": given if tau == 1 else network_of(gossip).replicas.state_dict()["given"],  # of what has arrived
        "taken": network_of(gossip).replicas.state_dict()["taken"],
        "mass": total[:-1] / 4,
        "weights": float(total[-1]),
        "mean_on_the_way": mean,
        "parcels": len(parcels._free),
    }
    gossip.close()
    other_gossip.close()
    return result


def network_of(gossip: sgp_core.Gossip) -> CompressedNetwork:
    """Return its network, which compresses."""
    assert isinstance(gossip.network, CompressedNetwork)
    return gossip.network


def _copied(state: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, state)


def changed_under_way(codec: Codec) -> list[float]:
    """Change models that are under way, after finish() and after a resume; return what that does to the masses."""
    found: list[float] = []
    state: dict[str, Any] = {}
    for _ in range(2):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1 if state else 0.0)
        options = {"algorithm": sgp_core.build_algorithm("osgp"), "topology": Irregular(4)}
        gossip = sgp_core.Gossip(model, optimizer, compression=codec, **options)
        if state:
            gossip.load_state_dict(state)
        else:
            _train(gossip, model, optimizer, range(5))
        gossip.finish()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5).add_(dist.get_rank())
        before = _mass(gossip, model)
        optimizer.zero_grad()
        for _ in range(3):
            optimizer.step()  # gossip alone
            found.append(float((_mass(gossip, model) - before).abs().max() / before.abs().max()))
        state = gossip.state_dict()
        gossip.close()
    return found


def _mass(gossip: sgp_core.Gossip, model: nn.Module) -> torch.Tensor:
    """Return the sums of numerators and of weights over all workers."""
    weight = torch.tensor([gossip.push_sum_weight], dtype=torch.float64)
    total = torch.cat([weight * flatten(model), weight])
    dist.all_reduce(total)
    return total


def awkward_mean(codec: Codec) -> float:
    """Average an awkward model, learning nothing; return the largest distance of a parameter from the mean."""
    torch.manual_seed(0)
    model = Awkward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=4)
    options = {"algorithm": sgp_core.build_algorithm("dpsgd"), "topology": topology}
    gossip = sgp_core.Gossip(model, optimizer, compression=codec, **options)
    trainable = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for number, parameter in enumerate(trainable):
            parameter.add_(dist.get_rank() * (number + 1))
    start = [p.detach().clone() for p in trainable]
    for mean in start:
        dist.all_reduce(mean.div_(4))
    for _ in range(40):
        gossip.optimizer.step()  # without gradients: gossip alone
    return max(float((p.detach() - mean).abs().max()) for p, mean in zip(trainable, start, strict=True))


def allocations(codec: Codec, tau: int) -> list[str]:
    """Return what a steady step allocates."""
    model = nn.Sequential(nn.Linear(300, 400), nn.Linear(400, 200))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=4)
    options = {"algorithm": sgp_core.build_algorithm("sgp", overlap_steps=tau), "topology": topology}
    gossip = sgp_core.Gossip(model, optimizer, compression=codec, **options)

    def step() -> None:
        gossip.optimizer.step()  # without gradients: gossip alone

    for _ in range(4 + tau):
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as steady:
        step()
        step()
        gossip.finish()  # torch's profiler crashes over messages that are waited for after its end
    gossip.close()
    return [event.name for event in steady.events() if event.self_cpu_memory_usage > 0]


def everything() -> dict[str, Any]:
    """Do it all in one group of workers, one after another."""
    return {
        "trained": [train(*case) for case in cases()],
        "changed": {name: changed_under_way(COMPRESSIONS.build(name)) for name in ("int8", "top_k", "low_rank")},
        "awkward": {name: awkward_mean(COMPRESSIONS.build(name)) for name in ("bf16", "fp16", "int8")},
        "allocations": {
            (name, tau): allocations(COMPRESSIONS.build(name), tau)
            for name in ("bf16", "fp16", "int8")
            for tau in (0, 1, 2)
        },
    }
