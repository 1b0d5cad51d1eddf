"""What real workers do in test_asynchronous.py, each at a pace of its own."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.errors import ConfigurationError
from sgp_core.topology import Topology
from tests.support.hosts import on_hosts
from tests.workers.agreement import batch, flatten, make_model, make_optimizer

STEPS = 40
SLOW = 2
NEAR = 1e-3
"""A consensus distance that averaging is to reach."""


def train_unevenly(algorithm: Algorithm, topology: Topology, kind: str, **chosen: Any) -> dict[str, Any]:
    """Train with one worker four times as slow, looking at the average on the way; record everything."""
    rank, model = dist.get_rank(), make_model()
    optimizer = make_optimizer(model.parameters(), kind)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, **chosen, record_events=True)
    models, weights = [flatten(model)], [gossip.push_sum_weight]
    for step in range(STEPS):
        inputs, targets = batch(rank, step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        time.sleep(0.008 if rank == SLOW else 0.002)
        optimizer.step()
        optimizer.zero_grad()
        models.append(flatten(model))
        weights.append(gossip.push_sum_weight)
        if step == 15:
            with gossip.averaged():
                pass
    gossip.finish()
    models.append(flatten(model))
    weights.append(gossip.push_sum_weight)
    dist.barrier()
    result = {
        "z": torch.stack(models),
        "w": torch.tensor(weights, dtype=torch.float64),
        "events": gossip.events,
        "staleness": gossip.staleness,
        "bytes": gossip.bytes_sent,
    }
    gossip.close()
    return result


def average_at_random_speeds(algorithm: Algorithm, topology: Topology, seed: int, **chosen: Any) -> dict[str, Any]:
    """Average random numbers without learning, meeting now and then; return numerators and weights at the meetings."""
    rank = dist.get_rank()
    model = nn.Sequential(nn.Linear(50, 7), nn.Linear(7, 5).double())  # two pieces, of two dtypes
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, **chosen)
    torch.manual_seed(100 * seed + rank)
    state = gossip.state_dict()
    state["parameters"] = [torch.randn_like(piece) for piece in state["parameters"]]
    gossip.load_state_dict(state)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    dice, at = random.Random(10 * seed + rank), [_mass(gossip)]
    while len(at) < 5 or (gossip.consensus_distance() > NEAR and len(at) < 50):
        for _ in range(15):  # the busier the machine, the fewer shares arrive in so few steps
            time.sleep(dice.choice((0.0, 0.0, 0.001, 0.004)))
            optimizer.step()
        at.append(_mass(gossip))
    distance = gossip.consensus_distance()
    gossip.close()
    return {"x": torch.stack([x for x, _ in at]), "w": [w for _, w in at], "distance": distance}


def _mass(gossip: sgp_core.Gossip) -> tuple[Tensor, float]:
    state = gossip.state_dict()
    return torch.cat(state["parameters"]).double() * state["push_sum_weight"], state["push_sum_weight"]


def one_stands_still(algorithm: Algorithm, topology: Topology, *, transport: str) -> dict[str, Any]:
    """One worker takes no step before all others have taken all of theirs."""
    rank, model = dist.get_rank(), nn.Linear(4, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    least = 1.0
    others = torch.ones(1)
    if rank == SLOW:
        for sender in (r for r in range(dist.get_world_size()) if r != SLOW):
            dist.recv(others, src=sender)
    for _ in range(30):
        model(torch.ones(1, 4, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        least = min(least, gossip.push_sum_weight)
    if rank != SLOW:
        dist.send(others, dst=SLOW)
    gossip.finish()
    distance, weight = gossip.consensus_distance(), gossip.push_sum_weight
    gossip.close()
    with gossip.averaged():  # as after the last step of training: nothing is under way any more
        assert torch.isfinite(flatten(model)).all()
    return {"least": least, "distance": distance, "weight": weight}


def one_is_stopped(algorithm: Algorithm, topology: Topology, *, transport: str) -> list[float]:
    """The process of one worker, threads and all, is stopped until all others have taken all of their steps."""
    rank, model = dist.get_rank(), nn.Linear(4, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    first, *others = (r for r in range(dist.get_world_size()) if r != SLOW)
    note = torch.tensor([os.getpid()])
    if rank == SLOW:
        dist.send(note, dst=first)
        os.kill(os.getpid(), signal.SIGSTOP)
    elif rank == first:
        dist.recv(note, src=SLOW)
        while Path(f"/proc/{int(note)}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
    try:
        for peer in others:  # now it is stopped
            _pass(note, first, peer)
        if rank != SLOW:
            _steps(model, optimizer, 30)
        for peer in others:
            _pass(note, peer, first)
    finally:
        if rank == first:
            os.kill(int(note), signal.SIGCONT)
    if rank == SLOW:
        _steps(model, optimizer, 30)
    gossip.finish()
    weights: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(weights, gossip.push_sum_weight)
    gossip.close()
    return weights


def _pass(note: Tensor, source: int, target: int) -> None:
    if dist.get_rank() == source:
        dist.send(note, dst=target)
    elif dist.get_rank() == target:
        dist.recv(note, src=source)


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        model(torch.ones(1, 4, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def one_calls(algorithm: Algorithm, topology: Topology, *, transport: str) -> dict[str, Any]:
    """One worker calls after a few steps; the others go on until they hear it, then all meet. Twice."""
    rank, model = dist.get_rank(), nn.Linear(4, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    weights, quiet = [], []
    for caller in (SLOW, 0):
        begun = gossip.step
        while not gossip.meeting_requested:
            _steps(model, optimizer, 1)
            if rank == caller and gossip.step == begun + 5:
                gossip.request_meeting()
            time.sleep(0.001)
        gossip.finish()
        quiet.append(not gossip.meeting_requested)
        weights.append(gossip.push_sum_weight)
        dist.barrier()
    gossip.close()
    return {"weights": weights, "quiet": quiet}


def one_closes(algorithm: Algorithm, topology: Topology, *, transport: str) -> str:
    """One worker closes before the others have finished; return what they are told."""
    rank, model = dist.get_rank(), nn.Linear(4, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    _steps(model, optimizer, 3)
    dist.barrier()
    said = ""
    if rank == SLOW:
        gossip.close()
    else:
        try:
            _steps(model, optimizer, 1_000_000)
        except RuntimeError as error:
            said = str(error)
    dist.barrier()
    gossip.close()
    return said


def resumed(algorithm: Algorithm, topology: Topology, **chosen: Any) -> dict[str, Any]:
    """Save wherever each worker is, load into new objects, and go on."""
    rank = dist.get_rank()

    def build() -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, **chosen)
        return model, optimizer, gossip

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for step in range(steps):
            inputs, targets = batch(rank, step)
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()

    model, optimizer, gossip = build()
    train(model, optimizer, 5 + 3 * rank)  # uneven
    state = gossip.state_dict()
    saved = _mass(gossip)
    train(model, optimizer, 4)
    dist.barrier()
    other_model, other_optimizer, other = build()
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(state)
    loaded = _mass(other)
    other_optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(20):
        for parameter in other_model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        other_optimizer.param_groups[0]["momentum"] = 0.0
        other_optimizer.step()
    after = _mass(other)
    step = other.step
    gossip.close()
    other.close()
    return {"saved": saved, "loaded": loaded, "after": after, "step": step}


def steady(algorithm: Algorithm, topology: Topology, *, transport: str) -> dict[str, Any]:
    """What a steady step allocates, how many vectors there are for messages, and how many groups."""
    model = nn.Linear(300, 400)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)

    def steps() -> None:
        for _ in range(8):
            optimizer.step()  # without gradients: gossip alone

    def buffers() -> int:
        return gossip.network.carrier.buffers_made if transport == "p2p" else 0

    steps()
    before = buffers()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        steps()
    new = buffers() - before
    for _ in range(10):
        steps()
    gossip.finish()
    gossip.close()
    return {
        "new_buffers": new,
        "buffers": buffers(),
        "allocations": [event.name for event in seen.events() if event.self_cpu_memory_usage > 0],
        "groups": len(dist.distributed_c10d._world.pg_map),
    }


def on_several_hosts(algorithm: Algorithm, topology: Topology, wanted: str) -> str | None:
    """Pretend that every worker is on a machine of its own; return the transport, or why there is none."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        with on_hosts("abcdefgh"):
            gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=wanted)
        gossip.close()
        return gossip.transport
    except ConfigurationError as error:
        return str(error)


