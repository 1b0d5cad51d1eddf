"""Faults on purpose in a worker: those of ``faults``, and the failure of ``debug.fail_rank``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from launcher.config.schema import DebugOptions, FailHow
from sgp_core.faults import Fault, FaultInjector
from sgp_core.faults.base import StepPlace
from sgp_core.faults.processes import FailWorker, KillWorker

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan
    from sgp_core.training.callbacks import TrainingProgress


class PlannedFaults:
    """What goes wrong in the workers of a run, as a companion of training."""

    def __init__(self, plan: RunPlan) -> None:
        self._injector = FaultInjector([*plan.faults, *_debug_faults(plan.debug)], plan.run_dir)

    @contextmanager
    def accompany(self, progress: TrainingProgress) -> Iterator[None]:
        """Strike while training goes on inside the block."""
        optimizer, gossip = progress.optimizer, progress.gossip
        with self._injector.attach(progress.model, optimizer, gossip, progress.total_steps):
            yield


def _debug_faults(debug: DebugOptions) -> list[Fault]:
    if debug.fail_rank is None:
        return []
    if debug.fail_how is FailHow.kill:
        return [KillWorker(rank=debug.fail_rank, step=debug.fail_step, at=StepPlace.end, of_attempt=True)]
    message = f"debug.fail_rank={debug.fail_rank}, debug.fail_step={debug.fail_step}"
    where = {"rank": debug.fail_rank, "step": debug.fail_step, "at": StepPlace.end}
    return [FailWorker(**where, of_attempt=True, message=message)]  # type: ignore[arg-type]
