"""Checks of several workers: their numbers, that hosts do not wait, what a step costs, what memory it takes."""

from __future__ import annotations

import time
from functools import partial

import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.runtime.network import DistributedNetwork
from suite.device import problem
from suite.device.check import Check, Found, Place, at_most

TOLERANCE = 1e-12
_PART_MB = 1000 / 2**20
"""Cuts the model into three parts."""
_ALGORITHMS = {
    "sgp": sgp_core.build_algorithm("sgp"),
    "dpsgd": sgp_core.build_algorithm("dpsgd"),
    "osgp": sgp_core.build_algorithm("osgp"),
    "dpsgd that adapts while it communicates": sgp_core.build_algorithm("dpsgd", order="adapt_while_communicate"),
    "osgp that adapts, then combines": sgp_core.build_algorithm("osgp", order="adapt_then_combine"),
}
_CASES = [
    (name, graph)
    for name in _ALGORITHMS
    for graph in ("one_peer_exponential", "ring", "irregular")
    if not (name.startswith("dpsgd") and graph == "irregular")  # not defined there
]


def checks(workers: int, transport: str, group: str) -> list[Check]:
    """Return the checks of ``workers`` workers that exchange models by ``transport``."""
    titled = f"{transport}, {workers} workers"
    found = [
        Check(f"{titled}: {algorithm} on {graph}", partial(agreement, transport, algorithm, graph), workers, group)
        for algorithm, graph in _CASES
    ]
    if transport != "symmetric_memory":
        return found
    found.append(Check(f"{titled}: no host waits for a GPU", no_waiting, workers, group))
    if workers == 2:
        found += [
            Check(f"{titled}: {millions} M parameters", partial(pace, millions), workers, group)
            for millions in (25, 100)
        ]
        found += [
            Check(f"{titled}: memory of {name}", partial(memory, name, copies), workers, group)
            for name, copies in (("sgp", 1), ("osgp", 1), ("osgp that adapts, then combines", 3))
        ]
    return found


def agreement(transport: str, name: str, graph: str, place: Place) -> Found:
    """Train twice, and compare with the simulator, and with each other.

    The second time, steps are taken inside backward, which gives the same bits. Where models are sent ahead, they are
    taken with a closure instead, so that what is mixed is added after the step: the rounding is another.
    """
    algorithm, topology = _ALGORITHMS[name], problem.topology(graph, place.size)
    (z, w, used, mass), (again, w_again, _, _) = (
        _train(transport, algorithm, graph, place, second) for second in (False, True)
    )
    expected = problem.simulated(algorithm, topology)
    apart = float((z - expected.z[:, place.rank]).abs().max())
    weights = float((w - expected.w[:, place.rank]).abs().max())
    problems = at_most(TOLERANCE, z=apart, w=weights, mass=abs(mass - place.size))
    if used != transport and transport != "auto":
        problems += f"; models travel by {used}"
    if algorithm.traits.sends_ahead:
        problems += at_most(TOLERANCE, z_with_closure=float((again - z).abs().max()))
    elif not torch.equal(z, again):
        problems += "; steps inside backward give other bits"
    if not torch.equal(w, w_again):
        problems += "; weights differ between both ways to step"
    return Found(problems, f"differs by {apart:.1e} from the simulator", {"z": apart, "w": weights})


def _train(
    transport: str, algorithm: Algorithm, graph: str, place: Place, second: bool
) -> tuple[torch.Tensor, torch.Tensor, str | None, float]:
    topology = problem.topology(graph, place.size)
    model = problem.make_model().to(place.device)
    optimizer = problem.make_optimizer(model.parameters())
    ahead = algorithm.traits.sends_ahead
    gossip = sgp_core.Gossip(
        model,
        optimizer,
        algorithm=algorithm,
        topology=topology,
        transport=transport,
        step_in_backward=second and not ahead,
        part_mb=_PART_MB,
    )
    inputs, targets = (tensor.to(place.device) for tensor in problem.examples(place.rank))
    models, weights = [problem.flatten(model)], [gossip.push_sum_weight]
    for step in range(problem.STEPS):
        nn.functional.mse_loss(model(inputs), targets).backward()
        if second and ahead:
            optimizer.step(lambda: 0.0)  # a closure might look at the model
        else:
            optimizer.step()
        optimizer.zero_grad()
        models.append(problem.flatten(model))
        weights.append(gossip.push_sum_weight)
        if step == problem.STEPS // 2:  # as if stopped and resumed, with messages in flight
            gossip.load_state_dict(gossip.state_dict())
            with gossip.averaged():
                pass
    used = gossip.transport
    gossip.finish()
    mass = torch.tensor([gossip.push_sum_weight], dtype=torch.float64, device=place.device)
    dist.all_reduce(mass)
    gossip.close()
    return torch.stack(models), torch.tensor(weights, dtype=torch.float64), used, float(mass)


