"""When workers that keep step are done with each: computation, messages and collectives, one after another.

All workers do the same acts in the same order, so one array of moments, one for each worker, is all there is to carry
from act to act; the waiting is that of the max-plus recurrences of docs/clock.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from sgp_core.clock.acts import Act, AverageInBackward, Await, AwaitCollective, Begin, Collective, Leave
from sgp_core.clock.collectives import CollectiveCosts
from sgp_core.clock.computation import BACKWARD, ComputationModel
from sgp_core.clock.fluid import transfer
from sgp_core.clock.follow import Follower
from sgp_core.clock.gradient_buckets import average_in_backward
from sgp_core.clock.traffic import Traffic
from sgp_core.clock.wiring import Routes, Wiring, join

_ROUTES_KEPT = 64


@dataclass(eq=False)
class Flight:
    """Messages that are under way.

    Attributes:
        senders, receivers: workers, ``[messages]``.
        nbytes: of each.
        starts: when they began, s.
        whole: when all of each was there to be sent, s.
        left: when their last bytes will have left, s.
        routes: their ways.
    """

    senders: np.ndarray
    receivers: np.ndarray
    nbytes: float
    starts: np.ndarray
    whole: np.ndarray
    left: np.ndarray
    routes: Routes

    @property
    def there(self) -> np.ndarray:
        """When they will have arrived, s."""
        return self.left + self.routes.delay

    def state(self) -> list[Any]:
        """Return plain data from which :meth:`of` makes it again."""
        arrays = (self.senders, self.receivers, self.starts, self.whole, self.left)
        return [self.nbytes, *(array.tolist() for array in arrays)]

    @classmethod
    def of(cls, state: list[Any], wiring: Wiring) -> Flight:
        """Return what :meth:`state` was of."""
        nbytes, *arrays = state
        senders, receivers = (np.array(ends, dtype=np.int64) for ends in arrays[:2])
        starts, whole, left = map(np.array, arrays[2:])
        return cls(senders, receivers, nbytes, starts, whole, left, wiring.routes(senders, receivers))


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
        self._flights: dict[int, Flight] = {}
        self._begun: dict[int, np.ndarray] = {}  # when collectives under way are over, s, for each worker
        self._routes: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, Routes, np.ndarray]] = {}
        self._latest = np.zeros(n)  # how long each computed in the latest step
        self._alone = np.zeros(n)  # how long it had taken without messages

    @property
    def elapsed(self) -> float:
        """When the mean worker was done with the latest step, s."""
        return float(self.times.mean())

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
        """Let all workers compute, more slowly while their messages travel."""
        self.computed += seconds
        self._alone = seconds
        self._latest = self._beside(seconds, self.times, self._flights.values(), self._begun.values())
        self.times = self.times + self._latest

    def _beside(
        self,
        seconds: np.ndarray,
        since: np.ndarray,
        flights: Collection[Flight],
        collectives: Collection[np.ndarray] = (),
    ) -> np.ndarray:
        """Return how long computations of so many seconds take from ``since`` on, while messages travel."""
        speed = self._wiring.network.busy_speed
        if speed == 1.0 or not (flights or collectives):
            return seconds
        until = np.maximum.reduce([since, *collectives])
        for flight in flights:
            np.maximum.at(until, flight.senders, flight.left)
            np.maximum.at(until, flight.receivers, flight.there)
        return seconds + np.minimum(until - since, seconds / speed) * (1.0 - speed)

    def _do(self, act: Act) -> None:
        if isinstance(act, Leave):
            self._leave(act)
        elif isinstance(act, Await):
            self._await(act)
        elif isinstance(act, AverageInBackward):
            self._average(act)
        elif isinstance(act, Begin):
            self._begin(act)
        elif isinstance(act, AwaitCollective):
            self.times = np.maximum(self.times, self._begun.pop(act.key))
        else:
            self._join(act)

    def _leave(self, act: Leave) -> None:
        """Let messages leave, once both ends are there if they must be, and share links with those under way."""
        senders, receivers = act.senders, act.receivers
        routes, load = self._routes_of(senders, receivers)
        self.link_bytes += load * act.nbytes
        np.add.at(self.sent, senders, act.nbytes)
        network = self._wiring.network
        if network.cpu_ms_per_message:
            cost = np.bincount(senders, minlength=len(self.times)) * network.cpu_ms_per_message / 1e3
            self.times = self.times + cost
        ready = self.times - BACKWARD * self._latest if act.in_backward else self.times
        starts = ready[senders]
        if network.rendezvous:
            starts = np.maximum(starts, ready[receivers] + routes.delay)
        flight = Flight(senders, receivers, float(act.nbytes), starts, starts, starts, routes)
        self._flights[act.key] = flight
        self._share()
        if act.in_backward:
            backward = self._beside(BACKWARD * self._latest, ready, [flight])
            self.times = ready + np.minimum(backward, BACKWARD * self._alone / network.busy_speed)
            flight.whole = self.times[senders]  # the last part leaves when there is all of it
            flight.left = np.maximum(flight.left, flight.whole)

    def _share(self) -> None:
        """Find out when each message under way will have left."""
        flights = list(self._flights.values())
        routes = flights[0].routes if len(flights) == 1 else join([flight.routes for flight in flights])
        starts = np.concatenate([flight.starts for flight in flights])
        nbytes = np.concatenate([np.full(len(flight.starts), flight.nbytes) for flight in flights])
        left = transfer(routes, self._wiring.capacity, starts, nbytes)
        ends = np.cumsum([len(flight.starts) for flight in flights])
        for flight, part in zip(flights, np.split(left, ends[:-1]), strict=True):
            flight.left = np.maximum(part, flight.whole)

    def _await(self, act: Await) -> None:
        flight = self._flights[act.key]
        times = self.times.copy()
        if act.sent:
            np.maximum.at(times, flight.senders, flight.left)
        if act.received:
            np.maximum.at(times, flight.receivers, flight.there)
            if (cost := self._wiring.network.cpu_ms_per_message) > 0.0:
                times += np.bincount(flight.receivers, minlength=len(times)) * cost / 1e3
            del self._flights[act.key]
        self.times = times

    def _join(self, act: Collective) -> None:
        self.times = self._end_of(act, self.times)

    def _begin(self, act: Begin) -> None:
        """Let a collective begin, after those that are under way: it has the links for itself, as any has."""
        self._begun[act.key] = self._end_of(act.collective, np.maximum.reduce([self.times, *self._begun.values()]))

    def _end_of(self, act: Collective, ready: np.ndarray) -> np.ndarray:
        """Return when a collective is over for each worker, which is ready for it at ``ready``, s; count its bytes."""
        made = self._collectives.of(act)
        self.link_bytes += made.link_bytes
        self.sent += made.sent
        if len(ready) == 1:
            return ready
        together = np.full(made.groups, -np.inf)
        np.maximum.at(together, made.group, ready)
        ends: np.ndarray = together[made.group] + made.seconds
        return ends

    def _average(self, act: AverageInBackward) -> None:
        """Let buckets of gradients travel while backward computes the others."""
        made = [[self._collectives.of(one) for one in act.collectives(nbytes)] for nbytes in act.buckets]
        for cost in chain.from_iterable(made):
            self.link_bytes += cost.link_bytes
            self.sent += cost.sent
        work = BACKWARD * self._latest
        ready = np.cumsum(act.buckets) / sum(act.buckets)
        seconds = [sum(cost.seconds for cost in costs) for costs in made]
        speed = self._wiring.network.busy_speed
        self.times = average_in_backward(self.times - work, work, ready.tolist(), seconds, speed)

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
            "latest": self._latest.tolist(),
            "begun": {str(key): ends.tolist() for key, ends in self._begun.items()},
            "flights": {str(key): flight.state() for key, flight in self._flights.items()},
            "follower": self._follower.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.times, self.computed = np.array(state["times"]), np.array(state["computed"])
        self.sent, self.link_bytes = np.array(state["sent"]), np.array(state["link_bytes"])
        self._latest = np.array(state["latest"])
        self._flights = {int(key): Flight.of(flight, self._wiring) for key, flight in state["flights"].items()}
        self._begun = {int(key): np.array(ends) for key, ends in state.get("begun", {}).items()}
        self._follower.load(state["follower"])
