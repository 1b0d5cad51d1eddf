"""What real workers do in test_gossip.py: each function runs in every worker of one gloo group."""

from __future__ import annotations

import gc
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.support.hosts import on_hosts
from tests.workers.agreement import Irregular, batch, flatten, make_algorithm, make_model, make_optimizer


class Awkward(nn.Module):
    """Tied, frozen and never-used parameters, three dtypes, channels_last convolutions, buffers of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.encode = nn.Linear(5, 7, bias=False)
        self.decode = nn.Linear(5, 7, bias=False)
        self.decode.weight = self.encode.weight
        self.frozen = nn.Parameter(torch.full((4,), float(dist.get_rank())), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3, 2))
        self.wide = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.narrow = nn.Parameter(torch.ones(9, dtype=torch.bfloat16))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.conv(images)).mean((2, 3))
        return (self.encode(hidden) + self.decode(hidden)).sum() * self.wide.float() + self.narrow.float().sum()


def exact_mean_of_an_awkward_model(transport: str) -> dict[str, Any]:
    """Average with learning rate 0 over two one-peer steps of four workers: the exact mean of every trainable."""
    torch.manual_seed(dist.get_rank())
    model = Awkward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=4)
    algorithm = sgp_core.build_algorithm("sgp")
    sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    alike = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.add_(dist.get_rank() * (number + 1))  # small integers: exact in every dtype
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        model(torch.randn(2, 3, 6, 6)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {
        "alike": alike,
        "before": before,
        "after": {name: p.detach().clone() for name, p in model.named_parameters()},
        "tied": model.encode.weight.data_ptr() == model.decode.weight.data_ptr(),
        "channels_last": model.conv.weight.is_contiguous(memory_format=torch.channels_last),
        "unused_has_gradient": model.unused.grad is not None,
    }


def _loss(model: nn.Module, step: int, dtype: torch.dtype = torch.float32) -> Tensor:
    inputs, targets = batch(dist.get_rank(), step, dtype)
    return nn.functional.cross_entropy(model(inputs), targets)


def allreduce_beside_ddp(kind: str, steps: int = 40) -> float:
    """Train both with clipping; return the largest difference of any parameter."""
    ours, theirs = make_model(torch.float32), make_model(torch.float32)
    wrapped = DistributedDataParallel(theirs)
    ours_optimizer, theirs_optimizer = (make_optimizer(m.parameters(), kind) for m in (ours, theirs))
    sgp_core.Gossip(ours, ours_optimizer, algorithm=sgp_core.build_algorithm("allreduce"))
    for step in range(steps):
        for model, optimizer in ((ours, ours_optimizer), (wrapped, theirs_optimizer)):
            _loss(model, step).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    return float((flatten(ours) - flatten(theirs)).abs().max())


def accumulation_beside_ddp() -> tuple[float, int]:
    """Accumulate over 3 micro-batches, a parameter used by some workers only; return difference and bytes."""
    torch.manual_seed(0)
    models = [nn.ModuleDict({"a": nn.Linear(64, 10), "b": nn.Linear(64, 10)}).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    wrapped = DistributedDataParallel(_Either(models[1]), find_unused_parameters=True)
    either = _Either(models[0])
    optimizers = [make_optimizer(model.parameters()) for model in models]
    gossip = sgp_core.Gossip(models[0], optimizers[0], algorithm=sgp_core.build_algorithm("allreduce"))
    for step in range(5):
        for micro in range(3):
            for model, skip in ((either, gossip.no_sync), (wrapped, wrapped.no_sync)):
                if micro < 2:
                    with skip():
                        _loss(model, 3 * step + micro, torch.float64).backward()
                else:
                    _loss(model, 3 * step + micro, torch.float64).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return float((flatten(models[0]) - flatten(models[1])).abs().max()), gossip.bytes_sent


class _Either(nn.Module):
    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, inputs: Tensor) -> Tensor:
        return self.parts["a"](inputs) + (self.parts["b"](inputs) if dist.get_rank() == 0 else 0)


def averaged_and_restored(transport: str) -> dict[str, Any]:
    """Train a BatchNorm model on an irregular graph, look at it inside and after ``averaged``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)).double()
    optimizer = make_optimizer(model.parameters())
    algorithm, topology = sgp_core.build_algorithm("sgp"), Irregular(dist.get_world_size())
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    for step in range(5):
        _loss(model, step, torch.float64).backward()
        optimizer.step()
        optimizer.zero_grad()
    _loss(model, 9, torch.float64).backward()
    own = {name: value.clone() for name, value in model.state_dict().items()}
    sent = gossip.bytes_sent
    with gossip.averaged():
        inside = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            optimizer.step()
            refused = False
        except RuntimeError:
            refused = True
    after = {name: value.clone() for name, value in model.state_dict().items()}
    compact = gossip.averaged_state_dict()
    return {
        "own": own,
        "inside": inside,
        "compact": all(torch.equal(value, inside[name]) for name, value in compact.items()),
        "after": after,
        "weight": gossip.push_sum_weight,
        "refused": refused,
        "uncounted": gossip.bytes_sent == sent,
        "step": gossip.step,
    }


