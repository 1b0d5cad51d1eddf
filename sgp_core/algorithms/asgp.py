"""Asynchronous SGP: PushSum gossip in which no worker ever waits for another.

Assran, Loizou, Ballas, Rabbat, "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019, taken to its limit;
Assran, Rabbat, "Asynchronous Gradient Push", IEEE Transactions on Automatic Control, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, OneSided, Traits, declare
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.registry import LATER


@ALGORITHMS.register("asgp")
@dataclass(frozen=True)
class AsynchronousSGP(Algorithm):
    """A local step, shares left in the mailboxes of the out-peers of one's own step, and whatever lies in one's own.

    With ``k`` the worker's own count of steps::

        x_i <- x_i + (step of the user's optimizer at z_i)
        x_i keeps P_ii(k) x_i and leaves P_ji(k) x_i with j; w_i likewise
        x_i <- x_i + (what lies in i's mailbox)    w_i likewise    z_i = x_i / w_i

    What a worker leaves, it leaves of its weight, and an update, which lands on ``x``, moves ``z`` by 1 / w times as
    much. So that weights do not drain towards workers that are slow or stand still, a worker keeps the share of a peer
    that has not yet collected the one before (at most one message lies on an edge) or that stands still until all meet,
    as at an evaluation; and it keeps everything while its own weight is below ``least_weight``. Columns still sum to 1,
    so both sums are conserved exactly, what lies in mailboxes counted.

    Args:
        max_staleness: wait, in the k-th step, for in-peers that have not pushed at their own step k - max_staleness;
            None: never.
        least_weight: weight below which a worker gives nothing away; 0: gives always.
        retransmit: number shares, and send each again until it is acknowledged, so that a lost message loses no mass
            and a doubled one adds none; None: where links have faults. Costs a copy of each share, kept until then.
    """

    traits: ClassVar[Traits] = Traits(sends_weight=True, one_sided=OneSided.mailbox, gossips=False)

    max_staleness: int | None = None
    least_weight: float = 0.75
    retransmit: bool | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        declare(self, type(self).traits, retransmits=self.retransmit)
        if self.max_staleness is not None and self.max_staleness < 0:
            raise ConfigurationError(
                f"algorithm 'asgp': max_staleness must be 0 or more steps, or null (never wait), not"
                f" {self.max_staleness}"
            )
        if not 0.0 <= self.least_weight < 1.0:
            raise ConfigurationError(
                f"algorithm 'asgp': least_weight must lie in [0, 1), 1 being the mean weight, not {self.least_weight}"
            )

    def before_step(self, worker: Worker) -> None:
        worker.one_sided.scratch().copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        x, w = worker.params, worker.weight
        x.add_(worker.one_sided.scratch(), w - 1.0)
        worker.weight = worker.one_sided.push(x, worker.step, w, hold=float(w) < self.least_weight)

    def receive(self, worker: Worker) -> None:
        x = worker.params
        worker.weight = worker.one_sided.collect(x, worker.step, worker.weight, self.max_staleness)
        x.div_(worker.weight)
