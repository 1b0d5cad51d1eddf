"""Virtual workers that step one at a time: in turn, or in the order in which real workers did."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm, OneSided
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.asynchronous.retransmission import retransmits
from sgp_core.runtime.events import Event
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.simulator.lossy_network import LossyNetwork
from sgp_core.simulator.trajectory import Gradient, OptimizerFactory, Trajectory
from sgp_core.simulator.virtual_network import VirtualNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology

Rate = Callable[[int], float]


class _VirtualWorkers:
    """All virtual workers, and the messages between them."""

    def __init__(
        self,
        algorithm: Algorithm,
        topology: Topology,
        initial: Tensor,
        gradient: Gradient,
        optimizer: OptimizerFactory | None,
        lr: Rate | None,
        faults: LinkFaults | None = None,
    ) -> None:
        self._algorithm = algorithm
        self._gradient = gradient
        self._lr = lr
        self.pairs = algorithm.traits.one_sided is OneSided.pairs
        self.rows = [row.clone().unsqueeze(0).requires_grad_() for row in initial]
        self._steppers = [optimizer([row]) if optimizer else torch.optim.SGD([row], lr=0.1) for row in self.rows]
        self.networks: list[VirtualNetwork] = []
        again = retransmits(algorithm.traits, faults)
        for rank, row in enumerate(self.rows):
            arguments = topology, rank, FlatVector([row.data]), self.networks
            self.networks.append(
                LossyNetwork(*arguments, faults, retransmits=again) if faults else VirtualNetwork(*arguments)
            )
        biased = algorithm.leaves_one(topology)
        self.workers = [
            WorkerState(network.params, stepper, network, biased=biased)
            for network, stepper in zip(self.networks, self._steppers, strict=True)
        ]

    @property
    def z(self) -> Tensor:
        """All models, ``[n, d]``."""
        return torch.cat([row.detach() for row in self.rows])

    @property
    def w(self) -> Tensor:
        """All weights, ``[n]``."""
        return torch.tensor([float(worker.weight) for worker in self.workers], dtype=torch.float64)

    def in_flight(self) -> tuple[Tensor, Tensor]:
        """Return the sums of numerators and weights that are in no worker's model."""
        x, w = torch.zeros_like(self.rows[0].detach()), torch.zeros((), dtype=torch.float64)
        for network in self.networks:
            if self.pairs:
                x += network.model.tensors[0] - network.params.tensors[0]
            for share in network.under_way():
                x += share.x.tensors[0]
                w += share.weight
        return x.squeeze(0), w

    def step(self, rank: int, gradient: Tensor, script: Event | None = None) -> None:
        """Let one worker take its next step, up to what it receives."""
        worker, stepper = self.workers[rank], self._steppers[rank]
        self.networks[rank].script = script
        if self._lr is not None:
            for group in stepper.param_groups:
                group["lr"] = self._lr(worker.step)
        self.rows[rank].grad = gradient.clone().unsqueeze(0)
        self._algorithm.before_step(worker)
        stepper.step()
        self._algorithm.after_step(worker)

    def receive(self, rank: int) -> None:
        """Let one worker end its step."""
        self._algorithm.receive(self.workers[rank])
        self.workers[rank].step += 1

    def gradient(self, step: int) -> Tensor:
        """Return the gradients of step ``step`` at the models as they are, ``[n, d]``."""
        return self._gradient(self.z, step)

    def meet(self, rank: int, script: Event) -> None:
        """Let one worker add what was in flight to it at a meeting of all."""
        worker, network = self.workers[rank], self.networks[rank]
        network.script = script
        if self.pairs:
            network.look()
            return
        worker.params.mul_(worker.weight)
        worker.weight = network.collect(worker.params, worker.step, worker.weight, None)
        worker.params.div_(worker.weight)


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
    workers = _VirtualWorkers(algorithm, topology, initial, gradient, optimizer, lr, link_faults)
    records = [(0, workers.z, workers.w, *workers.in_flight())]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            gradients = workers.gradient(step)  # only a worker's own step changes the model it computes with
            for rank, row in enumerate(gradients):
                workers.step(rank, row)
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
    workers = _VirtualWorkers(algorithm, topology, initial, lambda z, step: z, optimizer, None, link_faults)
    records = [(0, workers.z, workers.w, *workers.in_flight())]
    for number, rank in enumerate(order, start=1):
        row = workers.rows[rank].detach().squeeze(0)
        workers.step(rank, gradient(row, rank, workers.workers[rank].step))
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
    workers = _VirtualWorkers(algorithm, topology, torch.as_tensor(initial).detach(), gradient, optimizer, lr)
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
            workers.step(rank, workers.gradient(event.step)[rank], event)
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


def _next(workers: _VirtualWorkers, waiting: list[deque[Event]], under_way: set[int]) -> Event:
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


def _ready(workers: _VirtualWorkers, event: Event, under_way: bool) -> bool:
    """Whether what ``event`` has seen is there, or it is a step that so far only leaves something."""
    if workers.pairs:
        versions = [workers.networks[rank].version for rank, _ in event.seen]
        return under_way or versions == [version for _, version in event.seen]
    inbox = {(share.sender, share.step) for share in workers.networks[event.worker].inbox}
    return not (under_way or event.meeting) or set(event.seen) <= inbox
