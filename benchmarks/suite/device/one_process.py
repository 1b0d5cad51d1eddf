"""Workers that are threads of one process and really run beside each other on one GPU, each with two streams.

Processes on one GPU take turns, so that what is wrong in the order of streams may never show. Threads of one process
do not, and the GPU needs to map no memory of others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.distributed.exchange import Exchange
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.transports.symmetric_memory.transport import SymmetricMemoryTransport
from suite.device import problem
from suite.device.check import Check, Found, Place, at_most

_WORKERS = 4
_ELEMENTS = 300_000
_STEPS = 50
_DEADLINE_S = 30.0
_RATE = 0.1
_GRAPHS = ("one_peer_exponential", "ring", "irregular")
_MIXED = {False: "mixed in place", True: "differences apart"}


def checks() -> list[Check]:
    """Return the checks of the transport's streams."""
    titled = "symmetric_memory, streams of one process"
    cases = [("sgp", sgp_core.build_algorithm("sgp"), graph, False) for graph in _GRAPHS]
    for tau in (1, 2):
        late = sgp_core.build_algorithm("sgp", overlap_steps=tau, order="adapt_then_combine")
        cases += [(f"sgp, added {tau} late", late, graph, False) for graph in _GRAPHS[::2]]
    ahead = sgp_core.build_algorithm("osgp")
    cases += [(f"osgp, {_MIXED[apart]}", ahead, graph, apart) for graph in _GRAPHS for apart in (False, True)]
    return [
        *(
            Check(f"{titled}: {name} on {graph}", partial(streams, rule, graph, apart))
            for name, rule, graph, apart in cases
        ),
        *(Check(f"{titled}: {m} M parameters", partial(pace, m)) for m in (25, 100)),
    ]


def streams(algorithm: Algorithm, graph: str, apart: bool, place: Place) -> Found:
    """Let threads take steps of SGP, with kernels that dawdle in between; compare with the simulator.

    Args:
        algorithm: SGP in one of its forms.
        graph: who sends to whom.
        apart: where models are sent ahead, whether what is mixed is added after the optimizer's step.
        place: where it runs.
    """
    topology = problem.topology(graph, _WORKERS)
    targets = torch.randn(_WORKERS, _ELEMENTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = sgp_core.simulate(
        algorithm,
        topology,
        torch.zeros_like(targets),
        lambda z, step: z - targets,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=_RATE, momentum=0.9),
        steps=_STEPS,
        record_every=_STEPS,
    )

    def work(rank: int, transport: SymmetricMemoryTransport, flat: FlatVector) -> tuple[Tensor, float]:
        (x,) = flat.tensors
        target = targets[rank].to(x.device)
        optimizer = torch.optim.SGD([x], lr=_RATE, momentum=0.9)
        network = DistributedNetwork(topology, None, transport)
        network.rank, network.world_size = rank, _WORKERS
        worker = WorkerState(flat, optimizer, network, biased=algorithm.leaves_one(topology))
        worker.update_reads_model = apart
        for step in range(_STEPS):
            if x.is_cuda:
                torch.cuda._sleep((rank * 7919 + step * 104729) % 7 * 20_000)  # clock cycles
            x.grad = x - target
            algorithm.before_step(worker)
            optimizer.step()
            algorithm.after_step(worker)
            algorithm.receive(worker)
            worker.step += 1
            algorithm.send_ahead(worker)
        return x.cpu(), float(worker.weight)

    flight = algorithm.traits.steps_in_flight
    found = _in_threads(work, flight, place.device, torch.float64, _ELEMENTS)
    z = max(float((x - expected.z[-1, rank]).abs().max()) for rank, (x, _) in enumerate(found))
    w = max(abs(weight - float(expected.w[-1, rank])) for rank, (_, weight) in enumerate(found))
    return Found(at_most(1e-12, z=z, w=w), f"differs by {z:.1e} from the simulator", {"z": z, "w": w})


def pace(millions: int, place: Place) -> Found:
    """Time exchanges of two workers beside one copy and one mix each of the same bytes."""
    topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
    size = millions * 10**6

    def floor(rank: int, transport: SymmetricMemoryTransport, flat: FlatVector) -> float:
        (x,) = flat.tensors
        other = torch.zeros_like(x)
        return _timed(lambda: (other.copy_(x), x.lerp_(other, 0.5)))

    def exchange(rank: int, transport: SymmetricMemoryTransport, flat: FlatVector) -> float:
        part = Exchange.of(topology, rank, 0)
        return _timed(lambda: transport.mix(flat, part, None))

    least, taken = (max(_in_threads(act, 0, place.device, torch.float32, size, workers=2)) for act in (floor, exchange))
    said = f"{1e3 * taken:.2f} ms a step of two workers on one GPU, their copies and mixes alone {1e3 * least:.2f} ms"
    return Found("", said, {"step_ms": 1e3 * taken, "floor_ms": 1e3 * least, "bytes": 4 * size})


