"""DiLoCo: an outer Nesterov optimizer over long stretches of local steps; whole, or streaming in fragments.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023, arXiv 2311.08105.
Douillard, Donchev, Rush et al., "Streaming DiLoCo with overlapping communication: Towards a Distributed Free Lunch",
2025, arXiv 2501.18512.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from sgp_core.algorithms.base import OUTERS, Outer, average_exactly
from sgp_core.algorithms.fragments import FragmentPattern, FragmentTurns
from sgp_core.algorithms.worker import Worker
from sgp_core.compression import COMPRESSIONS, Codec, build_compression
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.registry import LATER, VALUES
from sgp_core.topology.base import Topology

NO_CODEC = "none"
_MIX_WITH_OVERLAP = 0.5
_SPARSE, _FRACTION = "top_k", 0.03


def _codecs() -> list[str]:
    """Return the codecs that an average can have: those that remember nothing, and see no shapes."""
    found = {name: COMPRESSIONS.get(name) for name in COMPRESSIONS.names()}
    return [name for name, codec in found.items() if not codec.keeps_shapes and codec.memory is Codec.memory]


def _identify(options: Mapping[str, Any]) -> str | None:
    """Return what a run's identity has of the codec: nothing without, as of runs that are older than codecs."""
    return None if options["compression"] == NO_CODEC else str(options["compression"])


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

    With ``compression`` what is averaged are codes of each worker's own ``g_p - x_{i,p}(t) + r_{i,p}``, where r is what
    the codes of this fragment have left out before, see :meth:`sgp_core.algorithms.Network.post_mean`. The codecs of
    gossip's messages (``compression=`` beside ``outer=``) are another choice: those follow the models of peers, edge by
    edge, and a base may have them at the same time.

    Attributes:
        codec: of the displacements; None: they are not coded.
    """

    codec: ClassVar[Codec | None] = None

    tau: int = 50
    lr: float = 0.7
    momentum: float = 0.9
    fragments: int = field(default=1, metadata=LATER)
    overlap: int = field(default=0, metadata=LATER)
    mix: float | None = field(default=None, metadata=LATER)
    pattern: FragmentPattern = field(default=FragmentPattern.strided, metadata=LATER)
    compression: str = field(default=NO_CODEC, metadata={"identity": _identify, VALUES: lambda: [NO_CODEC, *_codecs()]})
    fraction: float | None = field(default=None, metadata=LATER)

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
        if self.fraction is not None and self.compression != _SPARSE:
            raise self._refuse(f"fraction is of compression={_SPARSE}, not of {self.compression}")
        object.__setattr__(self, "codec", self._build_codec())

    def _build_codec(self) -> Codec | None:
        known = [NO_CODEC, *_codecs()]
        if self.compression not in known:
            hint = did_you_mean(self.compression, known)
            raise self._refuse(f"compression cannot be '{self.compression}'{hint}")
        options = {"fraction": _FRACTION if self.fraction is None else self.fraction}
        return build_compression(self.compression, **(options if self.compression == _SPARSE else {}))

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
        return self.fragments > 1 or self.overlap > 0 or self.kept > 0.0 or self.codec is not None

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
        if (leaving := self._turns.turn_after(done)) is not None:
            self._send(worker, leaving, done)
        if self.codec is not None and self.overlap > 1:
            halfway = done - self.overlap // 2
            if self._left(worker, halfway) is not None:
                worker.network.forward_mean(halfway)
        left = done - self.overlap
        if (landing := self._left(worker, left)) is not None:
            self._land(worker, landing, left)

    def _left(self, worker: Worker, steps: int) -> int | None:
        """Return the fragment that left after so many steps."""
        return self._turns.turn_after(steps) if steps > worker.first_step else None

    def outer_step(self, worker: Worker) -> None:
        average_exactly(worker)
        x, x0, m = worker.params, worker.memory("anchor"), worker.memory("outer_momentum")
        delta = x.mul_(-1.0).add_(x0)
        m.mul_(self.momentum).add_(delta)
        delta.mul_(-self.lr).add_(m, -self.lr * self.momentum).add_(x0)

    def _send(self, worker: Worker, fragment: int, done: int) -> None:
        """Let the average of a fragment begin to travel: of the models, or of coded displacements."""
        x = self._turns.cut(worker.params, fragment)
        if self.codec is None:
            worker.network.post_mean(x, done)
            return
        residual, x0 = (self._turns.cut(worker.memory(name), fragment) for name in ("residual", "anchor"))
        worker.network.post_mean(residual.add_(x0).add_(x, -1.0), done, self.codec)

    def _land(self, worker: Worker, fragment: int, left: int) -> None:
        """Take the outer step of a fragment whose average left after ``left`` steps, and mix it in."""
        whole = worker.params, worker.memory("anchor"), worker.memory("outer_momentum")
        x, x0, m = (self._turns.cut(vector, fragment) for vector in whole)
        delta = worker.network.take_mean(left)
        if self.codec is None:
            delta.mul_(-1.0).add_(x0)
        m.mul_(self.momentum).add_(delta)
        x0.copy_(delta.mul_(-self.lr).add_(m, -self.lr * self.momentum).add_(x0))
        if self.kept:
            x.mul_(self.kept).add_(x0, 1.0 - self.kept)
        else:
            x.copy_(x0)
        worker.averaged = False
