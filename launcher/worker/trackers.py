"""The trackers of one worker: ``metrics.jsonl``, the launcher's progress file and, if chosen, Weights & Biases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.runs.row_lines import RowLines
from launcher.runs.run_folder import RunFolder
from launcher.runs.scores import read_scores
from launcher.wandb.run import trackers

if TYPE_CHECKING:
    from sgp_core.tracking import JsonlTracker, Tracker


@dataclass(frozen=True)
class WorkerLog:
    """Where a worker's progress goes: to its log as lines, and on rank 0 to the progress file of the attempt."""

    lines: RowLines
    file: JsonlTracker | None

    def show(self, row: dict[str, Any]) -> None:
        """Show a row of metrics (with ``total_steps``)."""
        if self.file is not None:
            self.file.log(row)
        line = self.lines.line(row)
        if line is not None:
            print(line, flush=True)


@dataclass
class WorkerTrackers:
    """The trackers of one worker in one attempt.

    Attributes:
        spec: the run's ``spec.json``.
        on_row: called on rank 0 with every row and the totals; None: they go to the progress file of the attempt,
            and every worker prints them to its log.
        opened: the trackers that are open.
    """

    spec: Mapping[str, Any]
    folder: RunFolder
    rank: int
    attempt: int
    on_row: Callable[[dict[str, Any]], None] | None
    opened: list[Tracker] = field(default_factory=list)

    def open(self) -> None:
        """Open all trackers of this worker."""
        from sgp_core.tracking import JsonlTracker

        if self.rank == 0:
            self.opened.append(JsonlTracker(self.folder.metrics))
        if self.on_row is None:
            file = JsonlTracker(self.folder.progress(self.attempt)) if self.rank == 0 else None
            self.on_row = WorkerLog(RowLines(read_scores(self.spec)), file).show
        self.opened += trackers(self.spec, self.folder.path, self.rank)

    def close(self, status: str, summary: dict[str, Any]) -> None:
        """Close all trackers. One that cannot be closed is logged: it must not turn success into failure."""
        for tracker in self.opened:
            try:
                tracker.finish(status, summary)
            except Exception:
                logging.getLogger(__name__).exception("a tracker could not be closed")

    def mirror(self) -> dict[str, str | None]:
        """Return what the summary says of Weights & Biases once the trackers are closed; each may be None.

        ``sync_command`` uploads what was written offline. ``mirror_error``: why the mirror lacks rows of the record.
        """
        return {
            "sync_command": next((command for t in self.opened if (command := getattr(t, "sync_command", None))), None),
            "mirror_error": next((trouble for t in self.opened if (trouble := getattr(t, "trouble", None))), None),
        }
