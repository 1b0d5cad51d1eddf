"""What real workers do in test_nodes.py: each function runs in every worker of one gloo group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.compression import COMPRESSIONS, Codec
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import Pace
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from tests.workers.agreement import batch, flatten, make_algorithm, make_model, make_optimizer, train_here

Case = tuple[Algorithm, Topology, str, int]
"""Algorithm, topology of nodes, optimizer, workers of a node."""


def train_cases(cases: list[Case], steps: int) -> list[dict[str, Any]]:
    """Train every case, one after another, in one group of workers."""
    results = []
    for algorithm, topology, kind, node_size in cases:
        results.append(train_here(algorithm, topology, kind, steps, node_size=node_size))
        dist.barrier()
    return results


def in_a_world_of_eight(cases: list[Case], steps: int, pace: Pace) -> dict[str, Any]:
    """Train the cases with all workers, and the first again paced, and as two nodes of every other worker."""
    results = train_cases(cases, steps)
    algorithm, irregular, kind, node_size = cases[0]
    paced = train_here(algorithm, irregular, kind, steps, node_size=node_size, pace=pace)
    odd = dist.new_group([1, 3, 5, 7])
    topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
    half = None
    if dist.get_rank() % 2:
        half = train_here(cases[0][0], topology, "sgd", steps, node_size=2, process_group=odd)
    dist.barrier()
    return {"cases": results, "half": half, "paced": paced}


def _pieces(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Two dtypes, a size that no node divides, buffers, a parameter that only rank 3 uses and one that no rank uses."""
    torch.manual_seed(dist.get_rank())
    model = nn.Sequential(nn.Linear(64, 9, bias=False), nn.BatchNorm1d(9), nn.Linear(9, 10)).double()
    model.register_parameter("sometimes", nn.Parameter(torch.ones(5, dtype=dtype)))
    model.register_parameter("never", nn.Parameter(torch.ones(3, dtype=dtype)))
    return model


def _gossip(
    model: nn.Module, overlap_steps: int, outer: bool = False, shard_optimizer: bool = False
) -> tuple[torch.optim.Optimizer, sgp_core.Gossip]:
    optimizer = make_optimizer(model.parameters())
    algorithm = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps)
    if outer:
        algorithm = sgp_core.build_outer("slowmo", algorithm, tau=4)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
    options = {"algorithm": algorithm, "topology": topology, "node_size": 2, "shard_optimizer": shard_optimizer}
    return optimizer, sgp_core.Gossip(model, optimizer, **options)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, gossip: sgp_core.Gossip, steps: range) -> None:
    for step in steps:
        parts = batch(gossip.rank, step)[0].split(4), batch(gossip.rank, step)[1].split(4)
        for micro, (inputs, targets) in enumerate(zip(*parts, strict=True)):
            loss = nn.functional.cross_entropy(model(inputs), targets) / 2
            if gossip.rank == 3 and hasattr(model, "sometimes"):
                loss = loss + model.sometimes.sum()
            if micro == 0:
                with gossip.no_sync():
                    loss.backward()
            else:
                loss.backward()
        gossip.clip_grad_norm_(1.0)
        optimizer.step()
        optimizer.zero_grad()


def averaged(overlap_steps: int) -> dict[str, Any]:
    """Train, look at the average, and leave; with accumulation, clipping and parameters that few or none use."""
    model = _pieces()
    optimizer, gossip = _gossip(model, overlap_steps)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    _train(model, optimizer, gossip, range(5))
    own = {name: value.clone() for name, value in model.state_dict().items()}
    sent = gossip.bytes_sent, gossip.bytes_sent_inside
    with gossip.averaged():
        inside = {name: value.clone() for name, value in model.state_dict().items()}
    assert sent == (gossip.bytes_sent, gossip.bytes_sent_inside)
    after = {name: value.clone() for name, value in model.state_dict().items()}
    result = {"start": start, "own": own, "inside": inside, "after": after}
    gossip.finish()
    finished = {name: value.clone() for name, value in model.state_dict().items()}
    distance = gossip.consensus_distance()
    gossip.close()
    return {**result, "finished": finished, "weight": gossip.push_sum_weight, "distance": distance}


