"""What each host carries to each other one: rounds of a tournament, in which all hosts exchange in pairs at once."""

from __future__ import annotations

import statistics
import time

import torch
import torch.distributed as dist

from sgp_core.calibration.exchanges import LARGE, SMALL, Places
from sgp_core.calibration.fit import fit_line
from sgp_core.calibration.slow_links import Reach
from sgp_core.training.peers import Peers

_REPEATS = 5
_LEAST = 1 << 18
"""Bytes of the least of the large messages."""


def tournament(hosts: int) -> list[list[int]]:
    """Return rounds in which every two hosts meet once: in each, the opponent of each host, its own number if it rests.

    The circle method: one host stays, the others go around it (Kirkman 1847).
    """
    seats = hosts + hosts % 2
    rounds = []
    for turn in range(seats - 1):
        around = [0, *((turn + seat) % (seats - 1) + 1 for seat in range(seats - 1))]
        opponents = list(range(hosts))
        for seat in range(seats // 2):
            one, other = around[seat], around[seats - 1 - seat]
            if max(one, other) < hosts:
                opponents[one], opponents[other] = other, one
        rounds.append(opponents)
    return rounds


def measure_pairs(peers: Peers, device: torch.device, places: Places, budget_s: float) -> list[Reach]:
    """Return what each host reaches each other one with. Collective: all workers call it.

    All workers of a host exchange with those of equal place on the other, both ways at once, and what counts is the
    slowest of them. In a round all hosts do so, so links that several pairs share are measured as they share them.

    Args:
        budget_s: how long it may take, about.
    """
    host, place = divmod(peers.rank, places.per_host)
    rounds, exchange = tournament(places.hosts), _Exchange(peers, device)
    found: list[Reach] = []
    for opponents in rounds:
        other = opponents[host] * places.per_host + place
        exchange(other, SMALL)  # some transports connect at the first message
        size, repeats = _plan(max(peers.gather(exchange(other, _LEAST))), budget_s / len(rounds))
        small = exchange.medians(other, SMALL, _REPEATS)
        large = exchange.medians(other, size, repeats)
        for receiver, sender in enumerate(opponents):
            if sender != receiver:
                workers = slice(receiver * places.per_host, (receiver + 1) * places.per_host)
                line = fit_line([(SMALL, max(small[workers])), (size, max(large[workers]))])
                found.append(Reach(sender, receiver, line.rate * places.per_host, line.alpha / 2))
    return sorted(found)


def _plan(least_s: float, round_s: float) -> tuple[int, int]:
    """Return the bytes of large messages and how often they are sent in a round, given what the least ones take."""
    times = round_s / max(least_s, 1e-6)
    size = int(min(LARGE, max(_LEAST, _LEAST * times / _REPEATS))) // 4 * 4
    return size, max(1, min(_REPEATS, int(times)))


class _Exchange:
    """Sends to another worker and receives from it at once."""

    def __init__(self, peers: Peers, device: torch.device) -> None:
        self._peers = peers
        self._mine, self._inbox = (torch.zeros(LARGE // 4, device=device) for _ in range(2))

    def __call__(self, other: int, nbytes: int) -> float:
        """Return the seconds after which ``nbytes`` are there; 0 where the other is this worker itself."""
        self._peers.barrier()
        if other == self._peers.rank:
            return 0.0
        mine, inbox = self._mine[: nbytes // 4], self._inbox[: nbytes // 4]
        began = time.perf_counter()
        both = [dist.P2POp(dist.irecv, inbox, other), dist.P2POp(dist.isend, mine, other)]
        works = dist.batch_isend_irecv(both)  # the backend may make one of both
        works[0].wait()
        if inbox.is_cuda:
            torch.cuda.synchronize(inbox.device)
        taken = time.perf_counter() - began
        for work in works[1:]:
            work.wait()
        return taken

    def medians(self, other: int, nbytes: int, repeats: int) -> list[float]:
        """Return every worker's seconds in the median, by rank."""
        taken = [self._peers.gather(self(other, nbytes)) for _ in range(repeats)]
        return [statistics.median(times) for times in zip(*taken, strict=True)]
