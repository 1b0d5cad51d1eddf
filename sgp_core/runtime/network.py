"""The network of workers that step together: one process group, and a transport for the models."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology
from sgp_core.topology.base import Edges
from sgp_core.transports.base import (
    Combination,
    Message,
    MessageContent,
    MixedCombination,
    PostedMix,
    ReceivedMessage,
    Transport,
    concatenate,
)

_GRAPHS_KEPT = 64
"""The number of graphs that a network remembers."""


class DistributedNetwork(WorkerNetwork):
    """What :class:`sgp_core.algorithms.Network` describes, over one process group of at least two workers.

    Args:
        topology: who sends to whom.
        group: the process group, None for the default one.
        transport: carries the vectors.

    Attributes:
        alike: whether all workers hold the same model, as before the first step: their average is known then.
    """

    def __init__(self, topology: Topology, group: dist.ProcessGroup | None, transport: Transport) -> None:
        super().__init__(topology, group)
        self.transport = transport
        self.alike = False
        self._period = topology.period
        self._graphs: dict[int, Edges] = {}  # by phase of the topology
        self._posted: list[tuple[FlatVector, PostedMix | None]] = []
        self._ahead: tuple[int, Combination] | None = None
        self._combining: Combination | None = None
        self._in_flight: dict[int, list[tuple[FlatVector, Message]]] = {}

    @property
    def transport_name(self) -> str:
        """The name of the transport."""
        return self.transport.name

    # -- verbs -------------------------------------------------------------------------------------------------------
    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Begin to mix a part of the vector, which stays as it is until :meth:`mix`; a whole one is mixed then."""
        if not x.is_part:
            return
        exchange = self._exchange(step)
        with self._timed("post", step, x) as self.transport.marks:
            own = float(weight) if weight is not None and x.first else None  # it goes with the first part
            self._posted.append((x, self.transport.post(x, exchange, own)))

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``sum_j P_ij(step) x_j`` in place; return the PushSum weight mixed alike (1 if None).

        Raises:
            PeerLost: a peer is gone.
            RuntimeError: only a part is to be mixed.
        """
        if x.is_part:
            raise RuntimeError("a rule whose steps are taken inside backward posts in after_step and mixes in receive")
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

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Begin to send ``z``, which stays as it is until it is combined at ``step``."""
        self.alike = False
        exchange = self._exchange(step)
        with self._timed("post", step, z) as self.transport.marks:
            own = None if weight is None else float(weight)
            post = getattr(self.transport, "post_ahead", None)  # a transport of a user's own may have none
            self._ahead = step, (post(z, exchange, own) if post else MixedCombination(self.transport, exchange))

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Replace ``z_i`` by ``sum_j P_ij w_j z_j`` in place, or keep the difference; return ``sum_j P_ij w_j``.

        What was not posted ahead is exchanged now, with the same result; models that are alike need not be.

        Raises:
            PeerLost: a peer is gone.
        """
        if self.is_average(weight):
            return 1.0
        if self._ahead is None:
            self.post_ahead(z, step, weight)
        assert self._ahead is not None
        (posted, message), self._ahead = self._ahead, None
        assert posted == step, "something else was posted ahead"
        exchange = self._exchange(step)
        own = None if weight is None else float(weight)
        with self._timed("combine", step, z) as marks:
            self._count(exchange, z, weighed=own is not None)
            arrived = message.combine(z, own, apart=apart, marks=marks)
        self._combining = message
        return 1.0 if own is None else exchange.own_weight * own + arrived

    def is_average(self, weight: Scalar | None) -> bool:
        """Whether a model is the average already, since all are alike and count alike."""
        return self.alike and weight is None

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Add to ``x`` what was kept apart; return ``weight``, 1 if None."""
        message, self._combining = self._combining, None
        if message is not None:
            with self._timed("complete", step, x):
                message.complete(x)
        return 1.0 if weight is None else weight

    @property
    def model_travels(self) -> bool:
        """Whether the model was posted ahead and not yet combined."""
        return self._ahead is not None

    def settle(self) -> None:
        """Wait until what was posted ahead has arrived and left."""
        if self._ahead is not None:
            self._ahead[1].settle()

    def recall(self) -> None:
        """Do so, and give it up; it will be sent anew."""
        self.settle()
        if self._ahead is not None:
            (_, message), self._ahead = self._ahead, None
            message.release()

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Begin to send the shares of ``step``, keep ``P_ii x_i`` in place, and return ``P_ii w_i``."""
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
        """Pull everything in flight, and wait until everything this worker has sent has left."""
        for step in sorted(self._in_flight):
            weight = self.pull(x, step, weight)
        self.transport.settle()
        return weight

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self.transport.scratch()

    def share(self, tables: Tensor, step: int) -> Tensor:
        """Send a small tensor along the edges of ``step``; return those of the in-peers, ``[peers, ...]``."""
        exchange = self._exchange(step)
        arrived = tables.new_zeros(len(exchange.in_peers), *tables.shape)
        if not (exchange.in_peers or exchange.out_peers):
            return arrived
        with self._timed("share", step, None):
            sends = [(tables, peer) for peer in exchange.out_peers]
            self._messages.send_and_receive(sends, zip(arrived, exchange.in_peers, strict=True), exchange)
            self.bytes_sent += len(sends) * tables.numel() * tables.element_size()
        return arrived

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Replace ``x_i`` by ``sum_j P_ij(step) x_j`` of another topology, in place."""
        exchange = Exchange.of(topology, self.rank, step)
        with self._timed("mix", step, x) as self.transport.marks:
            self._count(exchange, x, weighed=False)
            self.transport.mix(x, exchange, None)

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Exchange a vector with each in-peer of ``step``, by messages of the process group whatever the transport.

        Raises:
            PeerLost: a peer is gone.
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
        """Return the number of in-peers at ``step``."""
        return len(self._exchange(step).in_peers)

    # -- messages in flight --------------------------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether anything pushed has not been pulled."""
        return bool(self._in_flight)

    def keep_in_flight(self) -> Callable[[], None]:
        """Wait until what is in flight has arrived; return what puts it in flight again, drained since or not."""
        content = self._in_flight_content()
        self.settle()
        return lambda: self._load_in_flight(content)

    def forget_in_flight(self) -> None:
        """Wait until what is in flight has arrived, and give it up."""
        self._in_flight_content()
        self._load_in_flight({})
        self.recall()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs, messages in flight included; tensors are copies."""
        return {**super().state_dict(), "in_flight": self._in_flight_content(), "alike": self.alike}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Continue from :meth:`state_dict`."""
        super().load_state_dict(state, step)
        self.alike = bool(state.get("alike", False))
        self._load_in_flight(state["in_flight"])

    def restart(self, step: int) -> None:
        """Begin after ``step`` steps from the model as it is, alike on all workers, with nothing in flight."""
        self.alike = True

    def interrupt(self, why: str) -> None:
        """Let what waits for peers fail, in the transport too."""
        super().interrupt(why)
        interrupt = getattr(self.transport, "interrupt", None)
        if interrupt is not None:  # it waits for other things than messages
            interrupt(why)

    @functools.cached_property
    def _messages(self) -> PointToPoint:
        """Messages of the process group, for what does not go by the transport."""
        return PointToPoint(self.group)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _in_flight_content(self) -> dict[int, MessageContent]:
        """Wait until everything in flight has arrived, here and elsewhere; return copies by the step of sending."""
        content = {
            step: concatenate([message.content() for _, message in messages])
            for step, messages in sorted(self._in_flight.items())
        }
        self.transport.settle()
        return content

    def _load_in_flight(self, content: dict[int, MessageContent]) -> None:
        """Put ``content`` in flight, in place of what is."""
        for messages in self._in_flight.values():
            for _, message in messages:
                message.discard()
        whole = FlatVector([])
        self._in_flight = {
            step: [(whole, ReceivedMessage(kept, self._exchange(step)))] for step, kept in content.items()
        }

    def _exchange(self, step: int) -> Exchange:
        phase = step % self._period if self._period else step
        if phase not in self._graphs:
            if len(self._graphs) >= _GRAPHS_KEPT:
                self._graphs.clear()
            self._graphs[phase] = self.topology.edges(step)
        return Exchange.along(self._graphs[phase], self.rank, step)

    def _count(self, exchange: Exchange, x: FlatVector, *, weighed: bool) -> None:
        self.bytes_sent += len(exchange.out_peers) * (x.nbytes + (8 if weighed else 0))
