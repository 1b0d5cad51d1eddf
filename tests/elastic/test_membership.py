"""How members agree on rosters, in orders in which messages seldom come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch.distributed as dist

from sgp_core.elastic.links import Links
from sgp_core.elastic.membership import Membership
from sgp_core.elastic.rosters import Roster, RosterStore, Seat
from sgp_core.elastic.wire import Frame, FrameKind, Member, decode, encode
from tests.elastic.fleet import WAIT_S


class Peer:
    """Links and, if it takes messages, a membership. Messages that it does not take are kept."""

    def __init__(self, rank: int, store: dist.Store, *, takes: bool = True) -> None:
        self.me = Member(rank, 1)
        self.heard: list[dict[str, Any]] = []
        self.takes = takes
        self.links = Links(self.me, "127.0.0.1", b"", 5.0, lambda *_: None, self._deliver, lambda *_: None)
        self.membership = Membership(self.links, RosterStore(store, 3), lambda roster: None)

    def _deliver(self, sender: Member, frame: Frame, body: bytearray | None) -> None:
        message = decode(body or b"{}")
        self.heard.append(message)
        if self.takes:
            self.membership.take(sender, message)
        with self.links.changed:
            self.links.changed.notify_all()

    def say(self, whom: Peer, **message: Any) -> None:
        self.links.send(whom.me, Frame(FrameKind.control), [memoryview(encode(message))])

    def close(self) -> None:
        self.membership.close()
        self.links.drop()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Three; the second takes no messages."""
    store = dist.HashStore()
    found = [Peer(rank, store, takes=rank != 1) for rank in range(3)]
    yield found
    for peer in found:
        peer.close()


def roster_of(*peers: Peer, epoch: int = 0, first_step: int = 0) -> Roster:
    return Roster(epoch, first_step, tuple(Seat(peer.me, peer.links.address) for peer in peers))


def connect(*peers: Peer) -> None:
    for number, one in enumerate(peers):
        for other in peers[:number]:
            one.links.connect(other.me, other.links.address)
            assert other.links.wait(lambda one=one, other=other: other.links.is_linked(one.me), WAIT_S)


def test_what_comes_before_the_first_roster_is_answered_once_that_is_known(peers: list[Peer]) -> None:
    late, asks, _ = peers
    connect(late, asks)
    roster = roster_of(late, asks)
    asks.say(late, what="prepare", epoch=1, last=roster.to_json())
    assert late.links.wait(lambda: late.heard, WAIT_S)
    assert not asks.heard
    late.membership.begin(roster)
    assert asks.links.wait(lambda: asks.heard, WAIT_S)
    assert asks.heard[0]["what"] == "promise"


def test_a_coordinator_goes_on_when_another_was_faster(peers: list[Peer]) -> None:
    """It still waits for a promise when the roster comes that it was to be for; then another worker asks to join."""
    slow, other, joiner = peers
    connect(slow, other, joiner)
    slow.membership.begin(roster_of(slow, other))
    joiner.say(slow, what="join", address=list(joiner.links.address))
    assert other.links.wait(lambda: any(each["what"] == "prepare" for each in other.heard), WAIT_S)
    commit = roster_of(slow, other, epoch=1, first_step=9).to_json()
    other.say(slow, what="commit", last=roster_of(slow, other).to_json(), roster=commit)
    asked = lambda: [each for each in other.heard if each["what"] == "prepare" and each["epoch"] == 2]  # noqa: E731
    assert other.links.wait(asked, WAIT_S)
    other.say(slow, what="promise", epoch=2, step=30)
    assert slow.links.wait(lambda: slow.membership.latest.epoch == 2, WAIT_S)
    assert slow.membership.latest.members == (slow.me, other.me, joiner.me)
    assert slow.membership.latest.first_step == 30