def resumed(transport: str, algorithm: str, outer: str | None, kind: str) -> float:
    """Train 12 steps through; train 7, save, load into new objects and train 5: return the largest difference."""

    def build() -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
        model = make_model()
        optimizer = make_optimizer(model.parameters(), kind)
        topology = Irregular(4) if algorithm in ("sgp", "osgp") else None
        if algorithm == "dpsgd":
            topology = sgp_core.build_topology("one_peer_exponential", world_size=4)
        rule = make_algorithm(algorithm, outer)
        gossip = sgp_core.Gossip(model, optimizer, algorithm=rule, topology=topology, transport=transport)
        return model, optimizer, gossip

    def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            _loss(model, step, torch.float64).backward()
            optimizer.step()
            optimizer.zero_grad()

    model, optimizer, gossip = build()
    run(model, optimizer, range(7))
    saved, saved_optimizer = gossip.state_dict(), optimizer.state_dict()
    saved_optimizer = torch.utils._pytree.tree_map(
        lambda value: value.clone() if isinstance(value, Tensor) else value, saved_optimizer
    )
    run(model, optimizer, range(7, 12))
    other, other_optimizer, other_gossip = build()
    other_optimizer.load_state_dict(saved_optimizer)
    other_gossip.load_state_dict(saved)
    run(other, other_optimizer, range(7, 12))
    assert other_gossip.step == gossip.step == 12
    assert other_gossip.push_sum_weight == gossip.push_sum_weight
    assert other_gossip.bytes_sent == gossip.bytes_sent
    gossip.close()
    other_gossip.close()
    return float((flatten(model) - flatten(other)).abs().max())


def averaged_while_messages_are_in_flight(transport: str) -> dict[str, Any]:
    """Train 12 steps of overlapped SGP, looking at the average after each or never; finish both."""

    def train(look: bool) -> tuple[Tensor, list[Tensor], float]:
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        algorithm = sgp_core.build_algorithm("sgp", overlap_steps=2)
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=Irregular(4), transport=transport)
        averages = []
        for step in range(12):
            _loss(model, step, torch.float64).backward()
            optimizer.step()
            optimizer.zero_grad()
            if look or step == 11:
                gossip.consensus_distance()
                with gossip.averaged():
                    averages.append(flatten(model))
        gossip.finish()
        return flatten(model), averages, gossip.push_sum_weight

    looked, averages, weight = train(look=True)
    alone, [average], _ = train(look=False)
    return {"looked": looked, "alone": alone, "averages": averages, "average": average, "weight": weight}


def footprint(transport: str, **options: Any) -> dict[str, Any]:
    """Memory and messages of SGP: what Gossip adds, what a steady step allocates, what it sends."""
    model = nn.Sequential(nn.Linear(300, 400), nn.Linear(400, 200))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = tensor_bytes()
    topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
    algorithm = sgp_core.build_algorithm("sgp", **options)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    for _ in range(2 * topology.period):
        optimizer.step()  # without gradients: gossip alone
    dist.barrier()
    added = tensor_bytes() - before
    dist.barrier()
    sent = gossip.bytes_sent
    gossip.finish()  # torch's profiler may not survive messages that are posted or waited for while it does not look
    dist.barrier()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as steady:
        for _ in range(topology.period):
            optimizer.step()  # without gradients: gossip alone
        gossip.finish()
    gossip.close()
    allocations = [e.name for e in steady.events() if e.self_cpu_memory_usage > 0]
    return {
        "transport": gossip.transport,
        "added": added,
        "parameters": sum(p.numel() * 4 for p in model.parameters()),
        "allocations": allocations,
        "sent_per_step": (gossip.bytes_sent - sent) / topology.period,
        "groups": len(dist.distributed_c10d._world.pg_map),
        "seconds": gossip.communication_seconds,
    }