def _timed(act: Callable[[], Any], count: int = 20) -> float:
    for _ in range(3):
        act()
    torch.cuda.current_stream().synchronize()
    began = time.perf_counter()
    for _ in range(count):
        act()
    torch.cuda.current_stream().synchronize()
    return (time.perf_counter() - began) / count


def _in_threads(
    work: Callable[[int, SymmetricMemoryTransport, FlatVector], Any],
    tau: int,
    device: torch.device,
    dtype: torch.dtype,
    size: int,
    workers: int = _WORKERS,
) -> list[Any]:
    """Return what each of ``workers`` threads has found, in a stream of its own."""
    host = _Host(workers)

    def thread(rank: int) -> Any:
        torch.cuda.set_device(device)
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream(device)):
            flat = FlatVector([torch.zeros(size, dtype=dtype, device=device)])
            transport = SymmetricMemoryTransport(flat, _Streams(host, rank, device), _Weights(host), workers, tau)
            host.meet.wait()
            result = work(rank, transport, flat)
            torch.cuda.current_stream().synchronize()
            transport.settle()
            return result

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(thread, range(workers), timeout=_DEADLINE_S))


class _Host:
    """What the threads share."""

    def __init__(self, workers: int) -> None:
        self.meet = threading.Barrier(workers, timeout=_DEADLINE_S)
        self.windows: dict[tuple[int, int], Tensor] = {}
        self._flags: dict[tuple[int, ...], queue.SimpleQueue[torch.cuda.Event]] = {}
        self._weights: dict[tuple[int, int], float] = {}
        self._changed = threading.Condition()

    def flag(self, *which: int) -> queue.SimpleQueue[torch.cuda.Event]:
        return self._flags.setdefault(which, queue.SimpleQueue())

    def put_weight(self, rank: int, number: int, weight: float) -> None:
        with self._changed:
            self._weights[rank, number] = weight
            self._changed.notify_all()

    def wait_for_weight(self, rank: int, number: int) -> float:
        with self._changed:
            assert self._changed.wait_for(lambda: (rank, number) in self._weights, _DEADLINE_S)
            return self._weights[rank, number]


class _Weights:
    """Exchanges weights through a dictionary."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self._count = 0

    def send(self, exchange: Exchange, weight: float) -> int:
        self._count += 1
        self._host.put_weight(exchange.rank, self._count, weight)
        return self._count

    def receive(self, exchange: Exchange, number: int) -> list[float]:
        return [self._host.wait_for_weight(peer, number) for peer in exchange.in_peers]

    def interrupt(self, why: str) -> None:
        """Do nothing: no peer is missed."""


class _Streams:
    """A peer memory inside one process; a flag is an event that the stream of the peer waits for."""

    def __init__(self, host: _Host, rank: int, device: torch.device) -> None:
        self.rank = rank
        self.host = host
        self._device = device
        self._side = torch.cuda.Stream(device)
        self._opened = 0

    def open(self, nbytes: int) -> _StreamWindow:
        self._opened += 1
        memory = torch.zeros(nbytes, dtype=torch.uint8, device=self._device)
        torch.cuda.current_stream().synchronize()
        self.host.windows[self.rank, self._opened] = memory
        self.host.meet.wait()
        return _StreamWindow(self.host, self.rank, self._opened)

    def copy(self, into: Tensor, source: Tensor) -> None:
        into.copy_(source)

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        with torch.cuda.stream(self._side):
            yield

    def record_event(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record()
        return event

    def wait_event(self, event: torch.cuda.Event | None) -> None:
        if event is not None:
            torch.cuda.current_stream().wait_event(event)

    def settle(self) -> None:
        self._side.synchronize()


class _StreamWindow:
    """Memory of the one GPU; any process that knows its number reaches it."""

    def __init__(self, host: _Host, rank: int, number: int) -> None:
        self._host = host
        self._rank = rank
        self._number = number

    def tensor(self, rank: int, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        memory = self._host.windows[rank, self._number]
        return memory[offset : offset + size * dtype.itemsize].view(dtype)

    def signal(self, rank: int, channel: int) -> None:
        event = torch.cuda.Event()
        event.record()
        self._host.flag(self._number, channel, self._rank, rank).put(event)

    def wait(self, rank: int, channel: int) -> None:
        event = self._host.flag(self._number, channel, rank, self._rank).get(timeout=_DEADLINE_S)
        torch.cuda.current_stream().wait_event(event)
