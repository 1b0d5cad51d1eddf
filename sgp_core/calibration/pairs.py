"""What each host carries to each other one: rounds of a tournament, in which all hosts exchange in pairs at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import torch.distributed as dist

from sgp_core.calibration.exchanges import LARGE, SMALL, Places
from sgp_core.calibration.slow_links import Reach
from sgp_core.training.peers import Peers

_REPEATS = 5
_SMALL_REPEATS = 10
_LEAST = 1 << 20
"""Bytes of the least of the large messages."""
_DELAYS = 3
"""In a small message: the receiver is ready, the message, the receiver's word."""


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

    All workers of a host send to those of equal place on the other, and then receive; what counts is the slowest of
    them, in the best of some repetitions, since a machine that does something else only makes them slower. In a round
    all hosts do so, so links that several pairs share are measured as they share them.

    Args:
        budget_s: how long it may take, about.
    """
    host, place = divmod(peers.rank, places.per_host)
    rounds = tournament(places.hosts)
    found: list[Reach] = []
    for opponents in rounds:
        ways = [(one, other) for one, other in enumerate(opponents) if one < other]
        for senders in (ways, [(other, one) for one, other in ways]):
            to = {sender: receiver * places.per_host + place for sender, receiver in senders}.get(host)
            of = {receiver: sender * places.per_host + place for sender, receiver in senders}.get(host)
            sending = _Sending(peers, device, to, of)
            sending(SMALL)  # some transports connect at the first message
            size, repeats = _plan(max(sending(_LEAST)), budget_s / len(rounds) / 2)
            small, large = sending.times(SMALL, _SMALL_REPEATS), sending.times(size, repeats)
            for sender, receiver in senders:
                workers = slice(sender * places.per_host, (sender + 1) * places.per_host)
                small_s, large_s = (min(max(once[workers]) for once in taken) for taken in (small, large))
                rate = (size - SMALL) / max(large_s - small_s, 1e-9)
                found.append(Reach(sender, receiver, rate * places.per_host, small_s / _DELAYS))
    return sorted(found)


def _plan(least_s: float, seconds: float) -> tuple[int, int]:
    """Return the bytes of large messages and how often they are sent in the time, given what the least ones take."""
    times = seconds / max(least_s, 1e-6)
    size = int(min(LARGE, max(_LEAST, _LEAST * times / _REPEATS))) // 4 * 4
    return size, max(1, min(_REPEATS, int(times)))


class _Sending:
    """A message to worker ``to``, or from worker ``of``, and the receiver's word that it is there; None: no message.

    The sender takes the time: a receiver that is late to look finds it there, and would take it for fast.
    """

    def __init__(self, peers: Peers, device: torch.device, to: int | None, of: int | None) -> None:
        self._peers, self._to, self._of = peers, to, of
        self._data = torch.zeros(LARGE // 4, device=device)
        self._word = torch.zeros(1, device=device)

    def __call__(self, nbytes: int) -> list[float]:
        """Return every sender's seconds, by rank; 0 for others. Collective."""
        self._peers.barrier()
        data, began = self._data[: nbytes // 4], time.perf_counter()
        if self._to is not None:
            dist.send(data, self._to)
            dist.recv(self._word, self._to)
        elif self._of is not None:
            dist.recv(data, self._of)
            dist.send(self._word, self._of)
        if data.is_cuda:
            torch.cuda.synchronize(data.device)
        taken = time.perf_counter() - began
        return self._peers.gather(taken if self._to is not None else 0.0)

    def times(self, nbytes: int, repeats: int) -> Sequence[list[float]]:
        """Return every sender's seconds in each repetition."""
        return [self(nbytes) for _ in range(repeats)]
