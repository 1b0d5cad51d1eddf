"""The network of a virtual worker whose links have faults, with and without shares that are sent again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sgp_core.asynchronous.link_faults import FaultyLink, LinkFaults
from sgp_core.asynchronous.retransmission import SendingEnd
from sgp_core.simulator.virtual_network import VirtualNetwork, VirtualShare
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology


class Sent(NamedTuple):
    """A share that is sent, or an acknowledgement, which has none: the number of a share, and of its copy."""

    number: int
    copy: int
    share: VirtualShare | None = None


class LossyNetwork(VirtualNetwork):
    """What :class:`~sgp_core.asynchronous.messages.lossy_mailboxes.LossyMailboxes` is to a real worker.

    Args:
        faults: of all links.
        retransmits: whether shares are sent again until they are acknowledged. Other arguments as of the base.
    """

    def __init__(
        self,
        topology: Topology,
        rank: int,
        params: FlatVector,
        networks: Sequence[VirtualNetwork],
        faults: LinkFaults,
        *,
        retransmits: bool,
    ) -> None:
        super().__init__(topology, rank, params, networks)
        peers = [peer for peer in range(topology.world_size) if peer != rank]
        self._links: dict[int, FaultyLink[Sent]] = {peer: FaultyLink(faults, rank, peer) for peer in peers}
        self._ends: dict[int, SendingEnd[VirtualShare]] = {peer: SendingEnd() for peer in peers}
        self._retransmits = retransmits
        self._steps = 0
        self._last: defaultdict[int, int] = defaultdict(lambda: -1)
        """The number of the last share of each sender."""
        self._arrived: list[tuple[int, Sent]] = []
        """What is to be acknowledged when this worker next looks: shares, and copies of what was added before."""

    def push(self, x: FlatVector, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``, and send again what is not acknowledged in time."""
        weight = super().push(x, step, weight, hold=hold)
        for peer, link in self._links.items():
            self._pass_on(peer, link.advance(step))
        for peer, end in self._ends.items():
            if self._retransmits and (share := end.due(step)) is not None:
                self._send(peer, Sent(share.step, share.copy, share.content))
        self._steps = step + 1
        return weight

    def collect(self, x: FlatVector, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in the mailbox, and acknowledge it; once more what was acknowledged in vain."""
        weight = super().collect(x, step, weight, max_staleness)
        for sender, message in self._arrived:
            self._send(sender, Sent(message.number, message.copy))
        self._arrived.clear()
        return weight

    def accepts(self, peer: int) -> bool:
        """Whether ``peer`` is known to have collected this worker's last share."""
        return self._ends[peer].share is None

    def put(self, peer: int, share: VirtualShare) -> None:
        """Send a share to ``peer`` for the first time."""
        self._ends[peer].leave(share.step, share)
        self._send(peer, Sent(share.step, 0, share))

    def under_way(self) -> list[VirtualShare]:
        """Return shares that are in no model; without retransmission those that will be added, all copies."""
        if self._retransmits:
            open_shares = [(peer, end.share) for peer, end in self._ends.items() if end.share is not None]
            return [share.content for peer, share in open_shares if not self._network(peer).has_added(share.content)]
        late = [message.share for link in self._links.values() for message in link.late]
        return [*self.inbox, *(share for share in late if share is not None)]

    def has_added(self, share: VirtualShare) -> bool:
        """Whether a share that was sent to this worker is in its model."""
        return share.step <= self._last[share.sender] and not any(share is waiting for waiting in self.inbox)

    # -- what links do -------------------------------------------------------------------------------------------------
    def receive(self, sender: int, message: Sent) -> None:
        """Take what ``sender`` has sent."""
        if message.share is None:
            self._ends[sender].acknowledge(message.number, message.copy, self._steps)
            return
        if not self._retransmits or message.number > self._last[sender]:
            self._last[sender] = message.number
            self.inbox.append(message.share)
        self._arrived.append((sender, message))

    def _send(self, peer: int, message: Sent) -> None:
        self._pass_on(peer, self._links[peer].send(self._steps, message))

    def _pass_on(self, peer: int, messages: Iterable[Sent]) -> None:
        for message in messages:
            self._network(peer).receive(self.rank, message)

    def _network(self, rank: int) -> LossyNetwork:
        network = self.networks[rank]
        assert isinstance(network, LossyNetwork)
        return network
