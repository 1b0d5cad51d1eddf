"""Reference copies: what both ends of an edge agree that the receiver knows of the sender's model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgp_core.compression import Codec, Coding, Piece
from sgp_core.runtime.compressed.payload import Payload, PayloadPool
from sgp_core.tensors.flat_vector import FlatVector, as_operand
from sgp_core.tensors.layout import Layout
from sgp_core.tensors.mixing import weighted_sum
from sgp_core.topology import Topology


@dataclass(frozen=True)
class EdgeWeights:
    """One worker's part in a step of ``(1 - gamma) I + gamma P``.

    Attributes:
        own: the share of its own that it keeps.
        gives: the share that each out-peer gets of its own; that peer computes the same number, to the bit.
        takes: the share that it gets of each in-peer's.
    """

    step: int
    own: float
    gives: Mapping[int, float]
    takes: Mapping[int, float]

    @classmethod
    def of(cls, topology: Topology, rank: int, step: int, gamma: float) -> EdgeWeights:
        """Read it off the topology."""
        edges = topology.edges(step)

        def share(receiver: int, sender: int) -> float:
            return gamma * edges.in_weights[receiver][edges.in_peers[receiver].index(sender)]

        return cls(
            step,
            1.0 - gamma + gamma * edges.own_weight[rank],
            {peer: share(peer, rank) for peer in edges.out_peers[rank]},
            {peer: share(rank, peer) for peer in edges.in_peers[rank]},
        )


class EdgeReplicas:
    """One worker's end of all its edges: a reference copy ``r`` each, alike on both ends to the bit.

    For an edge j -> i the sender codes what the copy lacks, ``q = C(z_j - r)``, both ends set ``r <- r + q``, and::

        x_i <- x_i - sum_l P_li w_i r_(i->l) + sum_j P_ij w_j r_(j->i)        w_i <- sum_j P_ij w_j

    What a sender gives is what the receiver gets, to the bit, so the sum of numerators does not change, whatever the
    codec leaves out; weights travel whole. As models agree the copies catch up with them, and ``z`` reaches the mean.
    Where CHOCO has one copy per worker on a fixed undirected graph, a copy per edge serves any graph of any step. The
    copy follows ``z`` rather than ``x``, which on irregular graphs goes on changing with ``w`` when all agree.

    A message may be under way while the sender goes on, tau steps say::

        x_i <- x_i - sum_l P_li(k) w_i r_(i->l) + sum_j P_ij(k - tau) w_j(k - tau) r_(j->i)(k - tau)

    The sender's copy is at step k, the receiver's at the last message that it has taken. Since each message moves the
    receiver's copy to where the sender's was when that message left, both give and get the same numbers, provided that
    the messages of an edge are taken in the order they were sent in, each once.

    Args:
        rank: whose end it is.
        layout: the model's.
        start: what every worker holds before the first step, ``z`` of rank 0; copies start as it.
        topology: creates all copies now if its graphs repeat; else each when its edge first occurs.

    Attributes:
        payloads: memory for messages.
    """

    def __init__(self, rank: int, codec: Codec, layout: Layout, start: FlatVector, topology: Topology) -> None:
        self._rank = rank
        self._codec = codec
        self._layout = layout
        self._pieces = codec.pieces(layout)
        self._device = start.tensors[0].device
        self._given: dict[int, FlatVector] = {}
        self._taken: dict[int, FlatVector] = {}
        self._memories: dict[int, list[Tensor | None]] = {}
        self.payloads = PayloadPool(codec, self._pieces, self._device)
        longest = max((piece.numel for piece in self._pieces), default=0)
        self._scratch = [tensor.new_zeros(min(longest, tensor.numel())) for tensor in start.tensors]
        self._spare = [torch.zeros_like(tensor) for tensor in self._scratch]
        self._start: FlatVector | None = start.clone()
        if topology.period is not None:
            for step in range(topology.period):
                part = EdgeWeights.of(topology, rank, step, codec.gamma)
                self._prepare(part.gives, part.takes)
            self._start = None

    # -- a step ------------------------------------------------------------------------------------------------------
    def give(self, x: FlatVector, part: EdgeWeights, weight: float | None) -> dict[int, Payload]:
        """Take what goes to the out-peers off ``x``; return what tells each of them how much, from :attr:`payloads`."""
        payloads = self._payloads_to(part, weight)
        for piece in self._pieces:
            self._code(x, piece, part, payloads, weight)
            self._take_off(x, piece, part, weight)
        return payloads

    def code(self, z: FlatVector, part: EdgeWeights, weight: float | None) -> dict[int, Payload]:
        """Bring the copies of the out-peers up to ``z``; return what tells each of them, with ``weight``.

        Nothing is taken off ``z``; that is for :meth:`exchange`.
        """
        payloads = self._payloads_to(part, weight)
        for piece in self._pieces:
            self._code(z, piece, part, payloads, None)
        return payloads

    def take(self, x: FlatVector, part: EdgeWeights, arrived: Mapping[int, Payload], *, weighed: bool) -> float:
        """Add what the in-peers have given at ``part.step`` to ``x``; return the weights that came with it (0 if none).

        Args:
            arrived: of every in-peer; the next of its edge.
            weighed: whether their PushSum weights have travelled.
        """
        weights = self._weights_of(part, arrived, weighed)
        for piece in self._pieces:
            self._take(x, piece, part, arrived, weights)
        return self._sum(part, weights)

    def exchange(self, x: FlatVector, part: EdgeWeights, weight: float | None, arrived: Mapping[int, Payload]) -> float:
        """Take what goes to the out-peers, coded before, off ``x``, and do what :meth:`take` does, piece by piece.

        Args:
            weight: this worker's when it coded; None: weights have not travelled.
        """
        weights = self._weights_of(part, arrived, weight is not None)
        for piece in self._pieces:  # which stays in the cache
            self._take_off(x, piece, part, weight)
            self._take(x, piece, part, arrived, weights)
        return self._sum(part, weights)

    # -- state -------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return copies of the references and of what senders remember."""
        return {
            "given": {peer: [t.clone() for t in copy.tensors] for peer, copy in self._given.items()},
            "taken": {peer: [t.clone() for t in copy.tensors] for peer, copy in self._taken.items()},
            "memories": {peer: [t if t is None else t.clone() for t in m] for peer, m in self._memories.items()},
            "start": None if self._start is None else [t.clone() for t in self._start.tensors],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._given = {peer: self._flat(tensors) for peer, tensors in state["given"].items()}
        self._taken = {peer: self._flat(tensors) for peer, tensors in state["taken"].items()}
        self._memories = {
            peer: [t if t is None else t.to(self._device, copy=True) for t in memory]
            for peer, memory in state["memories"].items()
        }
        self._start = None if state["start"] is None else self._flat(state["start"])

    def keep_taken(self, peers: Iterable[int]) -> Callable[[], None]:
        """Return what undoes every :meth:`take` of messages of these in-peers from now on."""
        kept = {peer: self._taken[peer].clone() if peer in self._taken else None for peer in peers}

        def undo() -> None:
            for peer, copy in kept.items():
                if copy is None:  # it was made since then, from the start
                    self._taken.pop(peer, None)
                else:
                    self._taken[peer] = copy

        return undo

    def _flat(self, tensors: Iterable[Tensor]) -> FlatVector:
        return FlatVector([tensor.to(self._device, copy=True) for tensor in tensors])

    # -- pieces ------------------------------------------------------------------------------------------------------
    def _payloads_to(self, part: EdgeWeights, weight: float | None) -> dict[int, Payload]:
        self._prepare(part.gives, ())
        payloads = self.payloads.take(part.gives)
        for payload in payloads.values():
            payload.weight.fill_(1.0 if weight is None else weight)
        return payloads

    def _code(
        self, x: FlatVector, piece: Piece, part: EdgeWeights, payloads: Mapping[int, Payload], weight: float | None
    ) -> None:
        """Code what each copy lacks of a piece of ``x``, which is divided by ``weight`` before."""
        mine, difference = _stretch(x, piece), self._scratch[piece.tensor][: piece.numel]
        for peer, payload in payloads.items():
            copy, sections = _stretch(self._given[peer], piece), payload.pieces[piece.index]
            spare, memory = self._spare[piece.tensor][: piece.numel], self._memories[peer][piece.index]
            coding = Coding(piece, part.step, self._rank, peer, spare, memory)
            if weight is None:
                torch.sub(mine, copy, out=difference)
            else:
                torch.div(mine, as_operand(weight, mine), out=difference).sub_(copy)
            self._codec.encode(difference, sections, coding)
            self._codec.decode(sections, difference, coding)
            copy.add_(difference)

    def _take_off(self, x: FlatVector, piece: Piece, part: EdgeWeights, weight: float | None) -> None:
        mine = _stretch(x, piece)
        for peer, share in part.gives.items():
            mine.add_(_stretch(self._given[peer], piece), alpha=-_amount(share, weight))

    def _take(
        self,
        x: FlatVector,
        piece: Piece,
        part: EdgeWeights,
        arrived: Mapping[int, Payload],
        weights: Mapping[int, float | None],
    ) -> None:
        mine, difference = _stretch(x, piece), self._scratch[piece.tensor][: piece.numel]
        for peer, share in part.takes.items():
            copy, spare = _stretch(self._taken[peer], piece), self._spare[piece.tensor][: piece.numel]
            self._codec.decode(
                arrived[peer].pieces[piece.index], difference, Coding(piece, part.step, peer, self._rank, spare)
            )
            copy.add_(difference)
            mine.add_(copy, alpha=_amount(share, weights[peer]))

    def _weights_of(self, part: EdgeWeights, arrived: Mapping[int, Payload], weighed: bool) -> dict[int, float | None]:
        self._prepare((), part.takes)
        return {peer: float(payload.weight) if weighed else None for peer, payload in arrived.items()}

    @staticmethod
    def _sum(part: EdgeWeights, weights: Mapping[int, float | None]) -> float:
        return weighted_sum(part.takes.values(), [weights[peer] or 0.0 for peer in part.takes])

    # -- memory ------------------------------------------------------------------------------------------------------
    def _prepare(self, gives: Iterable[int], takes: Iterable[int]) -> None:
        gives, takes = list(gives), list(takes)
        for copies, peers in ((self._given, gives), (self._taken, takes)):
            for peer in peers:
                if peer not in copies:
                    assert self._start is not None
                    copies[peer] = self._start.clone()
        for peer in gives:
            if peer not in self._memories:
                shapes = [self._codec.memory(piece) for piece in self._pieces]
                self._memories[peer] = [
                    None if shape is None else self._scratch[piece.tensor].new_zeros(shape)
                    for piece, shape in zip(self._pieces, shapes, strict=True)
                ]


def _stretch(flat: FlatVector, piece: Piece) -> Tensor:
    return flat.tensors[piece.tensor][piece.start : piece.start + piece.numel]


def _amount(share: float, weight: float | None) -> float:
    return share if weight is None else share * weight
