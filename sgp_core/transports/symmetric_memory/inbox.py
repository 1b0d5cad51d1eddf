"""Memory of each worker that its in-peers write, and the flags by which they take turns."""

from __future__ import annotations

from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.transports.symmetric_memory.peer_memory import PeerMemory, StreamEvent

_FREE, _FULL = 0, 1
"""Channels of a window: the receiver signals that its inbox is free, the sender that it has written there."""

_ALIGNMENT_BYTES = 128


class PeerInbox:
    """A window for vectors from ``slots`` in-peers, or for waves of one vector's size. Collective.

    Its methods enqueue work in the current stream.

    Args:
        fabric: makes the window.
        like: a vector of the model's layout.
        slots: how many vectors it has room for.
        spare: more elements of each piece.
    """

    def __init__(self, fabric: PeerMemory, like: FlatVector, slots: int, spare: int = 0) -> None:
        self.slots = slots
        self.used_as_scratch = False
        self.pending = False
        """Whether it is for a message that has not been added yet."""
        self._fabric = fabric
        self._free: StreamEvent = None  # reached when peers may write to it
        self._arrived = False  # whether the stream has waited for the message
        self._dtypes = [tensor.dtype for tensor in like.tensors]
        self._lengths = [tensor.numel() for tensor in like.tensors]
        self._sizes = [length * slots + spare for length in self._lengths]
        self._offsets, end = [], 0
        for size, dtype in zip(self._sizes, self._dtypes, strict=True):
            self._offsets.append(end)
            end += -(-size * dtype.itemsize // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self.window = fabric.open(max(end, _ALIGNMENT_BYTES))
        self._tensors: dict[tuple[int, int], Tensor] = {}

    # -- memory ------------------------------------------------------------------------------------------------------
    @property
    def first(self) -> FlatVector:
        """The memory of this worker's first slot."""
        return self._vector(self._fabric.rank, 0, self._lengths)

    def slot(self, rank: int, piece: int, slot: int, size: int) -> Tensor:
        """Return where ``size`` elements of a piece arrive from in-peer number ``slot`` of ``rank``."""
        if (rank, piece) not in self._tensors:
            self._tensors[rank, piece] = self.window.tensor(
                rank, self._offsets[piece], self._sizes[piece], self._dtypes[piece]
            )
        return self._tensors[rank, piece][slot * size : (slot + 1) * size]

    def _vector(self, rank: int, slot: int, sizes: list[int]) -> FlatVector:
        return FlatVector([self.slot(rank, number, slot, size) for number, size in enumerate(sizes)])

    # -- a message ---------------------------------------------------------------------------------------------------
    def invite(self, exchange: Exchange) -> None:
        """Signal to the in-peers that they may write, as soon as this worker is done with what they have written."""
        self._fabric.wait_event(self._free)
        self.signal_free(exchange)

    def signal_free(self, exchange: Exchange) -> None:
        """Signal so at once."""
        for peer in exchange.in_peers:
            self.window.signal(peer, _FREE)

    def write(self, exchange: Exchange, peer: int, mine: FlatVector) -> None:
        """Copy a message, or in turn the parts of one, to the inbox of ``peer``, once that has signalled."""
        rank = self._fabric.rank
        slot = exchange.edges.in_peers[peer].index(rank)
        if mine.first:
            self.window.wait(peer, _FREE)
        sizes = self._lengths if mine.is_part else [piece.numel() for piece in mine.tensors]
        into = self._vector(peer, slot, sizes).at(mine)
        for theirs, piece in zip(into.tensors, mine.tensors, strict=True):
            self._fabric.copy(theirs, piece)
        if mine.last:
            self.window.signal(peer, _FULL)

    def wait_full(self, exchange: Exchange) -> None:
        """Let the stream wait for what the in-peers write."""
        for peer in exchange.in_peers:
            self.window.wait(peer, _FULL)

    def receive(self, exchange: Exchange) -> list[FlatVector]:
        """Let the stream wait, once, for what the in-peers write; return the vector of each."""
        if not self._arrived:
            self.wait_full(exchange)
            self._arrived = True
        return [self._vector(self._fabric.rank, slot, self._lengths) for slot in range(len(exchange.in_peers))]

    def release(self) -> None:
        """Let peers write again, once this worker's work in the current stream is done."""
        self._free = self._fabric.record_event()
        self._arrived = self.pending = self.used_as_scratch = False
