"""When workers that keep step are done with each: computation, messages and collectives, one after another.

All workers do the same acts in the same order, so one array of moments, one for each worker, is all there is to carry
from act to act; the waiting is that of the max-plus recurrences of docs/clock.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sgp_core.clock.acts import Act, Await, Collective, Leave
from sgp_core.clock.collectives import CollectiveCosts
from sgp_core.clock.computation import ComputationModel
from sgp_core.clock.fluid import transfer
from sgp_core.clock.follow import Follower
from sgp_core.clock.traffic import Traffic
from sgp_core.clock.wiring import Routes, Wiring

BACKWARD = 2.0 / 3.0
"""Share of a step's computation that backward is: it takes twice as long as forward."""
_ROUTES_KEPT = 64


class InStep:
    """The clock of rules whose workers keep step.

    Attributes:
        times: s at which each worker was done with the latest step, ``[workers]``.
        computed: s that each has computed so far, ``[workers]``.
        link_bytes: bytes that have passed each link so far, ``[links]``.
        sent: bytes that each worker has sent so far, ``[workers]``.
    """

    def __init__(self, wiring: Wiring, computation: ComputationModel, traffic: Traffic, seed: int) -> None:
        n = traffic.workers
        self.times, self.computed, self.sent = np.zeros(n), np.zeros(n), np.zeros(n)
        self.link_bytes = np.zeros(len(wiring.names))
        self._wiring, self._computation, self._seed = wiring, computation, seed
        self._follower = Follower(traffic)
        self._collectives = CollectiveCosts(wiring, traffic.node_size)
        self._posted: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}
        """By key: senders, receivers, when each message has left, when it is there."""
        self._queues = traffic.algorithm.traits.steps_in_flight > 1
        self._busy_until = np.zeros((2, n))  # the links of each worker, out and in
        self._routes: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, Routes, np.ndarray]] = {}
        self._latest = np.zeros(n)  # how long each computed in the latest step

    @property
    def step(self) -> int:
        """Number of steps that are done."""
        return self._follower.step

    def advance(self) -> np.ndarray:
        """Return when each worker is done with the next step, s, ``[workers]``."""
        seconds = self._computation.seconds(self.step, len(self.times), self._seed)
        self._compute(seconds)
        for act in self._follower.acts():
            self._do(act)
        return self.times.copy()

    def _compute(self, seconds: np.ndarray) -> None:
        speed = self._wiring.network.busy_speed
        self._latest = seconds
        self.computed += seconds
        if speed < 1.0 and self._posted:
            until = self.times.copy()
            for senders, receivers, left, there in self._posted.values():
                np.maximum.at(until, senders, left)
                np.maximum.at(until, receivers, there)
            slow = np.minimum(until - self.times, seconds / speed)
            self._latest = seconds + slow * (1.0 - speed)
        self.times = self.times + self._latest

    def _do(self, act: Act) -> None:
        if isinstance(act, Leave):
            self._leave(act)
        elif isinstance(act, Await):
            self._await(act)
        else:
            self._join(act)

    def _leave(self, act: Leave) -> None:
        senders, receivers = act.senders, act.receivers
        routes, load = self._routes_of(senders, receivers)
        self.link_bytes += load * act.nbytes
        np.add.at(self.sent, senders, act.nbytes)
        network = self._wiring.network
        ready = self.times
        if network.cpu_ms_per_message:
            ready = self.times + np.bincount(senders, minlength=len(ready)) * network.cpu_ms_per_message / 1e3
            self.times = ready
        if act.in_backward:
            ready = ready - BACKWARD * self._latest
        starts = ready[senders]
        if network.rendezvous:
            starts = np.maximum(starts, ready[receivers] + routes.delay)
        if self._queues:
            starts = np.maximum(starts, np.maximum(self._busy_until[0, senders], self._busy_until[1, receivers]))
        left = transfer(routes, self._wiring.capacity, starts, float(act.nbytes))
        if act.in_backward:
            left = np.maximum(left, np.maximum(self.times[senders], self.times[receivers]))
        if self._queues:
            np.maximum.at(self._busy_until[0], senders, left)
            np.maximum.at(self._busy_until[1], receivers, left)
        self._posted[act.key] = senders, receivers, left, left + routes.delay

    def _await(self, act: Await) -> None:
        senders, receivers, left, there = self._posted[act.key]
        times = self.times.copy()
        if act.sent:
            np.maximum.at(times, senders, left)
        if act.received:
            np.maximum.at(times, receivers, there)
            if (cost := self._wiring.network.cpu_ms_per_message) > 0.0:
                times += np.bincount(receivers, minlength=len(times)) * cost / 1e3
            del self._posted[act.key]
        self.times = times

    def _join(self, act: Collective) -> None:
        made = self._collectives.of(act)
        self.link_bytes += made.link_bytes
        self.sent += made.sent
        if len(self.times) == 1:
            return
        together = np.full(made.groups, -np.inf)
        np.maximum.at(together, made.group, self.times)
        self.times = together[made.group] + made.seconds

    def _routes_of(self, senders: np.ndarray, receivers: np.ndarray) -> tuple[Routes, np.ndarray]:
        """Return the ways of messages, and how many pass each link; those of a period of graphs are kept."""
        key = id(senders), id(receivers)
        known = self._routes.get(key)
        if known is None or known[0] is not senders or known[1] is not receivers:
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            routes = self._wiring.routes(senders, receivers)
            load = np.bincount(routes.link, minlength=len(self._wiring.names)).astype(float)
            self._routes[key] = known = senders, receivers, routes, load
        return known[2], known[3]

    # -- saving ------------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return plain data from which :meth:`load` goes on to the bit."""
        return {
            "times": self.times.tolist(),
            "computed": self.computed.tolist(),
            "sent": self.sent.tolist(),
            "link_bytes": self.link_bytes.tolist(),
            "busy_until": self._busy_until.tolist(),
            "posted": {str(key): [part.tolist() for part in parts] for key, parts in self._posted.items()},
            "follower": self._follower.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.times, self.computed = np.array(state["times"]), np.array(state["computed"])
        self.sent, self.link_bytes = np.array(state["sent"]), np.array(state["link_bytes"])
        self._busy_until = np.array(state["busy_until"])
        self._posted = {}
        for key, (senders, receivers, left, there) in state["posted"].items():
            ends = np.array(senders, dtype=np.int64), np.array(receivers, dtype=np.int64)
            self._posted[int(key)] = (*ends, np.array(left), np.array(there))
        self._follower.load(state["follower"])
