"""Virtual workers that step one at a time: in turn, or in the order in which real workers did."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.runtime.events import Event
from sgp_core.simulator.single_workers import GradientWorkers, Rate
from sgp_core.simulator.trajectory import Gradient, OptimizerFactory, Trajectory
from sgp_core.topology import Topology


def run_in_turn(
    algorithm: Algorithm,
    topology: Topology,
    initial: Tensor,
    gradient: Gradient,
    optimizer: OptimizerFactory | None,
    steps: int,
    lr: Rate | None,
    seed: int,
    record_every: int,
    link_faults: LinkFaults | None = None,
) -> Trajectory:
    """Let all workers take a step, rank after rank, ``steps`` times; arguments as of :func:`sgp_core.simulate`."""
    workers = GradientWorkers(algorithm, topology, initial, gradient, optimizer, lr, link_faults)
    records = [(0, workers.z, workers.w, *workers.in_flight())]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            gradients = workers.gradient(step)  # only a worker's own step changes the model it computes with
            for rank, row in enumerate(gradients):
                workers.step_with(rank, row)
                workers.receive(rank)
            if (step + 1) % record_every == 0 or step + 1 == steps:
                records.append((step + 1, workers.z, workers.w, *workers.in_flight()))
    at, *recorded = zip(*records, strict=True)
    z, w, x_in_flight, w_in_flight = map(torch.stack, recorded)
    return Trajectory(torch.tensor(at), z, w, x_in_flight, w_in_flight)


def run_in_order(
    algorithm: Algorithm,
    topology: Topology,
    initial: Tensor,
    gradient: Callable[[Tensor, int, int], Tensor],
    order: Sequence[int],
    *,
    optimizer: OptimizerFactory | None = None,
    record_every: int = 1,
    link_faults: LinkFaults | None = None,
) -> Trajectory:
    """Let one worker after another take a whole step, in any order, such as that of workers of unlike speed.

    What a worker computes with changes in its own steps only, so the moments at which steps end say everything.

    Args:
        algorithm: an asynchronous one.
        topology: who sends to whom.
        initial: starting models, ``[n, d]``.
        gradient: maps a worker's model, ``[d]``, its rank and its own step to a gradient, ``[d]``.
        order: the worker of each step.
        optimizer: makes a torch optimizer for each worker; default plain SGD, lr 0.1.
        record_every: steps of any worker between records.
        link_faults: what happens to messages; None: nothing.
    """
    initial = torch.as_tensor(initial).detach()
    workers = GradientWorkers(algorithm, topology, initial, None, optimizer, None, link_faults)
    records = [(0, workers.z, workers.w, *workers.in_flight())]
    for number, rank in enumerate(order, start=1):
        row = workers.rows[rank].detach().squeeze(0)
        workers.step_with(rank, gradient(row, rank, workers.workers[rank].step))
        workers.receive(rank)
        if number % record_every == 0 or number == len(order):
            records.append((number, workers.z, workers.w, *workers.in_flight()))
    at, *recorded = zip(*records, strict=True)
    z, w, x_in_flight, w_in_flight = map(torch.stack, recorded)
    return Trajectory(torch.tensor(at), z, w, x_in_flight, w_in_flight)


def replay(
    algorithm: Algorithm,
    topology: Topology,
    initial: Tensor,
    gradient: Gradient,
    events: Iterable[Event],
    *,
    optimizer: OptimizerFactory | None = None,
    lr: Rate | None = None,
) -> Trajectory:
    """Run an asynchronous algorithm again in the order in which real workers ran it.

    Args:
        algorithm: the one that ran.
        topology: the one it ran on.
        initial: starting models, ``[n, d]``.
        gradient: maps ``z`` ``[n, d]`` and a step to gradients ``[n, d]``; of the rows, the one worker's that is at
            that step is used.
        events: ``gossip.events`` of all workers, recorded from their first step on; each worker's in its order.
        optimizer: makes a torch optimizer like each worker's own; default plain SGD, lr 0.1.
        lr: learning rate at each of a worker's own steps; default what the optimizer was made with.

    Returns:
        Entry k holds every worker after its own k-th step, and one entry more the end, meetings included. Workers do
        not reach k at the same moment, so what is in flight is known for the end alone, and nan before.

    Raises:
        ValueError: the algorithm is not asynchronous, or the events do not fit each other.
    """
    if not algorithm.traits.asynchronous:
        raise ValueError("this algorithm is not asynchronous: there is no order of events to replay; use simulate")
    workers = GradientWorkers(algorithm, topology, torch.as_tensor(initial).detach(), gradient, optimizer, lr)
    waiting: list[deque[Event]] = [deque() for _ in workers.workers]
    for event in events:
        waiting[event.worker].append(event)
    z, w = [[row] for row in workers.z], [[weight] for weight in workers.w]
    under_way: set[int] = set()
    while any(waiting):
        event = _next(workers, waiting, under_way)
        rank = event.worker
        if event.meeting:
            workers.meet(rank, event)
        elif rank not in under_way:
            under_way.add(rank)
            workers.step_with(rank, workers.gradient(event.step)[rank], event)
            continue  # others may use what it left before it uses what they left
        else:
            under_way.remove(rank)
            workers.receive(rank)
            z[rank].append(workers.z[rank])
            w[rank].append(workers.w[rank])
        waiting[rank].popleft()
    most = max(map(len, z))
    for history in (*z, *w):
        history.extend([history[-1]] * (most - len(history)))
    at = torch.tensor([*range(most), most - 1])
    x_end, w_end = workers.in_flight()
    unknown_x, unknown_w = x_end.new_full((most, len(x_end)), torch.nan), w_end.new_full((most,), torch.nan)
    return Trajectory(
        at,
        torch.cat([torch.stack([torch.stack(rows) for rows in z], 1), workers.z.unsqueeze(0)]),
        torch.cat([torch.stack([torch.stack(weights) for weights in w], 1), workers.w.unsqueeze(0)]),
        torch.cat([unknown_x, x_end.unsqueeze(0)]),
        torch.cat([unknown_w, w_end.unsqueeze(0)]),
    )


def _next(workers: GradientWorkers, waiting: list[deque[Event]], under_way: set[int]) -> Event:
    """Return an event whose turn it is; before steps begin, those that only look at what the next may change."""
    heads = [queue[0] for queue in waiting if queue]
    for event in sorted(heads, key=lambda head: not (head.meeting or head.worker in under_way)):
        if _ready(workers, event, event.worker in under_way):
            return event
    stuck = heads[0]
    raise ValueError(
        f"the events do not fit each other: worker {stuck.worker} at its step {stuck.step} saw {list(stuck.seen)},"
        " which no worker left; pass the events of all workers, recorded from the first step on"
    )


def _ready(workers: GradientWorkers, event: Event, under_way: bool) -> bool:
    """Whether what ``event`` has seen is there, or it is a step that so far only leaves something."""
    if workers.pairs:
        versions = [workers.networks[rank].version for rank, _ in event.seen]
        return under_way or versions == [version for _, version in event.seen]
    inbox = {(share.sender, share.step) for share in workers.networks[event.worker].inbox}
    return not (under_way or event.meeting) or set(event.seen) <= inbox
