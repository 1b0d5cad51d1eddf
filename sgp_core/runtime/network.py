"""The network of real workers: one torch.distributed process group, and a transport for the models."""

from __future__ import annotations

import atexit
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.comm_stats import CommunicationStats
from sgp_core.distributed.point_to_point import PointToPoint
from sgp_core.tensors.flat_vector import FlatVector, Scalar, as_operand
from sgp_core.timeline import Marks, Timeline, now
from sgp_core.topology import Topology
from sgp_core.transports import Exchange, Message, MessageContent, PostedMix, ReceivedMessage, Transport, concatenate


class DistributedNetwork(CommunicationStats):
    """What :class:`sgp_core.algorithms.Network` describes, over one process group.

    Args:
        topology: who talks to whom.
        group: the process group, None for the default one; without torch.distributed, a world of one.

    Attributes:
        transport: how vectors travel, to be set before they do; None in a world of one.
    """

    def __init__(self, topology: Topology, group: dist.ProcessGroup | None = None) -> None:
        alone = not dist.is_initialized()
        self.topology = topology
        self.group = group
        self.rank = 0 if alone else dist.get_rank(group)
        self.world_size = 1 if alone else dist.get_world_size(group)
        super().__init__()
        if not alone:
            _end_in_order()
        self.timeline: Timeline | None = None
        self.transport: Transport | None = None
        self._posted: list[tuple[FlatVector, PostedMix | None]] = []
        self._in_flight: dict[int, list[tuple[FlatVector, Message]]] = {}

    # -- what rules ask for ------------------------------------------------------------------------------------------
    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Begin to mix a part of the vector, which stays as it is until :meth:`mix`; a whole one is mixed then."""
        if self.transport is None or not x.is_part:
            return
        exchange = self._exchange(step)
        with self._timed("post", step, x) as self.transport.marks:
            own = float(weight) if weight is not None and x.first else None  # it goes with the first part
            self._posted.append((x, self.transport.post(x, exchange, own)))

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``sum_j P_ij(step) x_j`` in place; return the PushSum weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers. Or only a part is to be mixed.
        """
        if x.is_part:
            raise RuntimeError("a rule whose steps are taken inside backward posts in after_step and mixes in receive")
        if self.transport is None:
            return 1.0 if weight is None else weight
        exchange = self._exchange(step)
        own = None if weight is None else float(weight)
        posted, self._posted = self._posted, []
        with self._timed("mix", step, x) as marks:
            self.transport.marks = marks
            self._count(exchange, x, weighed=weight is not None)
            arrived = 0.0
            for part, message in posted:
                if message is None:  # nothing travels
                    return self.transport.mix(x, exchange, own)
                arrived += message.mix_into(part, marks)
            if not posted:
                return self.transport.mix(x, exchange, own)
            return 1.0 if own is None else exchange.own_weight * own + arrived

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Begin to send the shares of ``step``, keep ``P_ii x_i`` in place, and return ``P_ii w_i``."""
        if self.transport is None:
            return weight
        exchange = self._exchange(step)
        with self._timed("push", step, x) as self.transport.marks:
            own = float(weight) if x.first else None  # it goes with the first part
            self._count(exchange, x, weighed=own is not None)
            self._in_flight.setdefault(step, []).append((x, self.transport.push(x, exchange, own)))
            if exchange.own_weight != 1.0:
                x.mul_(exchange.own_weight)
            return exchange.own_weight * float(weight)

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Wait for what was pushed at ``step`` and add it to ``x``; return the weight with theirs added."""
        messages = self._in_flight.pop(step, ())
        if not messages:
            return weight
        with self._timed("pull", step, x) as marks:
            arrived = 0.0
            for part, message in messages:
                arrived += message.add_to(x.at(part), marks)
            return weight + arrived

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything that is in flight, and see everything off that this worker has sent."""
        for step in sorted(self._in_flight):
            weight = self.pull(x, step, weight)
        if self.transport is not None:
            self.transport.settle()
        return weight

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return FlatVector([]) if self.transport is None else self.transport.scratch()

    def share(self, tables: Tensor, step: int) -> Tensor:
        """Send a small tensor along the edges of ``step``; return those of the in-peers, ``[peers, ...]``."""
        exchange = self._exchange(step)
        arrived = tables.new_zeros(len(exchange.in_peers), *tables.shape)
        if self.transport is None or not (exchange.in_peers or exchange.out_peers):
            return arrived
        with self._timed("share", step, None):
            sends = [(tables, peer) for peer in exchange.out_peers]
            self._messages.send_and_receive(sends, zip(arrived, exchange.in_peers, strict=True), exchange)
            self.bytes_sent += len(sends) * tables.numel() * tables.element_size()
        return arrived

    def mean(self, x: FlatVector) -> None:
        """Replace ``x_i`` by the exact average over all workers, in place."""
        if self.world_size == 1:
            return
        with self._timed("mean", None, x):
            for work in [dist.all_reduce(tensor, group=self.group, async_op=True) for tensor in x.wire]:
                work.wait()
            for tensor in x.wire:
                tensor.div_(as_operand(self.world_size, tensor))
            self.bytes_sent += x.nbytes * 2 * (self.world_size - 1) // self.world_size

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Replace ``x_i`` by ``sum_j P_ij(step) x_j`` of another topology, in place."""
        if self.transport is None:
            return
        exchange = Exchange.of(topology, self.rank, step)
        with self._timed("mix", step, x) as self.transport.marks:
            self._count(exchange, x, weighed=False)
            self.transport.mix(x, exchange, None)

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Exchange a vector with each in-peer of ``step``, by messages of the process group whatever the transport.

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        exchange = self._exchange(step)
        if not exchange.in_peers:
            return
        with self._timed("swap", step, None):
            sends, receives = (
                [
                    (tensor, peer)
                    for peer, vector in zip(exchange.in_peers, vectors, strict=True)
                    for tensor in vector.tensors
                ]
                for vectors in (outgoing, incoming)
            )
            self._messages.send_and_receive(sends, receives, exchange)
            self.bytes_sent += sum(vector.nbytes for vector in outgoing)

    def in_degree(self, step: int) -> int:
        """Return how many in-peers there are at ``step``."""
        return len(self.topology.edges(step).in_peers[self.rank])

    def own(self, values: np.ndarray) -> Scalar:
        """Return this worker's of ``values``, ``[n]``."""
        return float(values[self.rank])

    # -- messages in flight, for checkpoints ---------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether anything pushed has not been pulled."""
        return bool(self._in_flight)

    def in_flight_content(self) -> dict[int, MessageContent]:
        """Wait until everything in flight has arrived, here and elsewhere; return copies by the step of sending."""
        content = {
            step: concatenate([message.content() for _, message in messages])
            for step, messages in sorted(self._in_flight.items())
        }
        if self.transport is not None:
            self.transport.settle()
        return content

    def load_in_flight(self, content: dict[int, MessageContent]) -> None:
        """Go on with what :meth:`in_flight_content` has returned, in place of what is in flight."""
        for messages in self._in_flight.values():
            for _, message in messages:
                message.discard()
        whole = FlatVector([])
        self._in_flight = {
            step: [(whole, ReceivedMessage(kept, self._exchange(step)))] for step, kept in content.items()
        }

    def set_aside(self) -> Callable[[], None]:
        """Wait as :meth:`in_flight_content` does; return what puts in flight again what is now, drained or not."""
        content = self.in_flight_content()
        return lambda: self.load_in_flight(content)

    # -- beside training -----------------------------------------------------------------------------------------------
    def broadcast(self, tensors: list[Tensor]) -> None:
        """Set every worker's tensors to rank 0's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=self._global(0), group=self.group)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over all workers."""
        if self.world_size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    @property
    def ranks(self) -> list[int]:
        """This worker alone."""
        return [self.rank]

    # -- inside ------------------------------------------------------------------------------------------------------
    def _global(self, rank: int) -> int:
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    @functools.cached_property
    def _messages(self) -> PointToPoint:
        """For what travels by messages whatever the transport; not to be asked for in a world of one."""
        return PointToPoint(self.group)

    def _exchange(self, step: int) -> Exchange:
        return Exchange.of(self.topology, self.rank, step)

    def _count(self, exchange: Exchange, x: FlatVector, *, weighed: bool) -> None:
        self.bytes_sent += len(exchange.out_peers) * (x.nbytes + (8 if weighed else 0))

    @contextmanager
    def _timed(self, verb: str, step: int | None, x: FlatVector | None) -> Iterator[Marks | None]:
        """Count the seconds inside; where a timeline records, give it what the transport notes."""
        start = time.perf_counter()
        timeline = self.timeline if self.timeline is not None and self.timeline.recording else None
        begin, marks = (now(), Marks()) if timeline is not None else (0, None)
        try:
            yield marks
        finally:
            self.seconds += time.perf_counter() - start
            if timeline is not None and marks is not None:
                nbytes = 0 if x is None else x.nbytes
                timeline.exchange(verb, begin, now(), step, nbytes, marks)


@functools.cache
def _end_in_order() -> None:
    """Let gloo's threads drop the tensors of the last collective before the interpreter ends, which they need its lock
    for: a thread that asks for the lock later takes the process down with it (SIGABRT)."""
    atexit.register(time.sleep, 0.05)
