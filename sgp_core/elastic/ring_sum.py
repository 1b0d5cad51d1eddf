"""The sum of a vector over members: a ring's AllReduce over their links. Any death among them ends it."""

from __future__ import annotations

import torch

from sgp_core.elastic.inbox import bytes_of
from sgp_core.elastic.links import Links, Sending, lost
from sgp_core.elastic.wire import Frame, FrameKind, Member
from sgp_core.tensors.flat_vector import FlatVector, Tensor


class RingSums:
    """The sums that a member takes part in. Parts arrive in the thread of the links.

    Args:
        links: to the other members.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._arrived: dict[tuple[int, int], bytearray] = {}
        self._number = 0

    def add_up(self, x: FlatVector, members: list[Member], number: int) -> None:
        """Set ``x`` to its sum over ``members``, in place.

        Args:
            members: in the same order on all of them; this member is one.
            number: of the sum, larger than of any before.

        Raises:
            PeerLost: one of them has died; ``x`` is undefined.
        """
        with self._links.changed:
            self._number = number
            self._arrived = {key: data for key, data in self._arrived.items() if key[0] >= number}
        for piece, tensor in enumerate(x.tensors):
            self._add_up(tensor, members, number, piece * 2 * len(members))

    def take(self, frame: Frame, body: bytearray) -> None:
        """Take a part that has arrived."""
        with self._links.changed:
            if frame.a >= self._number:
                self._arrived[frame.a, frame.b] = body
                self._links.changed.notify_all()

    def _add_up(self, tensor: Tensor, members: list[Member], number: int, turn: int) -> None:
        size, place = len(members), members.index(self._links.me)
        if size == 1:
            return
        after = members[(place + 1) % size]
        host = tensor if tensor.device.type == "cpu" else tensor.cpu()
        parts = host.tensor_split(size)
        sendings: list[Sending | None] = []
        for hop in range(2 * size - 2):
            gathering = hop >= size - 1
            out, into = parts[(place - hop) % size], parts[(place - hop - 1) % size]
            if gathering:
                self._depart(sendings[hop - size + 1], after, members)  # which has read `into`
            sendings.append(self._links.send(after, Frame(FrameKind.part, number, turn + hop), [bytes_of(out)]))
            data = self._receive((number, turn + hop), members)
            if data is not None:
                theirs = torch.frombuffer(data, dtype=host.dtype)
                _ = into.copy_(theirs) if gathering else into.add_(theirs)
        for sending in sendings:
            self._depart(sending, after, members)
        if host is not tensor:
            tensor.copy_(host)

    def _depart(self, sending: Sending | None, after: Member, members: list[Member]) -> None:
        self._links.wait(lambda: sending is None or sending.left or self._dead(members))
        if sending is None or not sending.left:
            raise self._lost(members, after)

    def _receive(self, key: tuple[int, int], members: list[Member]) -> bytearray | None:
        self._links.wait(lambda: key in self._arrived or self._dead(members))
        with self._links.changed:
            if key not in self._arrived:
                raise self._lost(members, members[0])
            return self._arrived.pop(key) or None

    def _dead(self, members: list[Member]) -> list[Member]:
        return [one for one in members if one != self._links.me and not self._links.is_alive(one)]

    def _lost(self, members: list[Member], whom: Member) -> Exception:
        dead = self._dead(members)
        whom = dead[0] if dead else whom
        return lost(self._links.me, whom, self._links.dead.get(whom, "it has ended"))