def resumed(overlap_steps: int, outer: bool) -> float:
    """Train 20 steps through; train 11, save, load into new objects and train 9: return the largest difference."""
    model = make_model()
    optimizer, gossip = _gossip(model, overlap_steps, outer, shard_optimizer=outer)
    _train(model, optimizer, gossip, range(11))
    saved = torch.utils._pytree.tree_map(
        lambda value: value.clone() if isinstance(value, Tensor) else value,
        (gossip.state_dict(), optimizer.state_dict()),
    )
    _train(model, optimizer, gossip, range(11, 20))
    other = make_model()
    other_optimizer, other_gossip = _gossip(other, overlap_steps, outer, shard_optimizer=outer)
    other_optimizer.load_state_dict(saved[1])
    other_gossip.load_state_dict(saved[0])
    _train(other, other_optimizer, other_gossip, range(11, 20))
    for name in ("step", "push_sum_weight", "bytes_sent", "bytes_sent_inside"):
        assert getattr(gossip, name) == getattr(other_gossip, name)
    gossip.close()
    other_gossip.close()
    return float((flatten(model) - flatten(other)).abs().max())


def beside_sharded(name: str, outer: str | None, kind: str) -> dict[str, Any]:
    """Train with the optimizer on the whole model and on shards: groups, clipping, accumulation in both ways."""
    models, states, sent, norms = [], [], [], []
    for shard_optimizer in (False, True):
        model = _pieces(torch.float64)
        optimizer = make_optimizer([{"params": model[0].parameters(), "lr": 0.01}], kind)
        optimizer.add_param_group({"params": [*model[1:].parameters(), model.sometimes, model.never]})
        algorithm = make_algorithm(name, outer, **({"buffers": "average"} if outer else {}))
        topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
        options = {"topology": topology, "node_size": 2, "shard_optimizer": shard_optimizer}
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, **options)
        for step in range(10):
            for micro in range(2):  # both averaged, the second added to the first
                inputs, targets = batch(gossip.rank, 2 * step + micro)
                loss = nn.functional.cross_entropy(model(inputs), targets)
                (loss + model.sometimes.double().sum() if gossip.rank == 3 else loss).backward()
            norms.append(float(gossip.clip_grad_norm_(0.7)))
            optimizer.step()
            optimizer.zero_grad()
        gossip.finish()
        models.append(torch.cat([parameter.detach().double().reshape(-1) for parameter in model.parameters()]))
        states.append(sum(v.numel() for s in optimizer.state.values() for v in s.values() if v.dim()))
        sent.append((gossip.bytes_sent, gossip.bytes_sent_inside))
        gossip.close()
    whole, shard = torch.tensor(norms, dtype=torch.float64).view(2, -1)
    return {
        "model": float((models[0] - models[1]).abs().max()),
        "norm": float((whole - shard).abs().max()),
        "state": states,
        "sent": sent,
        "parameters": models[0].numel(),
    }


