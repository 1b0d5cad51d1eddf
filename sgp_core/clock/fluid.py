"""How messages share links: each gets its max-min fair share of every link that it passes, at every moment.

Bertsekas, Gallager, "Data Networks", 1992, section 6.5.2: all rates grow together until a link is full; the messages on
it keep what they have, and the others go on. Rates change only when a message begins or ends.
"""

from __future__ import annotations

import numpy as np

from sgp_core.clock.wiring import Routes

_ROUND_OFF = 1e-12
_MOMENTS = 512
"""Beyond so many messages that share links, those that end within this part of the whole time end a round together."""


def transfer(routes: Routes, capacity: np.ndarray, starts: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
    """Return when the last byte of each message has left, s, ``[messages]``.

    Args:
        capacity: of each link, bytes/s.
        starts: when each message begins, s, ``[messages]``.
        nbytes: of each, ``[messages]``.
    """
    finite = np.isfinite(capacity[routes.link])
    message, link = routes.message[finite], routes.link[finite]
    alone = routes.limit.copy()
    np.minimum.at(alone, message, capacity[link])
    _halve_for_both_ends(alone, message, link, capacity)
    ends = starts + nbytes / alone
    if len(link) == 0 or np.bincount(link).max() <= 1:
        return ends
    shared = np.zeros(len(starts), dtype=bool)
    while (more := _meeting(message, link, starts, ends) & ~shared).any():
        shared |= more
        chosen = shared[message]
        index = np.cumsum(shared) - 1
        crowd = Crowd(index[message[chosen]], link[chosen], capacity, routes.limit[shared])
        ends[shared] = crowd.transfer(starts[shared], nbytes[shared])
    return ends


def _halve_for_both_ends(alone: np.ndarray, message: np.ndarray, link: np.ndarray, capacity: np.ndarray) -> None:
    """Lower the rates of messages that pass a link twice, as those inside a host pass its processors."""
    order = np.lexsort((link, message))
    twice = order[1:][(message[order][1:] == message[order][:-1]) & (link[order][1:] == link[order][:-1])]
    np.minimum.at(alone, message[twice], capacity[link[twice]] / 2)


def _meeting(message: np.ndarray, link: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return which messages are on a link at the same time as another, ``[messages]``."""
    order = np.lexsort((starts[message], link))
    message, link = message[order], link[order]
    by_end = np.argsort(ends, kind="stable")
    rank = np.empty(len(ends), dtype=np.int64)
    rank[by_end] = np.arange(len(ends))
    latest = np.maximum.accumulate(link * len(ends) + rank[message]) % len(ends)  # of those before, link by link
    before = by_end[latest[:-1]]
    together = (link[1:] == link[:-1]) & (ends[before] > starts[message[1:]]) & (before != message[1:])
    meeting = np.zeros(len(ends), dtype=bool)
    meeting[message[1:][together]] = True
    meeting[before[together]] = True
    return meeting


class Crowd:
    """Messages that share links; those that share none with each other, not even through others, go on apart.

    Args:
        message, link: which message passes which link, ``[entries]`` each.
        capacity: of each link, bytes/s.
        limit: the most that each message gets, bytes/s.
    """

    def __init__(self, message: np.ndarray, link: np.ndarray, capacity: np.ndarray, limit: np.ndarray) -> None:
        self._message, self._limit = message, limit
        used, self._link = np.unique(link, return_inverse=True)
        self._capacity = capacity[used]
        self._part = self._parts()
        self._parts_number = int(self._part.max()) + 1

    def _parts(self) -> np.ndarray:
        """Return a number for each message, equal for those that share links."""
        label = np.arange(len(self._limit))
        while True:
            of_link = np.full(len(self._capacity), len(label))
            np.minimum.at(of_link, self._link, label[self._message])
            lower = label.copy()
            np.minimum.at(lower, self._message, of_link[self._link])
            if (lower == label).all():
                return np.unique(label, return_inverse=True)[1]
            label = lower

    def rates(self, active: np.ndarray) -> np.ndarray:
        """Return the fair rate of each message, bytes/s; 0 for those that are not ``active``."""
        rate, growing, left = np.zeros(len(active)), active.copy(), self._capacity.copy()
        while growing.any():
            on = growing[self._message]
            load = np.bincount(self._link[on], minlength=len(left))
            share = np.divide(left, load, out=np.full(len(left), np.inf), where=load > 0)
            offered = self._limit.copy()
            np.minimum.at(offered, self._message[on], share[self._link[on]])
            level = self._least(np.where(growing, offered, np.inf))
            full = growing & (offered <= level * (1 + _ROUND_OFF))
            rate[full] = level[full]
            on = full[self._message]
            used = np.bincount(self._link[on], weights=rate[self._message[on]], minlength=len(left))
            left = np.maximum(left - used, 0.0)
            growing &= ~full
        return rate

    def transfer(self, starts: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        """Return when the last byte of each has left: each part goes from one begin or end to its next."""
        ends, left = np.full(len(starts), np.nan), nbytes.astype(float)
        waiting, active = np.ones(len(starts), dtype=bool), np.zeros(len(starts), dtype=bool)
        now = self._least(starts)
        grain = 0.0
        if len(starts) > _MOMENTS:
            load = np.bincount(self._link, minlength=len(self._capacity)).max()
            grain = (np.ptp(starts) + nbytes.max() * load / self._capacity.max()) / _MOMENTS
        while True:
            active |= waiting & (starts <= now + grain)
            waiting &= ~active
            if not active.any() and not waiting.any():
                return ends
            rate = self.rates(active)
            needs = np.divide(left, rate, out=np.full(len(left), np.inf), where=active & (rate > 0))
            then = self._least(np.minimum(now + needs, np.where(waiting, starts, np.inf)))
            done = active & (now + needs <= then + grain)
            ends[done] = (now + needs)[done]
            going = active & ~done
            left[going] -= rate[going] * (then - now)[going]
            active = going
            now = np.where(np.isfinite(then), then, now)

    def _least(self, values: np.ndarray) -> np.ndarray:
        """Return for each message the least of its part's values."""
        least = np.full(self._parts_number, np.inf)
        np.minimum.at(least, self._part, values)
        return least[self._part]
