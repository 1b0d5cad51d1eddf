"""What real workers do in test_saving.py: save and load, what belongs together and what does not."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import sgp_core
from tests.workers.agreement import Irregular, batch, flatten, make_algorithm, make_optimizer

Built = tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]


def make_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Linear(12, 10)).double()


def build(name: str = "sgp", outer: str | None = None, kind: str = "adamw", shard: bool = False, **more: Any) -> Built:
    model = make_model()
    if shard:
        fully_shard(model, mesh=more.pop("mesh"))
    optimizer = make_optimizer(model.parameters(), kind)
    algorithm = more.pop("algorithm", None) or make_algorithm(name, outer)
    return model, optimizer, sgp_core.Gossip(model, optimizer, algorithm=algorithm, **more)


def train(built: Built, steps: range) -> None:
    model, optimizer, _ = built
    for step in steps:
        inputs, targets = batch(dist.get_rank(), step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def everything_of(built: Built) -> dict[str, Any]:
    """Return all numbers that a worker goes on from."""
    model, optimizer, gossip = built
    values = [p.to_local() if hasattr(p, "to_local") else p for p in [*model.parameters(), *model.buffers()]]
    momenta = [v for p in optimizer.state for _, v in sorted(optimizer.state[p].items()) if isinstance(v, Tensor)]
    momenta = [v.to_local() if hasattr(v, "to_local") else v for v in momenta]
    return {
        "numbers": torch.cat([v.detach().double().reshape(-1) for v in [*values, *momenta]]),
        "weight": gossip.push_sum_weight,
        "step": gossip.step,
    }


def say(act: Any) -> str:
    try:
        act()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def what_does_not_belong(folder: Path) -> dict[str, str]:
    """Load states of other workers, rules, graphs and models; return what is said."""
    star = {"topology": sgp_core.build_topology("star", world_size=4)}
    own = build(**star)
    train(own, range(3))
    state = own[2].state_dict()
    states: list[Any] = [None] * 4
    dist.all_gather_object(states, state)
    before = flatten(own[0])
    said = {"rank 0's": say(lambda: own[2].load_state_dict(states[0]))}
    assert torch.equal(before, flatten(own[0]))
    ring = {"topology": sgp_core.build_topology("ring", world_size=4)}
    others: dict[str, dict[str, Any]] = {
        "slowmo": {"outer": "slowmo", **star},
        "osgp": {"name": "osgp", **star},
        "overlap": {"algorithm": sgp_core.build_algorithm("sgp", overlap_steps=1), **star},
        "ring": ring,
        "pace": {"pace": sgp_core.build_pace("every", steps=4), **star},
        "nodes": {"node_size": 2},
    }
    for name, options in others.items():
        other = build(**options)
        said[name] = say(lambda other=other: other[2].load_state_dict(state))
        other[2].close()
    small = nn.Linear(64, 10).double()
    other_gossip = sgp_core.Gossip(small, make_optimizer(small.parameters()), algorithm=make_algorithm("sgp"), **star)
    said["model"] = say(lambda: other_gossip.load_state_dict(state))
    other_gossip.close()
    own[2].save(folder / "own")
    for name, kind, buffer in (("optimizer", "sgd", False), ("buffer", "adamw", True)):
        other = build(kind=kind, **star)
        if buffer:
            other[0].register_buffer("count", torch.zeros(2))
        said[name] = say(lambda other=other: other[2].load(folder / "own"))
        assert other[2].step == 0
        other[2].close()
    pair = dist.new_group([0, 1])
    if dist.get_rank() < 2:
        other = build(process_group=pair)
        said["two workers"] = say(lambda: other[2].load_state_dict(state))
        other[2].close()
    same = build(**star)
    said["same"] = say(lambda: same[2].load_state_dict(state))
    del state["identity"]  # as version 0.1 saved it
    said["0.1"] = say(lambda: same[2].load_state_dict(state))
    for each in (own, same):
        each[2].close()
    return said


def saved_and_loaded(folder: Path) -> dict[str, bool]:
    """Save, go on; load into new objects, go on: whether both are the same to the bit."""
    exponential = sgp_core.build_topology("one_peer_exponential", world_size=4)
    pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("gossip", "node"))["node"]
    cases: dict[str, dict[str, Any]] = {
        "in flight": {"algorithm": sgp_core.build_algorithm("sgp", overlap_steps=2), "topology": Irregular(4)},
        "sent ahead": {"name": "osgp", "topology": Irregular(4)},
        "coded ahead": {
            "name": "osgp",
            "topology": exponential,
            "compression": sgp_core.build_compression("int8"),
        },
        "outer": {"outer": "slowmo", "topology": exponential, "pace": sgp_core.build_pace("every", steps=2)},
        "compressed": {"topology": exponential, "compression": sgp_core.build_compression("int8")},
        "nodes": {"topology": pair, "node_size": 2, "shard_optimizer": True},
        "fsdp": {"topology": pair, "node_size": 2, "shard": True, "mesh": mesh},
    }
    same = {}
    for name, options in cases.items():
        built = build(**copy.copy(options))
        train(built, range(5))
        built[2].save(folder / name, extra={"epoch": 7, "rank": dist.get_rank()})
        train(built, range(5, 9))
        other = build(**copy.copy(options))
        train(other, range(2))
        extra = other[2].load(folder / name)
        train(other, range(5, 9))
        ours, theirs = everything_of(built), everything_of(other)
        same[name] = bool(torch.equal(ours.pop("numbers"), theirs.pop("numbers"))) and ours == theirs
        assert extra == {"epoch": 7, "rank": dist.get_rank()}
        built[2].finish()
        built[2].close()
        other[2].finish()
        other[2].close()
    return same


def spoiled(folder: Path) -> dict[str, Any]:
    """Let a save fail on one worker, and damage a file: what is said, and what is left."""
    rank = dist.get_rank()
    built = build()
    train(built, range(2))
    said: dict[str, Any] = {"nothing": say(lambda: built[2].load(folder / "nothing"))}
    built[2].save(folder / "spoiled")
    saved = everything_of(built)
    train(built, range(2, 4))
    broken = {"cannot be saved": (lambda: 0)} if rank == 2 else {}
    said["failed"] = say(lambda: built[2].save(folder / "spoiled", extra=broken))
    dist.barrier()
    said["files"] = len(list((folder / "spoiled").iterdir()))
    dist.barrier()
    built[2].load(folder / "spoiled")
    said["former"] = bool(torch.equal(saved["numbers"], everything_of(built)["numbers"]))
    train(built, range(2, 4))
    built[2].save(folder / "spoiled")
    dist.barrier()
    said["files after another"] = len(list((folder / "spoiled").iterdir()))
    before = everything_of(built)
    if rank == 0:
        [path] = (folder / "spoiled").glob("rank-3-*.pt")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    dist.barrier()
    said["damaged"] = say(lambda: built[2].load(folder / "spoiled", reshape=True))
    said["untouched"] = bool(torch.equal(before["numbers"], everything_of(built)["numbers"]))
    built[2].close()
    return said


def reshaped(folder: Path) -> dict[str, Any]:
    """Save four workers on an irregular graph with messages in flight; start two, and other rules, from that."""
    built = build(algorithm=sgp_core.build_algorithm("sgp", overlap_steps=2), topology=Irregular(4))
    train(built, range(5))
    built[2].save(folder / "four", extra={"epoch": 3})
    with built[2].averaged():
        average = flatten(built[0])
        running = built[0][1].running_mean.clone()
    momenta: list[Any] = [None] * 4
    mine = torch.cat([built[1].state[p]["exp_avg"].reshape(-1) for p in built[0].parameters()])
    dist.all_gather_object(momenta, mine)
    built[2].finish()
    built[2].close()
    exponential = {"topology": sgp_core.build_topology("one_peer_exponential", world_size=4)}
    cases: dict[str, dict[str, Any]] = {
        "outer": {"outer": "slowmo", **exponential},
        "relay": {"name": "relaysgd", "topology": sgp_core.build_topology("star", world_size=4)},
        "compressed": {"compression": sgp_core.build_compression("sign"), **exponential},
        "nodes": {"node_size": 2},
        "asynchronous": {"name": "asgp", "topology": Irregular(4)},
    }
    nodes = build(node_size=2, shard_optimizer=True)
    train(nodes, range(5))
    nodes[2].save(folder / "of nodes")
    with nodes[2].averaged():
        average_of_nodes = flatten(nodes[0])
    nodes[2].close()
    plain = build()
    fsdp = say(lambda: plain[2].load(folder / "fsdp", reshape=True))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        plain[2].load(folder / "of nodes", reshape=True)
    of_nodes = {
        "model": float((flatten(plain[0]) - average_of_nodes).abs().max()),
        "warned": [str(each.message) for each in warned],
        "fsdp": fsdp,
    }
    train(plain, range(1))
    of_nodes["late"] = say(lambda: plain[2].load(folder / "four", reshape=True))
    plain[2].finish()
    plain[2].close()
    pair = dist.new_group([0, 1])
    if dist.get_rank() < 2:
        cases["two workers"] = {"process_group": pair}
    results: dict[str, Any] = {"of nodes": of_nodes}
    for name, options in cases.items():
        other = build(**options)
        refused = say(lambda other=other: other[2].load(folder / "four"))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            extra = other[2].load(folder / "four", reshape=True)
        exp_avg = torch.cat([other[1].state[p]["exp_avg"].reshape(-1) for p in other[0].parameters()])
        results[name] = {
            "refused": refused,
            "warned": [str(each.message) for each in warned],
            "model": float((flatten(other[0]) - average).abs().max()),
            "buffers": float((other[0][1].running_mean - running).abs().max()),
            "momenta": float((exp_avg - sum(momenta) / 4).abs().max()),
            "weight": other[2].push_sum_weight,
            "step": other[2].step,
            "extra": extra,
        }
        with torch.no_grad():
            for group in other[1].param_groups:
                group["lr"] = 0.0
        for _ in range(6):
            other[1].step()  # without gradients: gossip alone, which keeps what all agree on
        other[2].finish()
        results[name]["kept"] = float((flatten(other[0]) - average).abs().max())
        dist.barrier(options.get("process_group"))
        other[2].close()
    return results


def everything(folder: str) -> dict[str, Any]:
    """Do it all in one group of four workers."""
    path = Path(folder)
    return {
        "does not belong": what_does_not_belong(path),
        "loaded": saved_and_loaded(path),
        "spoiled": spoiled(path),
        "reshaped": reshaped(path),
    }