class _Scaled(nn.Module):
    """One parameter of its own, too small for every worker to have a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_model()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs) * self.scale


def beside_fsdp(name: str, outer: str | None, kind: str) -> dict[str, Any]:
    """Train with and without FSDP2 inside the node, with clipping, evaluation on the way and a resume."""

    def build(shards: bool) -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
        model = _Scaled()
        if shards:
            fully_shard(model.inner, mesh=mesh["node"])
            fully_shard(model, mesh=mesh["node"])  # its own parameter stays gathered after a forward pass
        optimizer = make_optimizer(model.parameters(), kind)
        algorithm = make_algorithm(name, outer, **({"buffers": "average"} if outer else {}))
        topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
        measured = sgp_core.build_pace("threshold", distance=1e3, every=1, steps=3) if name == "sgp" else None
        options = {"topology": topology, "node_size": 2, "pace": measured}
        return model, optimizer, sgp_core.Gossip(model, optimizer, algorithm=algorithm, **options)

    def full(model: nn.Module) -> Tensor:
        parts = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
        return torch.cat([part.detach().reshape(-1) for part in parts])

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("gossip", "node"))
    results, told, averages = [], [], []
    for shards in (False, True):
        model, optimizer, gossip = build(shards)
        seen, apart = [], []
        for step in range(12):
            _train(model, optimizer, gossip, range(step, step + 1))
            apart.append((gossip.consensus_distance(), gossip.consensus_estimate))
            if step % 4 == 1:
                with gossip.averaged(), torch.no_grad():
                    seen.append(model(batch(0, step)[0]))
            if step == 6 and shards:
                saved, saved_optimizer = gossip.state_dict(), optimizer.state_dict()
                gossip.close()
                model, optimizer, gossip = build(shards)
                optimizer.load_state_dict(saved_optimizer)
                gossip.load_state_dict(saved)
        gossip.finish()
        compact = gossip.averaged_state_dict()
        averages.append(torch.cat([compact[name].reshape(-1) for name, _ in model.named_parameters()]))
        told.append([(apart[found[0]][0], found[1]) for _, found in apart if found])
        results.append((full(model), torch.stack(seen), gossip.consensus_distance(), gossip.bytes_sent))
        gossip.close()
    (ours, ours_seen, distance, sent), (theirs, theirs_seen, their_distance, their_sent) = results
    return {
        "model": float((ours - theirs).abs().max()),
        "average": float((ours_seen - theirs_seen).abs().max()),
        "averaged_state_dict": float((averages[0] - averages[1]).abs().max()),
        "distance": abs(distance - their_distance),
        "sent": (sent, their_sent),
        "told": told,
    }


def changed_shard() -> tuple[str, int]:
    """Change a shard of FSDP2 while it is being sent: what is said, and the steps taken, one of them after that."""
    model = nn.Sequential(nn.Linear(8, 4))
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("gossip", "node"))["node"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
    gossip = sgp_core.Gossip(model, optimizer, algorithm="osgp", topology=pair, node_size=2)
    said = ""
    for step in range(4):
        model(torch.ones(2, 8)).square().sum().backward()
        if step == 3:
            with torch.no_grad():
                model[0].bias.clamp_(-0.01, 0.01)
        try:
            optimizer.step()
        except RuntimeError as error:
            said = str(error)
            gossip.finish()
            optimizer.step()
        optimizer.zero_grad()
    gossip.finish()
    gossip.close()
    return said, gossip.step


def mistakes() -> dict[str, str]:
    """Provoke what Gossip refuses; return the messages."""
    said: dict[str, str] = {}
    sgp = sgp_core.build_algorithm("sgp")
    for name, size, nodes in (("size", 3, 1), ("zero", 0, 4), ("topology", 2, 4)):
        model = nn.Linear(3, 2)
        topology = sgp_core.build_topology("ring", world_size=nodes)
        try:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            sgp_core.Gossip(model, optimizer, algorithm=sgp, topology=topology, node_size=size)
        except ConfigurationError as error:
            said[name] = str(error)
    for kind, steps in (("Adafactor", 0), ("SGD", 1)):
        model = nn.Linear(3, 2)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, **({"momentum": 0.9} if steps else {}))
        if steps:
            model(torch.ones(3)).sum().backward()
            optimizer.step()
        try:
            sgp_core.Gossip(model, optimizer, algorithm=sgp, node_size=2, shard_optimizer=True)
        except ConfigurationError as error:
            said[kind] = str(error)
    model = fully_shard(nn.Linear(3, 2), mesh=init_device_mesh("cpu", (4,)))
    for name, algorithm in (("mesh", sgp), ("gradients", sgp_core.build_algorithm("allreduce"))):
        try:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            sgp_core.Gossip(model, optimizer, algorithm=algorithm, node_size=2 if name == "mesh" else 4)
        except ConfigurationError as error:
            said[name] = str(error)
    return said


def compressed_cases() -> list[tuple[Codec, int]]:
    """Every codec between two nodes of two workers, some with messages under way: codec, tau."""
    thin = {"low_rank": {"rank": 2}}
    codecs = [COMPRESSIONS.build(name, **thin.get(name, {})) for name in COMPRESSIONS.names()]
    return [(codec, number % 3) for number, codec in enumerate(codecs)]


def compressed(steps: int) -> list[dict[str, Any]]:
    """Train every one of the compressed cases."""
    results = []
    for codec, tau in compressed_cases():
        algorithm = sgp_core.build_algorithm("sgp", overlap_steps=tau)
        pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
        results.append(train_here(algorithm, pair, "sgd", steps, compression=codec, node_size=2))
        dist.barrier()
    return results


def compressed_fsdp(name: str, overlap_steps: int, **options: Any) -> dict[str, Any]:
    """Average what FSDP2 has sharded, learning nothing, with a resume on the way."""
    node = init_device_mesh("cpu", (2, 2), mesh_dim_names=("gossip", "node"))["node"]
    codec = COMPRESSIONS.build(name, **options)

    def build() -> sgp_core.Gossip:
        model = _Scaled()
        fully_shard(model.inner, mesh=node)
        fully_shard(model, mesh=node)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        algorithm = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps)
        pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
        options = {"algorithm": algorithm, "topology": pair, "compression": codec, "node_size": 2}
        return sgp_core.Gossip(model, optimizer, **options)

    def steps(gossip: sgp_core.Gossip, count: int) -> None:
        for _ in range(count):
            gossip.optimizer.step()  # without gradients: gossip alone

    gossip = build()
    share = gossip.shard
    for tensor in share.flat.tensors:
        tensor.add_(torch.randn(tensor.shape, dtype=tensor.dtype) * (1 + dist.get_rank() // 2))
    mean = share.flat.tensors[0].clone()
    gossip.network.mean(FlatVector([mean]))
    share.spread()
    sent = gossip.bytes_sent
    steps(gossip, 7)
    saved = gossip.state_dict()
    steps(gossip, 80)
    other_gossip = build()
    other_gossip.load_state_dict(saved)
    steps(other_gossip, 80)
    pairs = zip(share.flat.tensors, other_gossip.shard.flat.tensors, strict=True)
    result = {
        "resumed": all(torch.equal(a, b) for a, b in pairs),
        "from_mean": float((share.flat.tensors[0] - mean).abs().max()),
        "sent": gossip.bytes_sent - sent,
        "expected": (87 - (overlap_steps == 1)) * (codec.nbytes(share.layout) + (8 if overlap_steps > 1 else 0)),
    }
    gossip.close()
    other_gossip.close()
    return result


def everything(cases: list[Case], steps: int) -> dict[str, Any]:
    """Do it all in one group of four workers."""
    return {
        "cases": train_cases(cases, steps),
        "averaged": [averaged(overlap_steps) for overlap_steps in (0, 2)],
        "resumed": [resumed(0, outer=False), resumed(2, outer=True)],
        "sharded": [beside_sharded(*case) for case in (("allreduce", "slowmo", "sgd"), ("osgp", None, "adamw"))],
        "fsdp": [beside_fsdp(*case) for case in (("sgp", "slowmo", "sgd"), ("osgp", None, "adamw"))],
        "compressed": compressed(steps),
        "compressed_fsdp": [compressed_fsdp("int8", 1), compressed_fsdp("low_rank", 0, rank=2)],
        "changed shard": changed_shard(),
        "mistakes": mistakes(),
    }


def make_cases() -> list[Case]:
    """Two nodes of two workers under everything, and one node of four."""
    pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
    alone = sgp_core.build_topology("complete", world_size=1)
    return [
        (make_algorithm("sgp"), pair, "sgd", 2),
        (make_algorithm("dpsgd"), pair, "adamw", 2),
        (make_algorithm("allreduce"), pair, "adamw", 2),
        (make_algorithm("local_sgd", "diloco"), pair, "adamw", 2),
        (make_algorithm("sgp", "slowmo", buffers="average"), pair, "sgd", 2),
        (sgp_core.build_algorithm("sgp", overlap_steps=2), pair, "sgd", 2),
        (make_algorithm("osgp", "slowmo"), pair, "adamw", 2),
        (make_algorithm("sgp"), alone, "sgd", 4),
        (make_algorithm("local_sgd"), sgp_core.build_topology("ring", world_size=4), "sgd", 1),
    ]
