"""A network of real workers that sends coded differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sgp_core.compression import Codec
from sgp_core.runtime.compressed.coded_message import CodedMessage
from sgp_core.runtime.compressed.edge_replicas import EdgeReplicas, EdgeWeights
from sgp_core.runtime.compressed.payload import Payload
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.tensors.layout import Layout
from sgp_core.timeline import Marks, now
from sgp_core.topology import Topology
from sgp_core.transports.base import MessageContent, Transport


class CompressedNetwork(DistributedNetwork):
    """A network of real workers that sends what a codec makes of vectors, as messages of their process group.

    Messages leave from memory of their own and arrive in memory of their own, as many as are in flight at once and one
    more: with ``overlap_steps``, tau + 1 times the bytes of a step's messages each way. Nothing else is kept of them.

    Args:
        topology: who sends to whom.
        group: the process group, None for the default one.
        transport: carries what is not coded: exact averages do not need it, mixing along other topologies does.
        codec: how messages are coded.
        layout: the model's, or its shard's.
        start: what every worker holds before the first step; references start as it.

    Attributes:
        replicas: what both ends of each edge agree on.
    """

    codes = True

    def __init__(
        self,
        topology: Topology,
        group: dist.ProcessGroup | None,
        transport: Transport,
        codec: Codec,
        layout: Layout,
        start: FlatVector,
    ) -> None:
        super().__init__(topology, group, transport)
        self._codec = codec
        self._layout = layout
        self.replicas = EdgeReplicas(self.rank, codec, layout, start, topology)
        self._whole = start
        self._coded: dict[int, CodedMessage] = {}
        self._coded_ahead: dict[int, CodedMessage] = {}
        self._apart: FlatVector | None = None
        self._given_up: list[CodedMessage] = []

    # -- verbs -------------------------------------------------------------------------------------------------------
    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing: messages are coded in :meth:`mix`, all at once."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``x_i - sum_l P_li r_(i->l) + sum_j P_ij r_(j->i)``; return the weight mixed, exactly.

        Raises:
            PeerLost: a peer is gone.
        """
        with self._timed("mix", step, x) as marks:
            own = None if weight is None else float(weight)
            message = self._send(x, step, own, marks)
            arrived = message.add_to(x, marks)
            if marks is not None:
                marks.hidden.clear()  # behind a computation that there was not
            return 1.0 if own is None else message.part.own * own + arrived

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Code ``z`` and begin to send; nothing is taken off it, and it may change at once."""
        self.alike = False
        with self._timed("post", step, z) as marks:
            own = None if weight is None else float(weight)
            self._coded_ahead[step] = self._post(self.replicas.code, z, step, own, marks)

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Do what :meth:`mix` does to ``w_i z_i``, with replicas that follow ``z`` as it was posted ahead.

        Raises:
            PeerLost: a peer is gone.
        """
        if self.is_average(weight):
            return 1.0
        if step not in self._coded_ahead:
            self.post_ahead(z, step, weight)
        message, own = self._coded_ahead.pop(step), None if weight is None else float(weight)
        with self._timed("combine", step, z) as marks:
            self._count_coded(message, weighed=own is not None)
            mixed = self.transport.scratch().copy_(z) if apart else z
            if own is not None or apart:
                mixed.mul_((1.0 if own is None else own) - float(apart))
            arrived = message.exchange(mixed, own, marks)
        self._apart = mixed if apart else None
        return 1.0 if own is None else message.part.own * own + arrived

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Add to ``x`` what was kept apart; return ``weight``, 1 if None."""
        if self._apart is not None:
            with self._timed("complete", step, x):
                x.add_(self._apart)
            self._apart = None
        return 1.0 if weight is None else weight

    def settle(self) -> None:
        """Wait until what was posted ahead has arrived and left."""
        for message in self._coded_ahead.values():
            message.settle()

    def recall(self) -> None:
        """Do so. It is kept, since replicas have followed it; models may change."""
        self.settle()

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Begin to send, take ``sum_l P_li w_i r_(i->l)`` off ``x``, and return the weight that stays.

        Messages are coded all at once: of a vector in parts, when the last is pushed.
        """
        if not x.last:
            return weight
        if x.is_part:
            x = self._whole
        with self._timed("push", step, x) as marks:
            message = self._coded[step] = self._send(x, step, float(weight), marks)
            return message.part.own * float(weight)

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Wait for what was pushed at ``step``, add it to ``x``, and return the weight with theirs added.

        What was pushed is pulled in the order it was pushed in: replicas follow it message by message.
        """
        message = self._coded.pop(step, None)
        if message is None:
            return weight
        with self._timed("pull", step, x) as marks:
            return weight + message.add_to(x, marks)

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything in flight."""
        for step in sorted(self._coded):
            weight = self.pull(x, step, weight)
        return weight

    # -- messages in flight --------------------------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether anything pushed has not been pulled."""
        return bool(self._coded)

    def keep_in_flight(self) -> Callable[[], None]:
        """Wait until what is in flight has arrived; return what puts it, and the replicas it changes, back."""
        put_back = super().keep_in_flight()
        undo = self.replicas.keep_taken({peer for message in self._coded.values() for peer in message.part.takes})

        def restore() -> None:
            put_back()
            undo()

        return restore

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs; messages in flight mean something together with ``references`` only."""
        ahead = {step: message.content() for step, message in self._coded_ahead.items()}
        return {**super().state_dict(), "ahead": ahead, "references": self.replicas.state_dict()}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Continue from :meth:`state_dict`, after ``step`` steps, with the model already loaded."""
        super().load_state_dict(state, step)
        self._drop_ahead()
        self._coded_ahead = {at: self._arrived(kept, at) for at, kept in state.get("ahead", {}).items()}
        self.replicas.load_state_dict(state["references"])

    def forget_in_flight(self) -> None:
        """Wait until what is in flight has arrived, and give it up."""
        super().forget_in_flight()
        self._drop_ahead()

    def restart(self, step: int) -> None:
        """Begin from the model as it is: reference copies start as it."""
        super().restart(step)
        self._drop_ahead()
        self.replicas = EdgeReplicas(self.rank, self._codec, self._layout, self._whole, self.topology)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _in_flight_content(self) -> dict[int, MessageContent]:
        content = {step: message.content() for step, message in sorted(self._coded.items())}
        for message in self._coded.values():
            message.settle()
        return content

    def _load_in_flight(self, content: dict[int, MessageContent]) -> None:
        for message in self._coded.values():
            if not message.discard():
                self._given_up.append(message)  # receives stay posted, or later messages would be taken for these
        self._coded = {step: self._arrived(kept, step) for step, kept in content.items()}

    def _drop_ahead(self) -> None:
        self.recall()
        for message in self._coded_ahead.values():
            message.discard()
        self._coded_ahead = {}

    def _part(self, step: int) -> EdgeWeights:
        return EdgeWeights.of(self.topology, self.rank, step, self._codec.gamma)

    def _send(self, x: FlatVector, step: int, weight: float | None, marks: Marks | None) -> CodedMessage:
        message = self._post(self.replicas.give, x, step, weight, marks)
        self._count_coded(message, weighed=weight is not None)
        return message

    def _count_coded(self, message: CodedMessage, *, weighed: bool) -> None:
        self.bytes_sent += len(message.part.gives) * (self._codec.nbytes(self._layout) + 8 * weighed)

    def _post(
        self,
        code: Callable[[FlatVector, EdgeWeights, float | None], dict[int, Payload]],
        x: FlatVector,
        step: int,
        weight: float | None,
        marks: Marks | None,
    ) -> CodedMessage:
        """Begin to send what ``code`` makes of ``x``, and to receive."""
        part, exchange, weighed = self._part(step), self._exchange(step), weight is not None
        receive_buffers = self.replicas.payloads.take(part.takes)
        send_buffers = code(x, part, weight)
        arrivals, departures = self._messages.post(
            self._operations(self._messages.receive, receive_buffers, weighed),
            self._operations(self._messages.send, send_buffers, weighed),
            exchange,
        )
        if marks is not None:
            marks.posted = now()
        message = CodedMessage(self.replicas, part, exchange, receive_buffers, weighed=weighed)
        message.start(send_buffers, arrivals, departures, marks)
        return message

    def _operations(
        self, operation: Callable[[Tensor, int], dist.P2POp], payloads: Mapping[int, Payload], weighed: bool
    ) -> list[dist.P2POp]:
        contents = {peer: payload.bytes(weighed=weighed) for peer, payload in payloads.items()}
        return [operation(content, peer) for peer, content in contents.items() if len(content)]

    def _arrived(self, content: MessageContent, step: int) -> CodedMessage:
        part = self._part(step)
        receive_buffers = self.replicas.payloads.take(part.takes)
        for payload, ([kept], _) in zip(receive_buffers.values(), content, strict=True):
            payload.bytes().copy_(kept)
        return CodedMessage(self.replicas, part, self._exchange(step), receive_buffers, weighed=True)
