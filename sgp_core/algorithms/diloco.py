"""DiLoCo: an outer Nesterov optimizer over long stretches of local steps; whole, or streaming in fragments.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023, arXiv 2311.08105.
Douillard, Donchev, Rush et al., "Streaming DiLoCo with overlapping communication: Towards a Distributed Free Lunch",
2025, arXiv 2501.18512.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from sgp_core.algorithms.base import OUTERS, Outer, average_exactly
from sgp_core.algorithms.fragments import FragmentPattern, FragmentTurns
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.registry import LATER
from sgp_core.topology.base import Topology

_MIX_WITH_OVERLAP = 0.5


@OUTERS.register("diloco")
@dataclass(frozen=True)
class DiLoCo(Outer):
    """Every ``tau`` base steps (H in the paper) the average displacement is an outer gradient for Nesterov SGD::

        Delta = x_{t,0} - mean_i x_i       m <- momentum m + Delta       x_{t+1,0} = x_{t,0} - lr (Delta + momentum m)

    This is torch.optim.SGD(lr, momentum, nesterov=True) applied to Delta. Meant for ``algorithm=local_sgd`` with
    ``period=0`` and AdamW inside; the inner optimizer's state is each worker's own and is kept.

    With ``fragments`` the model is averaged piece by piece: each fragment p every ``tau`` steps, one at a time, and as
    far apart as can be. With ``overlap`` (the paper's tau) its average travels while so many steps are taken. So, with
    g for what all workers agree on (the paper's theta, ``anchor``), when step t has ended on fragment p's turn::

        Delta_p = g_p - mean_i x_{i,p}(t)                           leaves at t, arrives until t + overlap
        m_p <- momentum m_p + Delta_p        g_p <- g_p - lr (Delta_p + momentum m_p)
        x_{i,p} <- mix x_{i,p} + (1 - mix) g_p                      at t + overlap

    ``mix`` (the paper's alpha) is how much of the steps that were taken meanwhile a worker keeps: 0 drops them. By
    default it is 0 without overlap, where there are none, and 0.5 with it, as in the paper.
    """

    tau: int = 50
    lr: float = 0.7
    momentum: float = 0.9
    fragments: int = field(default=1, metadata=LATER)
    overlap: int = field(default=0, metadata=LATER)
    mix: float | None = field(default=None, metadata=LATER)
    pattern: FragmentPattern = field(default=FragmentPattern.strided, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pattern", FragmentPattern(self.pattern))
        if not 0.0 <= self.momentum < 1.0:
            raise self._refuse(f"momentum must lie in [0, 1), not {self.momentum}")
        if self.lr <= 0.0:
            raise self._refuse(f"lr must be positive, not {self.lr}")
        if not 1 <= self.fragments <= self.tau:
            raise self._refuse(
                f"fragments must lie between 1 and tau={self.tau}, so that one at most leaves in a step, not be"
                f" {self.fragments}"
            )
        if not 0 <= self.overlap < self._turns.distance:
            raise self._refuse(
                f"overlap must lie between 0 and {self._turns.distance - 1} steps, so that a fragment has arrived"
                f" before the next one leaves (tau={self.tau}, fragments={self.fragments}), not be {self.overlap}"
            )
        if self.mix is not None and not 0.0 <= self.mix < 1.0:
            raise self._refuse(f"mix must lie in [0, 1), or be null, not {self.mix}")

    def _refuse(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"outer 'diloco': {reason}")

    @cached_property
    def _turns(self) -> FragmentTurns:
        return FragmentTurns(self.tau, self.fragments, self.pattern)

    @property
    def kept(self) -> float:
        """The share of its own parameters that a worker keeps where an average arrives."""
        return self.mix if self.mix is not None else _MIX_WITH_OVERLAP if self.overlap else 0.0

    @property
    def streams(self) -> bool:
        """Whether anything is other than in plain DiLoCo, in which all workers take the average over, and wait."""
        return self.fragments > 1 or self.overlap > 0 or self.kept > 0.0

    def check(self, topology: Topology) -> None:
        super().check(topology)
        if self.streams and self.base.leaves_one(topology):
            raise self._refuse(
                "fragments, overlap and mix average without PushSum weights, which leave 1 here; use"
                " algorithm=local_sgd, a doubly stochastic topology without messages in flight, or fragments=1"
                " overlap=0"
            )

    def receive(self, worker: Worker) -> None:
        if not self.streams:
            super().receive(worker)
            return
        self.base.receive(worker)
        done = worker.step + 1
        leaving = self._turns.turn_after(done)
        if leaving is not None:
            worker.network.post_mean(self._turns.cut(worker.params, leaving), done)
        left = done - self.overlap
        landing = self._turns.turn_after(left) if left > worker.first_step else None
        if landing is not None:
            self._land(worker, landing, left)

    def outer_step(self, worker: Worker) -> None:
        average_exactly(worker)
        x, x0, m = worker.params, worker.memory("anchor"), worker.memory("outer_momentum")
        delta = x.mul_(-1.0).add_(x0)
        m.mul_(self.momentum).add_(delta)
        delta.mul_(-self.lr).add_(m, -self.lr * self.momentum).add_(x0)

    def _land(self, worker: Worker, fragment: int, left: int) -> None:
        """Take the outer step of a fragment whose average left after ``left`` steps, and mix it in."""
        whole = worker.params, worker.memory("anchor"), worker.memory("outer_momentum")
        x, x0, m = (self._turns.cut(vector, fragment) for vector in whole)
        delta = worker.network.take_mean(left).mul_(-1.0).add_(x0)
        m.mul_(self.momentum).add_(delta)
        x0.copy_(delta.mul_(-self.lr).add_(m, -self.lr * self.momentum).add_(x0))
        if self.kept:
            x.mul_(self.kept).add_(x0, 1.0 - self.kept)
        else:
            x.copy_(x0)
        worker.averaged = False