def no_waiting(place: Place) -> Found:
    """Take steps while torch refuses whatever makes the host wait for the GPU."""
    problems = []
    late = "osgp that adapts, then combines"
    for name, graph in (("sgp", "ring"), ("sgp", "irregular"), ("osgp", "irregular"), (late, "irregular")):
        gossip, model, optimizer = _flat_model(name, graph, 10_000, place)
        _steps(model, optimizer, 4)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            _steps(model, optimizer, 10)
        except RuntimeError as error:
            problems.append(f"{name} on {graph}: {error}")
        finally:
            torch.cuda.set_sync_debug_mode("default")
        gossip.close()
    return Found("; ".join(problems))


def pace(millions: int, place: Place) -> Found:
    """Time a step's exchange on a ring beside the least it can cost: one copy and one mix of the same bytes."""
    gossip, _, _ = _flat_model("sgp", "one_peer_exponential", millions * 10**6, place)
    network = gossip.network
    assert isinstance(network, DistributedNetwork)
    x = gossip.shard.flat.tensors[0]
    other = torch.zeros_like(x)

    def floor() -> None:
        other.copy_(x)
        x.lerp_(other, 0.5)

    def exchange() -> None:
        network.mix(gossip.shard.flat, 0)

    together = _timed(exchange, 20)
    least = 0.0
    for rank in range(place.size):  # one after another: alone on the GPU
        dist.barrier()
        if rank == place.rank:
            least = _timed(floor, 20)
    dist.barrier()
    turns = -(-place.size // place.gpus)
    said = f"{1e3 * together:.2f} ms a step, floor {1e3 * least:.2f} ms"
    if turns > 1:
        said += f", {turns} processes take turns on a GPU"
    gossip.close()
    figures = {"step_ms": 1e3 * together, "floor_ms": 1e3 * least, "processes_per_gpu": turns}
    return Found("", said, {**figures, "bytes": x.numel() * x.element_size()})


def memory(name: str, copies: int, place: Place) -> Found:
    """Count the bytes of the GPU that Gossip takes beside the parameters."""
    size = 10**8
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    dist.barrier()
    before = torch.cuda.mem_get_info(place.device)[0]
    dist.barrier()
    gossip, _, optimizer = _flat_model(name, "one_peer_exponential", size, place, momentum=0.0)
    for _ in range(4):
        optimizer.step()  # without gradients: gossip alone
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    dist.barrier()
    here = -(-place.size // place.gpus)
    taken = (before - torch.cuda.mem_get_info(place.device)[0]) / here
    dist.barrier()
    gossip.close()
    nbytes = 4 * size
    extra = taken / nbytes - 1.0
    said = f"{extra:.2f} copies of the parameters beside them, expected {copies}"
    problem_ = "" if abs(extra - copies) < 0.3 else said
    return Found(problem_, said, {"extra_copies": extra, "parameters_bytes": nbytes})


def _flat_model(
    name: str, graph: str, size: int, place: Place, momentum: float = 0.9
) -> tuple[sgp_core.Gossip, nn.Module, torch.optim.Optimizer]:
    model = nn.ParameterList([nn.Parameter(torch.full((size,), 1.0 + place.rank, device=place.device))])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=momentum)
    algorithm, topology = _ALGORITHMS[name], problem.topology(graph, place.size)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport="symmetric_memory")
    return gossip, model, optimizer


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        for parameter in model.parameters():
            parameter.grad = parameter.detach() * 0.1
        optimizer.step()


def _timed(act: partial[None] | object, count: int) -> float:
    """Return the median seconds of one call, on a GPU that has nothing else to do."""
    assert callable(act)
    times = []
    for round_ in range(3 + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            act()
        torch.cuda.synchronize()
        if round_:
            times.append((time.perf_counter() - began) / count)
    return sorted(times)[len(times) // 2]
