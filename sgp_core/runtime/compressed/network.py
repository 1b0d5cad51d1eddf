"""A network of real workers that sends coded differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from sgp_core.compression import Codec
from sgp_core.runtime.compressed.edge_replicas import EdgeReplicas, EdgeWeights
from sgp_core.runtime.compressed.payload import Payload
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.tensors.layout import Layout
from sgp_core.timeline import Marks, now
from sgp_core.transports import Exchange, MessageContent

_AT_ONCE_NS = 100_000
"""A wait that takes no longer found its message there already."""


class CompressedNetwork(DistributedNetwork):
    """A network of real workers that sends what a codec makes of vectors, as messages of their process group.

    Messages leave from memory of their own and arrive in memory of their own, as many as are under way at once and one
    more: with ``overlap_steps``, tau + 1 times the bytes of a step's messages each way. Nothing else is kept of them.

    Args:
        codec: how messages are coded.
        options: as for :class:`DistributedNetwork`.
    """

    def __init__(self, codec: Codec, *options: Any) -> None:
        super().__init__(*options)
        self._codec = codec
        self._references: EdgeReplicas | None = None
        self._whole = FlatVector([])
        self._coded: dict[int, _CodedMessage] = {}
        self._given_up: list[_CodedMessage] = []

    def begin(self, layout: Layout, start: FlatVector) -> None:
        """Let references start as ``start``, of this layout, which every worker holds."""
        self._references = EdgeReplicas(self.rank, self._codec, layout, start, self.topology)
        self._whole = start

    # -- what rules ask for ------------------------------------------------------------------------------------------
    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing: messages are coded in :meth:`mix`, all at once."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``x_i - sum_l P_li r_(i->l) + sum_j P_ij r_(j->i)``; return the weight mixed, exactly.

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        if self.transport is None:
            return 1.0 if weight is None else weight
        with self._timed("mix", step, x) as marks:
            own = None if weight is None else float(weight)
            message = self._send(x, step, own, marks)
            arrived = message.add_to(x, marks)
            if marks is not None:
                marks.hidden.clear()  # behind a computation that there was not
            return 1.0 if own is None else message.part.own * own + arrived

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Begin to send, take ``sum_l P_li w_i r_(i->l)`` off ``x``, and return the weight that stays.

        Messages are coded all at once: of a vector in parts, when the last is pushed.
        """
        if self.transport is None:
            return weight
        if not x.last:
            return weight
        if x.is_part:
            x = self._whole
        with self._timed("push", step, x) as marks:
            message = self._coded[step] = self._send(x, step, float(weight), marks)
            return message.part.own * float(weight)

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Wait for what was pushed at ``step``, add it to ``x``, and return the weight with theirs added.

        What was pushed is pulled in the order it was pushed in: copies follow it message by message.
        """
        message = self._coded.pop(step, None)
        if message is None:
            return weight
        with self._timed("pull", step, x) as marks:
            return weight + message.add_to(x, marks)

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""
        for step in sorted(self._coded):
            weight = self.pull(x, step, weight)
        return weight

    # -- messages in flight, for checkpoints -------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether anything pushed has not been pulled."""
        return bool(self._coded)

    def in_flight_content(self) -> dict[int, MessageContent]:
        """Wait until everything in flight has arrived, here and elsewhere; return the parcels by the step of sending.

        What they mean depends on :meth:`references`: the two belong together.
        """
        content = {step: message.content() for step, message in sorted(self._coded.items())}
        for message in self._coded.values():
            message.settle()
        return content

    def load_in_flight(self, content: dict[int, MessageContent]) -> None:
        """Go on with what :meth:`in_flight_content` has returned, in place of what is in flight."""
        for message in self._coded.values():
            if not message.discard():
                self._given_up.append(message)  # receives stay posted, or later messages would be taken for these
        self._coded = {step: self._arrived(kept, step) for step, kept in content.items()}

    def set_aside(self) -> Callable[[], None]:
        """Return what puts in flight again what is now, and copies back to where they are."""
        put_back = super().set_aside()
        references = self._agreed()
        undo = references.keep_taken({peer for message in self._coded.values() for peer in message.part.takes})

        def restore() -> None:
            put_back()
            undo()

        return restore

    def references(self) -> dict[str, Any]:
        """Return what a resume needs of the references."""
        return self._agreed().state_dict()

    def load_references(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`references`."""
        self._agreed().load_state_dict(state)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _agreed(self) -> EdgeReplicas:
        assert self._references is not None, "begin() was not called"
        return self._references

    def _part(self, step: int) -> EdgeWeights:
        return EdgeWeights.of(self.topology, self.rank, step, self._codec.gamma)

    def _send(self, x: FlatVector, step: int, weight: float | None, marks: Marks | None) -> _CodedMessage:
        references, part, weighed = self._agreed(), self._part(step), weight is not None
        inbox = references.parcels.take(part.takes)
        outbox = references.give(x, part, weight)
        messages, contents = self._messages, partial(_contents, weighed=weighed)
        arrivals, departures = messages.post(
            [messages.receive(*content) for content in contents(inbox)],
            [messages.send(*content) for content in contents(outbox)],
        )
        if marks is not None:
            marks.posted = now()
        self.bytes_sent += sum(parcel.bytes(weighed=weighed).numel() for parcel in outbox.values())
        message = _CodedMessage(references, part, self._exchange(step), inbox, weighed=weighed)
        message.under_way(outbox, arrivals, departures, marks)
        return message

    def _arrived(self, content: MessageContent, step: int) -> _CodedMessage:
        references, part = self._agreed(), self._part(step)
        inbox = references.parcels.take(part.takes)
        for parcel, ([kept], _) in zip(inbox.values(), content, strict=True):
            parcel.bytes().copy_(kept)
        return _CodedMessage(references, part, self._exchange(step), inbox, weighed=True)


def _contents(payloads: Mapping[int, Payload], *, weighed: bool) -> list[tuple[Tensor, int]]:
    """Return the bytes that travel, if any, each with the peer that sends or receives them."""
    contents = [(payload.bytes(weighed=weighed), peer) for peer, payload in payloads.items()]
    return [(content, peer) for content, peer in contents if len(content)]


class _CodedMessage:
    """What has been sent and is being received of one step; without :meth:`under_way`, what has arrived."""

    def __init__(
        self,
        references: EdgeReplicas,
        part: EdgeWeights,
        exchange: Exchange,
        inbox: Mapping[int, Payload],
        *,
        weighed: bool,
    ) -> None:
        self.part = part
        self._references = references
        self._exchange = exchange
        self._inbox = inbox
        self._weighed = weighed
        self._outbox: Mapping[int, Payload] = {}
        self._arrivals: Sequence[Any] = ()
        self._departures: Sequence[Any] = ()
        self._posted = 0

    def under_way(
        self, outbox: Mapping[int, Payload], arrivals: Sequence[Any], departures: Sequence[Any], marks: Marks | None
    ) -> None:
        """Say what has been handed to the process group."""
        self._outbox, self._arrivals, self._departures = outbox, arrivals, departures
        self._posted = 0 if marks is None else marks.posted

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, add what the in-peers have given to ``x``, and give the memory back; return their weights. Once only.

        What was sent has left by then as well, since memory is only bounded if somebody waits for that.
        """
        self._arrive(marks)
        weight = self._references.take(x, self.part, self._inbox, weighed=self._weighed)
        self._references.parcels.put_back(self._inbox.values())
        self.settle()
        return weight

    def content(self) -> MessageContent:
        """Wait and return copies of the in-peers' parcels, in the order of ``in_peers``."""
        self._arrive()
        return [([parcel.bytes().clone()], float(parcel.weight)) for parcel in self._inbox.values()]

    def settle(self) -> None:
        """Return once everything has left."""
        self._wait(self._departures)
        self._references.parcels.put_back(self._outbox.values())
        self._departures, self._outbox = (), {}

    def discard(self) -> bool:
        """Give it up, in place of :meth:`add_to`; return whether everything had arrived, so that nothing is left."""
        if self._arrivals or self._departures:
            return False
        self._references.parcels.put_back(self._inbox.values())
        return True

    def _arrive(self, marks: Marks | None = None) -> None:
        begin = now()
        for peer, work in zip(self._inbox, self._arrivals, strict=False):
            looked = now()
            self._wait([work])
            if marks is not None:
                marks.posted, marks.arrived[peer] = self._posted, now()
                if marks.arrived[peer] - looked <= _AT_ONCE_NS:
                    marks.hidden.add(peer)
        self._wait(self._arrivals[len(self._inbox) :])
        self._arrivals = ()
        if marks is not None:
            marks.waited += now() - begin

    def _wait(self, works: Iterable[Any]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            raise self._exchange.lost(error) from error
