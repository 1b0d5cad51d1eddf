"""Which hosts, and which links between two of them, differ from the others: as options of a network."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sgp_core.calibration.fit import as_mbit, as_ms

DIFFERS = 0.25
"""By how much, as a share, a host or a link has to differ from what else would be taken for it to have an entry."""
_DELAY_DIFFERS_S = 0.3e-3
"""By how much a delay has to differ beside that: less is noise of machines."""
_LEAST_HOSTS = 3
"""Of two hosts none is the usual one."""


class Reach(NamedTuple):
    """What a host reaches another one with.

    Attributes:
        sender, receiver: the hosts.
        rate: bytes/s, of all workers of the host together.
        delay: s, one way.
    """

    sender: int
    receiver: int
    rate: float
    delay: float


@dataclass(frozen=True)
class HostLink:
    """The link of a host: bytes/s out of it and into it, and its delay, s."""

    up: float
    down: float
    delay: float

    def differs(self, usual: HostLink) -> bool:
        """Return whether it is not as ``usual``."""
        rates = (self.up, usual.up), (self.down, usual.down)
        return any(abs(own - other) > DIFFERS * other for own, other in rates) or _delays_differ(
            self.delay, usual.delay
        )


def links_that_differ(reaches: Sequence[Reach], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``options`` of a network, with ``hosts`` and ``pairs`` for what differs from the others, if any does.

    A host's link is as fast as the fastest exchange over it, and as near as the nearest: whatever makes others slower
    is at their other end. So one slow host makes no other one look slow.

    Args:
        reaches: of each host to each other one.
        options: fitted to exchanges of each host with the next, all at once, of which the slowest counts.
    """
    number = 1 + max((one.sender for one in reaches), default=0)
    if number < _LEAST_HOSTS:
        return dict(options)
    links = [_link_of(host, reaches) for host in range(number)]
    usual = HostLink(*(statistics.median(column) for column in zip(*map(_values, links), strict=True)))
    different = {host: link for host, link in enumerate(links) if link.differs(usual)}
    taken = [different.get(host, usual) for host in range(number)]
    slow = list(_slow_pairs(reaches, taken))
    if not different and not slow:
        return dict(options)
    following = [one for one in reaches if one.receiver == (one.sender + 1) % number]
    scale = _Scale(options, min(one.rate for one in following), max(one.delay for one in following))
    changed = dict(options) | {"bandwidth_mbit": scale.mbit(usual.down), "delay_ms": scale.ms(usual.delay)}
    if (fitted := options.get("bandwidth_mbit")) and "collective_speed" in options:  # which is relative to the slowest
        changed["collective_speed"] = float(f"{options['collective_speed'] * fitted / scale.slowest_mbit:.4g}")
    if different:
        changed["hosts"] = {
            str(host): {
                "bandwidth_mbit": scale.mbit(link.down),
                "up_mbit": scale.mbit(link.up),
                "delay_ms": scale.ms(link.delay),
            }
            for host, link in different.items()
        }
    if slow:
        changed["pairs"] = {
            f"{there.sender}-{there.receiver}": {
                "bandwidth_mbit": scale.mbit(back.rate),
                "up_mbit": scale.mbit(there.rate),
                "delay_ms": scale.ms((there.delay + back.delay) / 2),
            }
            for there, back in slow
        }
    return changed


@dataclass(frozen=True)
class _Scale:
    """Puts exchanges of pairs beside what ``options`` were fitted to: steps of a run, which cost more than messages."""

    options: Mapping[str, Any]
    rate: float
    delay: float

    @property
    def slowest_mbit(self) -> float:
        """What the slowest exchange to the next host has."""
        slowest = self.mbit(self.rate)
        assert slowest is not None, "it took time"
        return slowest

    def mbit(self, rate: float) -> float | None:
        """Return a rate as a run has it, which is no more than that of a bare message."""
        fitted, bare = self.options.get("bandwidth_mbit"), as_mbit(rate)
        if fitted is None or bare is None:
            return bare
        return float(f"{min(bare, fitted * rate / self.rate):.4g}")

    def ms(self, delay: float) -> float:
        return as_ms(max(0.0, self.options.get("delay_ms", 0.0) / 1e3 + delay - self.delay))


def _link_of(host: int, reaches: Sequence[Reach]) -> HostLink:
    return HostLink(
        max(one.rate for one in reaches if one.sender == host),
        max(one.rate for one in reaches if one.receiver == host),
        min(one.delay for one in reaches if host in (one.sender, one.receiver)),
    )


def _values(link: HostLink) -> tuple[float, float, float]:
    return link.up, link.down, link.delay


def _slow_pairs(reaches: Sequence[Reach], links: Sequence[HostLink]) -> Iterator[tuple[Reach, Reach]]:
    """Yield there and back between two hosts where that is slower, or farther, than the links of both."""
    by_ends = {(one.sender, one.receiver): one for one in reaches}
    for there in reaches:
        if there.sender > there.receiver:
            continue
        ways = there, by_ends[there.receiver, there.sender]
        slow = any(one.rate < (1 - DIFFERS) * min(links[one.sender].up, links[one.receiver].down) for one in ways)
        delay, usual = (ways[0].delay + ways[1].delay) / 2, max(links[end].delay for end in there[:2])
        if slow or (delay > usual and _delays_differ(delay, usual)):
            yield ways


def _delays_differ(own: float, other: float) -> bool:
    return abs(own - other) > max(DIFFERS * other, _DELAY_DIFFERS_S)
