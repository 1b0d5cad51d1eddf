"""The watchdog of a worker: a hang ends the run, in a report that names the worker that is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from launcher.worker.report import WorkerReport, describe_error

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.config.run_plan import RunPlan
    from sgp_core.errors import WorkerHung
    from sgp_core.training.companions import Companion


@contextmanager
def watch_worker(plan: RunPlan, folder: Path, report: WorkerReport) -> Iterator[Companion]:
    """End a hang inside the block, and yield the companion by which training tells what it does.

    Args:
        folder: of this attempt; gets the stack traces of all workers, if there is a hang.
        report: of this worker, which has to end even if its training thread does not.
    """
    if plan.cluster.watchdog_s is None or plan.cluster.elastic:  # elastic runs leave such a worker out
        yield lambda progress: nullcontext()
        return
    from sgp_core.watchdog import Watchdog

    def end(error: WorkerHung) -> None:
        report.write("failed", error=describe_error(error, report.rank))
        print(f"worker {report.rank}: {error}", flush=True)
        sys.stderr.flush()
        os._exit(1)

    patience_s, first_s = plan.cluster.watchdog_s, plan.cluster.watchdog_first_s
    with Watchdog(patience_s, first_s, folder=folder, on_hang=end) as watchdog:

        def accompany(progress: Any) -> Any:
            return watchdog.watch(progress.model, progress.optimizer, progress.gossip)

        yield accompany
