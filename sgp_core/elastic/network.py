"""The network of an elastic run: PushSum whose edges between living members always complete, and others do not happen.

A worker sends its numerator, or its model, from where it lies. If an out-peer dies before that has left, the worker
keeps the share: no sum changes but by what a dead worker has been given or has given before it died, which
:attr:`ElasticNetwork.ledger` counts. If an in-peer dies, the worker goes without; PushSum weights, which always travel,
see to it that the models stay averages.

So a weight may fall to a part of what it would be; and since SGP adds updates to numerators, ``x``, they would move
the model, ``z = x / w``, so much further. Therefore each worker also knows its *nominal* weight ``v``, that of a run in
which no worker has died: it takes its own in place of those that are missing. Rules work with ``v`` and ``x v / w``, so
that an update counts ``w / v`` in the numerator, and moves the model as in the published algorithm. Without failures
``w`` is ``v``, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sgp_core.compatibility import graphs_of_all_sizes
from sgp_core.elastic.group import ElasticGroup
from sgp_core.elastic.inbox import Arrived, bytes_of
from sgp_core.elastic.links import Sending
from sgp_core.elastic.rosters import Roster
from sgp_core.elastic.wire import Frame, FrameKind, Member
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar, Tensor
from sgp_core.tensors.mixing import difference_, difference_scale, mix_all_, weighted_sum
from sgp_core.topology import Edges, Topology


class _Round(NamedTuple):
    """What a member sends and expects at a step."""

    step: int
    edges: Edges
    place: int
    """This member's, among the members of the roster."""
    members: tuple[Member, ...]
    sendings: list[Sending | None]
    """To each out-peer; None to one that was dead."""


class _Outcome(NamedTuple):
    """What came of it."""

    own_weight: float
    """By how much what this member has of its own counts: its share, and those of out-peers that have died."""
    arrived: list[Arrived]
    in_weights: list[float]
    """By how much each vector that has arrived counts."""
    weight: float
    """The nominal weight."""


