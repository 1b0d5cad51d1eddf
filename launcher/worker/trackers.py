"""The trackers of one worker: ``metrics.jsonl``, the launcher's progress file and, mirrors of the former."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.runs.json_fields import whole
from launcher.runs.line_tail import LineTail
from launcher.runs.row_lines import RowLines
from launcher.runs.run_folder import RunFolder
from launcher.runs.scores import read_scores
from launcher.worker.mirrors import mirrors

if TYPE_CHECKING:
    from sgp_core.tracking import Tracker

_MOST_HELD = 8


@dataclass(frozen=True)
class WorkerLog:
    """Where a worker's progress goes: to its log as lines, and on rank 0 to the progress file of the attempt."""

    lines: RowLines
    file: Tracker | None

    def show(self, row: dict[str, Any]) -> None:
        """Show a row of metrics (with ``total_steps``)."""
        if self.file is not None:
            self.file.log(row)
        line = self.lines.line(row)
        if line is not None:
            print(line, flush=True)


@dataclass
class SpeakersRows:
    """The rows of an elastic run: whichever worker speaks for all at a step writes them.

    Attributes:
        path: the file.
        speaks: tells whether this worker speaks after so many steps.
        begins: whether this worker drops the rows after the step that training begins at. Others may be writing by
            the time that a replacement begins.
    """

    path: Path
    speaks: Callable[[int], bool]
    begins: bool
    _held: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_MOST_HELD))
    """The latest rows, which another worker writes, unless it has died before it could."""

    def __post_init__(self) -> None:
        from sgp_core.tracking import JsonlTracker

        self._rows = JsonlTracker(self.path)

    def resume(self, step: int) -> None:
        """Drop rows after ``step``, if no other worker has written any yet."""
        if self.begins:
            self._rows.resume(step)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row if this worker speaks for all, and those before it that the one before has left out."""
        if not self.speaks(row["step"]):
            self._held.append(row)
            return
        if self._held:
            reached = max((whole(found.get("step")) or 0 for found in LineTail(self.path).objects()), default=0)
            for held in self._held:
                if held["step"] > reached:
                    self._rows.log(held)
            self._held.clear()
        self._rows.log(row)

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """Close the file."""
        self._rows.finish(status, summary)


@dataclass
class WorkerTrackers:
    """The trackers of one worker in one attempt.

    Attributes:
        spec: the run's ``spec.json``.
        on_row: called on rank 0 with every row and the totals; None: they go to the progress file of the attempt,
            and every worker prints them to its log.
        speaks: tells whether the rows of this worker after so many steps are those of the run; None: those of rank 0
            always are.
        begins: whether this worker begins with the others, and does not replace one.
        opened: the trackers that are open.
    """

    spec: Mapping[str, Any]
    folder: RunFolder
    rank: int
    attempt: int
    on_row: Callable[[dict[str, Any]], None] | None
    speaks: Callable[[int], bool] | None = None
    begins: bool = True
    opened: list[Tracker] = field(default_factory=list)

    def open(self) -> None:
        """Open all trackers of this worker."""
        if self.rank == 0 or self.speaks is not None:
            self.opened.append(self._of_the_run(self.folder.metrics))
        if self.on_row is None:
            progress = self.folder.progress(self.attempt)
            file = self._of_the_run(progress) if self.rank == 0 or self.speaks is not None else None
            self.on_row = WorkerLog(RowLines(read_scores(self.spec)), file).show
        self.opened += mirrors(self.spec, self.folder.path, self.rank)

    def _of_the_run(self, path: Path) -> Tracker:
        from sgp_core.tracking import JsonlTracker

        if self.speaks is None:
            return JsonlTracker(path)
        return SpeakersRows(path, self.speaks, begins=self.rank == 0 and self.begins)

    def close(self, status: str, summary: dict[str, Any]) -> None:
        """Close all trackers. One that cannot be closed is logged: it must not turn success into failure."""
        for tracker in self.opened:
            if conclude := getattr(tracker, "conclude", None):  # of a mirror, which takes its time
                conclude(status, summary)
        for tracker in self.opened:
            try:
                tracker.finish(status, summary)
            except Exception:
                logging.getLogger(__name__).exception("a tracker could not be closed")

    def mirror(self) -> dict[str, str | None]:
        """Return what the summary says of Weights & Biases once the trackers are closed; each may be None.

        ``sync_command`` uploads what was written offline. ``mirror_error``: why the mirror lacks rows of the record.
        """
        uploaded = [tracker for tracker in self.opened if hasattr(tracker, "sync_command")]
        return {
            "sync_command": next((command for t in self.opened if (command := getattr(t, "sync_command", None))), None),
            "mirror_error": next((trouble for t in uploaded if (trouble := getattr(t, "trouble", None))), None),
        }
