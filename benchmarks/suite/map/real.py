"""Real workers behind real links: trainings by the library's own loop, whose steps last as long as they are said to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import Variable
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from sgp_core.clock import ComputationModel
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment
from sgp_core.training.loop import train

Row = dict[str, Any]
_WARM_UP = 3
"""Steps before a training's time is taken."""


class Pace:
    """Makes the computation of a step of this process last as long as a model says.

    A worker computes in less time than that; it sleeps for the rest at the end of backward, before any rule acts on the
    gradients: as if it had a machine of its own.

    Args:
        computation: of all workers.
        seed: of what is drawn; that of the run, as in the clock.

    Attributes:
        ends: the moments at which steps, messages included, have ended.
        computed: what they computed, in s.
        late: how often the real computation took longer than it should.
    """

    def __init__(self, computation: ComputationModel, seed: int) -> None:
        self._computation, self._seed = computation, seed
        self.ends: list[float] = []
        self.computed: list[float] = []
        self.late = 0
        self._waits = False

    def after_forward(self, module: nn.Module, inputs: object, output: object) -> None:
        """Let the end of the backward that begins at this output be slept for."""
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(self._begin_backward)

    def _begin_backward(self, gradient: torch.Tensor) -> None:
        if not self._waits:  # of the outputs of all modules, the first that backward comes to
            self._waits = True
            Variable._execution_engine.queue_callback(self.end_backward)

    def end_backward(self) -> None:
        """Sleep until the computation of this step is over."""
        self._waits = False
        if not self.ends:
            return
        seconds = self._computation.seconds(len(self.ends), dist.get_world_size(), self._seed)
        mine = float(seconds[dist.get_rank()])
        rest = self.ends[-1] + mine - time.perf_counter()
        self.late += rest < 0
        self.computed.append(mine)
        time.sleep(max(0.0, rest))

    def after_step(self, *_: Any) -> None:
        """Note the end of a step."""
        self.ends.append(time.perf_counter())


@contextmanager
def paced(computation: ComputationModel, seed: int) -> Iterator[Pace]:
    """All models of this process keep a pace inside the block."""
    pace = Pace(computation, seed)
    handles = [
        register_module_forward_hook(pace.after_forward),
        register_optimizer_step_post_hook(pace.after_step),  # after the rule has acted
    ]
    try:
        yield pace
    finally:
        for handle in handles:
            handle.remove()


def train_all(wanted: list[dict[str, Any]], score: str = "loss") -> list[dict[str, Any]]:
    """Train as one worker of a group, one experiment after another; return what each took.

    Args:
        wanted: each with ``experiment``, ``steps`` and ``computation``, as plain data.
        score: which one is returned.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="sgp-bench-") as mine:
        folder: list[Any] = [mine]
        dist.broadcast_object_list(folder)  # that of rank 0
        for number, one in enumerate(wanted):
            where = Path(folder[0], str(number))
            took, final = _train(Experiment.from_dict(one["experiment"]), one["steps"], one["computation"], where)
            found.append({**took, "score": final[score]})
        dist.barrier()
    return found


def _train(experiment: Experiment, steps: int, computation: dict[str, Any], folder: Path) -> tuple[Row, Row]:
    """Return what a training took, and its scores in the end."""
    experiment.training.max_steps = steps
    model = ComputationModel.from_options(computation)
    sent = _sent_bytes()
    with paced(model, experiment.seed) as pace:
        summary = train(
            experiment,
            directory=folder,
            device=torch.device("cpu"),
            evaluation=EvaluationConfig(every_epochs=0, generate="never"),  # type: ignore[arg-type]
            checkpoint=CheckpointConfig(every_epochs=0),
            log_every=steps,
            transport="p2p",
        )
    ends = pace.ends
    first = min(_WARM_UP, steps - 2)
    lasted = _over_workers(ends[-1], max) - _over_workers(ends[first], max)
    per_step = lasted / (steps - 1 - first)
    computed = sum(pace.computed[first:]) / (steps - 1 - first)
    took = {
        "step_ms": per_step * 1e3,
        "seconds": per_step * steps,
        "utilisation": _over_workers(computed, _mean) / per_step,
        "bytes_per_step": _over_workers(_sent_bytes() - sent, _mean) / steps,
        "late": _over_workers(pace.late / steps, _mean),
    }
    return took, summary["final"]


def _over_workers(value: float, how: Any) -> float:
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return float(how(values))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _sent_bytes() -> float:
    """Return what has left this worker's network namespace, headers, words of rendezvous and all."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "eth0":
            return float(figures.split()[8])
    return 0.0