class ElasticNetwork(WorkerNetwork):
    """What :class:`sgp_core.algorithms.Network` describes, for rules that mix once a step and remember nothing of it.

    Args:
        topology: for as many workers as there are at the beginning; with fewer it is the same graph of their number.
        group: the members.
        params: the model's parameters.

    Attributes:
        ledger: what each peer, a process, has been given and has given in PushSum weights, ``[given, taken]``.
        ratio: of this member's PushSum weight to its nominal weight, which rules see.

    Raises:
        ConfigurationError: the topology does not exist for a smaller number of workers.
    """

    def __init__(self, topology: Topology, group: ElasticGroup, params: FlatVector) -> None:
        super().__init__(topology, None)
        self.members = group
        self.rank, self.world_size = group.rank, group.world_size
        self.ledger: dict[Member, list[float]] = {}
        self.ratio = 1.0
        self._graphs = graphs_of_all_sizes(topology)
        self._scratch = params.zeros_like()
        self._attempt = 0
        self._ahead: _Round | None = None
        self._apart = 0.0
        group.vectors.lay_out(params)

    @property
    def transport_name(self) -> str:
        """The name of what carries vectors."""
        return "links"

    # -- verbs ---------------------------------------------------------------------------------------------------------
    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing: a vector is sent when it is mixed."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``sum_j P_ij x_j`` over the members that live; return the nominal weight."""
        with self._timed("mix", step, x):
            weight = 1.0 if weight is None else float(weight)
            outcome = self._finish(self._begin(x, step, weight), weight)
            received = self._on_device(outcome, x)
            for number, mine in enumerate(x.tensors):
                mix_all_(mine, outcome.own_weight, [one[number] for one in received], outcome.in_weights)
            self.members.step = step + 1
            return self._end(outcome)

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Begin to send ``z``, which stays as it is until it is combined at ``step``."""
        with self._timed("post", step, z):
            self._ahead = self._begin(z, step, 1.0 if weight is None else float(weight))

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Replace ``z_i`` by ``sum_j P_ij w_j z_j`` over living members, or keep the difference; return the weight."""
        with self._timed("combine", step, z):
            weight = 1.0 if weight is None else float(weight)
            began, self._ahead = self._ahead or self._begin(z, step, weight), None
            outcome = self._finish(began, weight)
            own = outcome.own_weight * weight
            shares = [share * one.weight for share, one in zip(outcome.in_weights, outcome.arrived, strict=True)]
            received = self._on_device(outcome, z)
            for number, mine in enumerate(z.tensors):
                theirs = [one[number] for one in received]
                if apart:
                    difference_(self._scratch.tensors[number], mine, own, theirs, shares)
                else:
                    mix_all_(mine, own, theirs, shares)
            self._apart = difference_scale(own, shares) if apart else 0.0
            return self._end(outcome)

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Add to ``x`` what was kept apart; return ``weight``."""
        if self._apart:
            x.add_(self._scratch, self._apart)
            self._apart = 0.0
        self.members.step = step + 1
        return 1.0 if weight is None else weight

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next exchange."""
        return self._scratch

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Return ``weight``: a step ends with nothing in flight."""
        return weight

    # -- models that are sent ahead ------------------------------------------------------------------------------------
    @property
    def model_travels(self) -> bool:
        """Whether the model was posted ahead and not yet combined."""
        return self._ahead is not None

    def settle(self) -> None:
        """Wait until what was posted ahead has left."""
        if self._ahead is not None:
            self._wait_for_departure(self._ahead)

    def recall(self) -> None:
        """Do so, and give it up; it will be sent anew."""
        self.settle()
        if self._ahead is not None:
            self._ahead = None
            self._attempt += 1

    @property
    def in_flight(self) -> bool:
        """False: what has been sent is still in the models."""
        return False

    def keep_in_flight(self) -> Callable[[], None]:
        """Return what does nothing: nothing is in flight."""
        self.settle()
        return lambda: None

    def forget_in_flight(self) -> None:
        """Give up what was sent ahead."""
        self.recall()

    def state_dict(self) -> dict[str, object]:
        """Return what a member that joins needs."""
        return {**super().state_dict(), "attempt": self._attempt, "ratio": self.ratio}

    def load_state_dict(self, state: dict[str, object], step: int) -> None:
        """Continue from :meth:`state_dict`."""
        super().load_state_dict(state, step)
        self._attempt = int(state.get("attempt", 0))  # type: ignore[call-overload]
        self.ratio = float(state.get("ratio", 1.0))  # type: ignore[arg-type]

    def interrupt(self, why: str) -> None:
        """Let what waits for peers fail."""
        self.members.drop()

    def close(self) -> None:
        """Part from the other members."""
        self.recall()
        self.members.close()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _begin(self, x: FlatVector, step: int, weight: float) -> _Round:
        """Begin to send to the out-peers of ``step``."""
        roster = self.members.roster_at(step)
        links, edges = self.members.links, self._edges(roster, step)
        place = roster.members.index(self.members.me)
        with links.changed:
            self.members.vectors.forget_before(step, self._attempt)
        outs = [roster.members[peer] for peer in edges.out_peers[place]]
        links.wait(lambda: all(links.is_linked(one) or not links.is_alive(one) for one in outs))
        content = [bytes_of(tensor.cpu()) for tensor in x.tensors] if outs else []
        frame = Frame(FrameKind.vector, step, self._attempt, weight, self.ratio)
        sendings = [links.send(one, frame, content) for one in outs]
        self.bytes_sent += sum(sending is not None for sending in sendings) * (x.nbytes + 8)
        return _Round(step, edges, place, roster.members, sendings)

    def _finish(self, began: _Round, weight: float) -> _Outcome:
        """Wait for what peers that live have sent, and until what was sent to them has left."""
        links, inbox = self.members.links, self.members.vectors
        step, edges, place = began.step, began.edges, began.place
        ins = [began.members[peer] for peer in edges.in_peers[place]]
        outs = [began.members[peer] for peer in edges.out_peers[place]]
        self._wait_for_departure(began)
        links.wait(
            lambda: (
                all(inbox.has(one, step, self._attempt) or not links.is_alive(one) for one in ins)
                or self.members.membership.error
            )
        )
        self.members.check()
        mass = self.ratio * weight
        own, nominal, arrived, shares = edges.own_weight[place], edges.own_weight[place] * weight, [], []
        with links.changed:
            for one, share, sending in zip(outs, edges.out_weights[place], began.sendings, strict=True):
                if sending is not None and sending.left:
                    self._enter(one, given=share * mass)
                else:
                    own += share
            for one, share in zip(ins, edges.in_weights[place], strict=True):
                vector = inbox.take(one, step, self._attempt)
                nominal += share * (weight if vector is None else vector.weight)
                if vector is not None:
                    arrived.append(vector)
                    shares.append(share)
                    self._enter(one, taken=share * (vector.ratio * vector.weight))
        masses = [one.ratio * one.weight for one in arrived]
        before, self.ratio = self.ratio, (own * mass + weighted_sum(shares, masses)) / nominal
        weights = [share * one.ratio / self.ratio for share, one in zip(shares, arrived, strict=True)]
        return _Outcome(own * before / self.ratio, arrived, weights, nominal)

    def _wait_for_departure(self, began: _Round) -> None:
        links = self.members.links
        outs = [began.members[peer] for peer in began.edges.out_peers[began.place]]
        links.wait(
            lambda: (
                all(
                    sending is None or sending.left or not links.is_alive(one)
                    for one, sending in zip(outs, began.sendings, strict=True)
                )
                or self.members.membership.error
            )
        )
        self.members.check()

    def _end(self, outcome: _Outcome) -> float:
        """Give memory back, and return this member's nominal weight."""
        with self.members.links.changed:
            for one in outcome.arrived:
                self.members.vectors.free(one)
        return outcome.weight

    def _enter(self, peer: Member, given: float = 0.0, taken: float = 0.0) -> None:
        account = self.ledger.setdefault(peer, [0.0, 0.0])
        account[0] += given
        account[1] += taken

    def _edges(self, roster: Roster, step: int) -> Edges:
        return self._graphs[len(roster.members)].edges(step - roster.first_step)

    @staticmethod
    def _on_device(outcome: _Outcome, x: FlatVector) -> list[list[Tensor]]:
        """Return what has arrived where ``x`` lies; the same tensors on the CPU."""
        return [
            [theirs.to(mine.device) for theirs, mine in zip(one.tensors, x.tensors, strict=True)]
            for one in outcome.arrived
        ]
