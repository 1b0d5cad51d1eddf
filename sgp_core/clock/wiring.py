"""The links between workers, as arrays: which each message passes, what they carry, how long a message is under way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgp_core.clock.network import Link, NetworkModel, ends_of
from sgp_core.validation import require


@dataclass(frozen=True, eq=False)
class Routes:
    """The ways of some messages.

    Attributes:
        message: for each link that each message passes: the number of the message, ``[entries]``.
        link: the link, likewise. A message that costs a processor at both ends passes it twice.
        delay: s from when the last byte leaves to when it is there, ``[messages]``.
        limit: bytes/s that a message gets at most, ``[messages]``.
    """

    message: np.ndarray
    link: np.ndarray
    delay: np.ndarray
    limit: np.ndarray


def join(routes: Sequence[Routes]) -> Routes:
    """Return the ways of all messages, those of the first before those of the second."""
    first = np.cumsum([0, *(len(each.delay) for each in routes)])
    return Routes(
        np.concatenate([each.message + begin for each, begin in zip(routes, first, strict=False)]),
        np.concatenate([each.link for each in routes]),
        np.concatenate([each.delay for each in routes]),
        np.concatenate([each.limit for each in routes]),
    )


class Wiring:
    """The links of a network between ``workers`` workers.

    Attributes:
        names: what each link is called, ``[links]``.
        capacity: bytes/s of messages that it carries, ``[links]``; inf: no limit.
        host: of each worker, ``[workers]``.

    Raises:
        ConfigurationError: the network names hosts, or sizes of regions, that these workers do not have.
    """

    def __init__(self, network: NetworkModel, workers: int) -> None:
        self.network, self.workers = network, workers
        self.host = np.arange(workers) // (network.workers_per_host or workers)
        hosts = int(self.host[-1]) + 1
        named = [*map(int, network.hosts or ()), *(end for pair in network.pairs or () for end in ends_of(pair))]
        for host in named:
            require(host < hosts, "network: a host", f"below the number of hosts, {hosts}", host)
        self._region = self._regions(hosts)
        ups, downs = ([link(host) for host in range(hosts)] for link in (network.up, network.down))
        regions = network.regions_of(hosts)
        inside = network.bytes_per_s(network.inside_mbit)
        processor = network.cores * 1e9 / network.cpu_ms_per_mb if network.cpu_ms_per_mb else math.inf
        self.names = [f"{way} host {host}" for way in ("out of", "into") for host in range(hosts)]
        self.names += [f"{way} region {region}" for way in ("out of", "into") for region in range(len(regions))]
        self.names += [f"{what} host {host}" for what in ("inside", "processors of") for host in range(hosts)]
        capacity = [self._carried(link) for link in (*ups, *downs)]
        capacity += [self._carried(region.up) for region in regions] + [
            self._carried(region.down) for region in regions
        ]
        capacity += [inside] * hosts + [processor] * hosts
        self._hosts, self._first_region, self._first_inside = hosts, 2 * hosts, 2 * hosts + 2 * len(regions)
        self._regions_number = len(regions)
        self._host_delay = (
            np.array([max(up.delay_ms, down.delay_ms) for up, down in zip(ups, downs, strict=True)]) / 1e3
        )
        self._region_delay = np.array([[region.up.delay_ms, region.down.delay_ms] for region in regions]) / 1e3
        self._pairs: dict[tuple[int, int], tuple[int, float]] = {}
        for pair in network.pairs or ():
            for sender, receiver in (ends_of(pair), ends_of(pair)[::-1]):
                wire = network.pair(sender, receiver)
                assert wire is not None
                self._pairs[sender, receiver] = len(self.names), wire.delay_ms / 1e3
                self.names.append(f"host {sender} to host {receiver}")
                capacity.append(self._carried(wire))
        self.capacity = np.array(capacity)

    def routes(self, senders: np.ndarray, receivers: np.ndarray) -> Routes:
        """Return the ways of messages from ``senders`` to ``receivers``, ``[messages]`` workers each."""
        a, b = self.host[senders], self.host[receivers]
        apart = a != b
        every = np.arange(len(senders))
        out, near = every[apart], every[~apart]
        parts = [(out, a[apart]), (out, self._hosts + b[apart])]
        parts += [(near, self._first_inside + a[~apart])]
        delay = np.where(
            apart, np.maximum(self._host_delay[a], self._host_delay[b]), self.network.inside_delay_ms / 1e3
        )
        if self._regions_number:
            crossing = every[self._region[a] != self._region[b]]
            from_region, to_region = self._region[a[crossing]], self._region[b[crossing]]
            parts.append((crossing, self._first_region + from_region))
            parts.append((crossing, self._first_region + self._regions_number + to_region))
            delay[crossing] += self._region_delay[from_region, 0] + self._region_delay[to_region, 1]
        if self.network.cpu_ms_per_mb:
            processor = self._first_inside + self._hosts
            parts += [(every, processor + a), (every, processor + b)]
        if self._pairs:
            self._take_pairs(a, b, parts, delay)
        message, link = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Routes(message, link, delay, self._limits(apart, delay))

    def _take_pairs(
        self, a: np.ndarray, b: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], delay: np.ndarray
    ) -> None:
        """Let messages between pairs that have a wire pass it, and take its delay."""
        for at, ends in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            if ends in self._pairs:
                link, seconds = self._pairs[ends]
                parts.append((np.array([at]), np.array([link])))
                delay[at] = seconds

    def _limits(self, apart: np.ndarray, delay: np.ndarray) -> np.ndarray:
        """Return the most that each message gets: of the network, and of one connection that loses packets.

        Mathis, Semke, Mahdavi, Ott, "The Macroscopic Behavior of the TCP Congestion Avoidance Algorithm", 1997: with a
        share p of packets lost, ``1460 bytes / round trip * sqrt(3 / 2 / p)``.
        """
        limit = np.full(len(apart), self.network.bytes_per_s(self.network.message_mbit))
        if self.network.loss:
            with np.errstate(divide="ignore"):
                lossy = 1460.0 / (2.0 * delay) * math.sqrt(1.5 / self.network.loss)
            limit = np.where(apart, np.minimum(limit, lossy), limit)
        return limit

    def _regions(self, hosts: int) -> np.ndarray:
        sizes = [region.hosts or 0 for region in self.network.regions_of(hosts)]
        return np.repeat(np.arange(len(sizes)), sizes)

    def _carried(self, link: Link) -> float:
        return self.network.bytes_per_s(None if math.isinf(link.bandwidth_mbit) else link.bandwidth_mbit)

    def bytes_on_links(self, senders: np.ndarray, receivers: np.ndarray, nbytes: Sequence[float] | float) -> np.ndarray:
        """Return what messages of ``nbytes`` each put on every link, ``[links]``."""
        routes = self.routes(senders, receivers)
        sizes = np.broadcast_to(np.asarray(nbytes, dtype=float), len(senders))
        return np.bincount(routes.link, weights=sizes[routes.message], minlength=len(self.names))
