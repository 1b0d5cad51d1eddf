"""The network of one virtual worker that steps by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sgp_core.algorithms.adpsgd import partner
from sgp_core.runtime.events import Event, Staleness
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.tensors.mixing import update_and_average_
from sgp_core.topology import Topology


class VirtualShare(NamedTuple):
    """A share of ``sender``, left at its ``step``."""

    sender: int
    step: int
    x: FlatVector
    weight: float


class VirtualNetwork:
    """One virtual worker's network. ``script`` decides what the rule leaves open: which peers get a message, and which
    messages are used.

    Without a script a worker sends to every peer that accepts, and uses all messages there are.

    Attributes:
        arrived: sender and step of the shares that have come; None: they come at once.
        pushed: the latest step at which this worker has pushed.
        bytes_sent: by this worker.
        staleness: how old what it used was.
    """

    def __init__(self, topology: Topology, rank: int, params: FlatVector, networks: Sequence[VirtualNetwork]) -> None:
        self.topology = topology
        self.rank = rank
        self.params = params
        self.networks = networks
        self.script: Event | None = None
        self.arrived: set[tuple[int, int]] | None = None
        self.pushed = -1
        self.bytes_sent = 0
        self.staleness = Staleness()
        self.inbox: list[VirtualShare] = []
        self.model = params.clone()
        self.version = 0
        self._copied = 0
        self._scratch = params.zeros_like()

    # -- PushSum with mailboxes ----------------------------------------------------------------------------------------
    def push(self, x: FlatVector, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``; keep the rest in place."""
        edges, weight = self.topology.edges(step), float(weight)
        kept, self.pushed = edges.own_weight[self.rank], step
        for peer, share in zip(edges.out_peers[self.rank], edges.out_weights[self.rank], strict=True):
            if peer in self.script.sent if self.script else not hold and self.accepts(peer):
                self.put(peer, VirtualShare(self.rank, step, x.clone().mul_(share), share * weight))
                self.bytes_sent += x.nbytes + 8
            else:
                kept += share
        if kept != 1.0:
            x.mul_(kept)
        return kept * weight

    def collect(self, x: FlatVector, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in the mailbox. Workers that step one at a time cannot wait: ``max_staleness`` is ignored."""
        left, weight = [], float(weight)
        for share in self.inbox:
            if self._is_used(share):
                x.add_(share.x)
                weight += share.weight
                self.staleness.add(step - share.step)
            else:
                left.append(share)
        self.inbox = left
        if self.arrived is not None:  # what the rule has not sent, though it might have, never comes
            there = {(share.sender, share.step) for share in left}
            self.arrived = {key for key in self.arrived if key in there or key[1] > self.networks[key[0]].pushed}
        return weight

    def _is_used(self, share: VirtualShare) -> bool:
        key = (share.sender, share.step)
        if self.script is not None:
            return key in self.script.seen
        return self.arrived is None or key in self.arrived

    def accepts(self, peer: int) -> bool:
        """Whether ``peer`` has collected this worker's last share."""
        return all(share.sender != self.rank for share in self.networks[peer].inbox)

    def put(self, peer: int, share: VirtualShare) -> None:
        """Leave a share with ``peer``."""
        self.networks[peer].inbox.append(share)

    def under_way(self) -> list[VirtualShare]:
        """Return shares that are in no model; all workers together name each of them once."""
        return self.inbox

    # -- pairs ---------------------------------------------------------------------------------------------------------
    def meet_partner(self, x: FlatVector, before: FlatVector, step: int) -> None:
        """Bring the update to the open model, average that with the partner's, and set ``x`` to it."""
        rank = partner(self.topology, self.rank, step)
        other = None if rank is None else self.networks[rank]
        missed = self.version - self._copied
        untouched = not missed
        self.staleness.add(missed)
        self.bytes_sent += (missed + (other is not None)) * x.nbytes
        update_and_average_(x, before, self.model, other.model if other else None, untouched=untouched)
        for network in (self, other) if other else (self,):
            network.version += 1
        self._copied = self.version

    def look(self) -> None:
        """Set the parameters to the open model."""
        self.params.copy_(self.model)
        self._copied = self.version

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on to the bit."""
        return {
            "inbox": [[share.sender, share.step, share.weight, *share.x.clone().tensors] for share in self.inbox],
            "arrived": None if self.arrived is None else sorted(map(list, self.arrived)),
            "model": self.model.clone().tensors,
            "counts": [self.version, self._copied, self.pushed],
            "bytes_sent": self.bytes_sent,
            "staleness": self.staleness.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.inbox = [
            VirtualShare(sender, step, FlatVector(x).clone(), weight) for sender, step, weight, *x in state["inbox"]
        ]
        arrived = state["arrived"]
        self.arrived = None if arrived is None else {(sender, step) for sender, step in arrived}
        self.model.copy_(FlatVector(state["model"]))
        self.version, self._copied, self.pushed = state["counts"]
        self.bytes_sent, self.staleness = int(state["bytes_sent"]), Staleness.of(state["staleness"])

    # -- both ----------------------------------------------------------------------------------------------------------
    def scratch(self) -> FlatVector:
        """Return memory laid out like the model."""
        return self._scratch