def allocations_beside_late_readers(transport: str) -> list[str]:
    """Return what a worker allocates that has to use its second send buffer for the first time.

    Even ranks are the last of every step until odd ranks, to which they send, stay behind: then the first buffer, which
    they have used alone, is still to be read.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    model = nn.Linear(30, 40)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("directed_ring", world_size=world_size)
    algorithm = sgp_core.build_algorithm("sgp", overlap_steps=1, order="adapt_then_combine")
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    for _ in range(3):
        for turn in (1, 0):
            if rank % 2 == turn:
                optimizer.step()
            dist.barrier()
    gossip.finish()
    folder = [tempfile.mkdtemp() if rank == 0 else ""]
    dist.broadcast_object_list(folder)
    store = dist.FileStore(f"{folder[0]}/store", world_size)  # a barrier would allocate
    evens = [f"{even} has sent twice" for even in range(0, world_size, 2)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as steady:
        optimizer.step()
        if rank % 2 == 1:
            store.wait(evens)
        optimizer.step()
        if rank % 2 == 0:
            store.set(evens[rank // 2], "")
        gossip.finish()
    gossip.close()
    dist.barrier()
    if rank == 0:
        shutil.rmtree(folder[0])
    return [event.name for event in steady.events() if event.self_cpu_memory_usage > 0]


def tensor_bytes() -> int:
    """Return the memory behind all tensors; of what several processes map, this one's fair part of what is used."""
    gc.collect()
    shared, part = [], 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            here = "/memfd:" in line
            if here:
                shared.append(tuple(int(end, 16) for end in line.split()[0].split("-")))
        elif line.startswith("Pss:") and here:
            part += 1024 * int(line.split()[1])
    storages = [t.untyped_storage() for t in gc.get_objects() if type(t) in (Tensor, nn.Parameter)]
    spans = [(storage.data_ptr(), storage.data_ptr() + storage.nbytes()) for storage in storages]
    total, last = 0, 0
    for begin, end in sorted(spans):  # one may lie in another: a parameter's in flat memory
        if not any(start <= begin < stop for start, stop in shared):
            total += max(0, end - max(begin, last))
            last = max(last, end)
    return total + part


def mistakes() -> dict[str, str]:
    """Provoke what Gossip refuses; return the messages."""
    said: dict[str, str] = {}
    rank = dist.get_rank()
    sgp = sgp_core.build_algorithm("sgp")
    topology = sgp_core.build_topology("one_peer_exponential", world_size=4)

    def refuse(name: str, model: nn.Module, parameters: Any, **options: Any) -> None:
        try:
            sgp_core.Gossip(model, torch.optim.SGD(parameters, lr=0.1), **options)
        except ConfigurationError as error:
            said[name] = str(error)

    model = nn.Linear(3, 2)
    different = nn.Linear(3, 2 + (rank == 2))
    refuse("different models", different, different.parameters(), algorithm=sgp, topology=topology)
    small = sgp_core.build_topology("one_peer_exponential", world_size=2)
    refuse("wrong size", model, model.parameters(), algorithm=sgp, topology=small)
    refuse("biased", model, model.parameters(), algorithm=sgp_core.build_algorithm("dpsgd"), topology=Irregular(4))
    refuse("foreign", model, nn.Linear(3, 2).parameters(), algorithm=sgp, topology=topology)
    frozen = nn.Linear(3, 2).requires_grad_(False)
    refuse("frozen", frozen, frozen.parameters(), algorithm=sgp, topology=topology)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sgp_core.Gossip(model, optimizer, algorithm=sgp, topology=topology)
    model.to(torch.float64)
    try:
        optimizer.step()
    except RuntimeError as error:
        said["moved"] = str(error)
    return said


def autocast_trains() -> tuple[float, float]:
    """Train in bf16 autocast with accumulation and clipping; return the loss of one batch before and after."""
    model = make_model(torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=4)
    sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"), topology=topology)
    before = _loss(model, 0).item()
    for step in range(60):
        for micro in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = _loss(model, 2 * step + micro)
            (loss / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return before, _loss(model, 0).item()


def everything() -> dict[str, Any]:
    """Do it all in one group of workers, one after another."""
    resumes = [
        ("sgp", None, "adamw"),
        ("sgp", "slowmo", "sgd"),
        ("osgp", None, "adamw"),
        ("osgp", "slowmo", "sgd"),
        ("local_sgd", "diloco", "adamw"),
        ("dpsgd", "bmuf", "sgd"),
    ]
    transported = {}
    ways = (("p2p", "aaaa", resumes), ("shared_memory", "aaaa", resumes[::2]), ("hierarchical", "aabb", resumes[1::2]))
    for transport, hosts, some in ways:
        with on_hosts(hosts):
            transported[transport] = {
                "footprint": footprint(transport),
                "footprint, ahead": footprint(transport, overlap_steps=1),
                "footprint, late": footprint(transport, overlap_steps=1, order="adapt_then_combine"),
                "beside late readers": allocations_beside_late_readers(transport),
                "in flight": averaged_while_messages_are_in_flight(transport),
                "awkward": exact_mean_of_an_awkward_model(transport),
                "averaged": averaged_and_restored(transport),
                "resumed": {case: resumed(transport, *case) for case in some},
            }
    return {
        **transported,
        "ddp sgd": allreduce_beside_ddp("sgd"),
        "ddp adamw": allreduce_beside_ddp("adamw"),
        "accumulation": accumulation_beside_ddp(),
        "mistakes": mistakes(),
        "autocast": autocast_trains(),
    }