def one_is_killed(algorithm: Algorithm, topology: Topology, transport: str, folder: Path, meets: bool) -> None:
    """Rank 1 is killed on its way; the others note what they are told."""
    rank, model = dist.get_rank(), nn.Linear(30, 20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    try:
        for step in range(1_000_000):
            if rank == 1 and step == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            model(torch.ones(1, 30)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(0.001)
            if meets and step == 20:
                gossip.finish()
    except RuntimeError as error:
        (folder / f"told-{rank}").write_text(str(error))
        os._exit(0)


def everything(
    transports: tuple[str, ...],
    uneven: list[tuple[Algorithm, Topology, str]],
    averages: list[tuple[Algorithm, Topology]],
    others: list[tuple[Algorithm, Topology]],
) -> dict[str, Any]:
    """Do it all in one group of workers, one after another, by transport."""
    return {
        transport: {
            "uneven": [train_unevenly(*case, transport=transport) for case in uneven],
            "averages": [
                average_at_random_speeds(*case, seed, transport=transport) for seed, case in enumerate(averages)
            ],
            "still": [one_stands_still(*case, transport=transport) for case in others],
            "stopped": one_is_stopped(*others[0], transport=transport),
            "closed": one_closes(others[0][0], sgp_core.build_topology("complete", world_size=4), transport=transport),
            "called": [one_calls(*case, transport=transport) for case in others],
            "resumed": [resumed(*case, transport=transport) for case in others],
            "steady": [steady(*case, transport=transport) for case in others],
            "hosts": [on_several_hosts(*case, wanted) for case in others for wanted in ("auto", transport)],
        }
        for transport in transports
    }
