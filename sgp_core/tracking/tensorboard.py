"""TensorBoard as a mirror of the record: one event file, written anew by every attempt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sgp_core.tracking.base import Row
from sgp_core.tracking.mirror import Mirror, Points, start_of_training
from sgp_core.tracking.names import dashboard_numbers, headline, summary_scores

_EVENTS = "events.out.tfevents.*"


class TensorBoardTracker(Mirror):
    """Mirrors the rows of a run to ``directory/tensorboard``, for ``tensorboard --logdir``.

    A resumed run writes its record to a new event file and then removes the earlier one. So every step is in it once,
    even if the process was killed. Numbers are 32-bit floats, as TensorBoard has them.

    Args:
        run_id: the id of the run.
        directory: the run's folder.
        config: settings of the run, nested; those that runs are grouped by are shown as hyperparameters.
        record: the ``metrics.jsonl`` that is mirrored; by default the one in ``directory``.
        finish_timeout_s: how long the end of the run may wait for the last rows.
    """

    title = "TensorBoard"

    def __init__(
        self,
        run_id: str,
        directory: Path,
        *,
        config: dict[str, Any] | None = None,
        record: Path | None = None,
        finish_timeout_s: float = 15.0,
    ) -> None:
        directory = Path(directory).absolute()
        super().__init__(Path(record or directory / "metrics.jsonl"), finish_timeout_s)
        self._run_id = run_id
        self._headline = headline((config or {}).get("experiment", {}))
        self._folder = directory / "tensorboard"
        self._writer: Any = None

    def _open(self) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError(f"{error}; pip install 'stochastic-gradient-push[tensorboard]' installs it") from error
        self._earlier = list(self._folder.glob(_EVENTS))
        self._writer = EventFileWriter(str(self._folder))
        self._points = Points()
        self._began = start_of_training(self._record)

    def _replace_earlier(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        # By this mark a TensorBoard that is open knows that what it has read of the earlier file is out of date.
        start = Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
        self._writer.add_event(start)
        hyperparameters = hparams_pb(self._headline, trial_id=self._run_id, start_time_secs=self._began)
        self._writer.add_event(Event(wall_time=time.time(), step=0, summary=hyperparameters))
        self._flush()
        for file in self._earlier:
            file.unlink(missing_ok=True)

    def _write(self, row: Row) -> None:
        self._add(dashboard_numbers(row), row["step"], self._began + (row.get("wall_time_s") or 0.0))

    def _add(self, numbers: dict[str, float], step: int, wall_time: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = {name: value for name, value in numbers.items() if name != "step"}  # the axis
        values = [Summary.Value(tag=name, simple_value=one) for name, one in self._points.new(numbers, step).items()]
        if values:
            self._writer.add_event(Event(wall_time=wall_time, step=step, summary=Summary(value=values)))

    def _flush(self) -> None:
        self._writer.flush()

    def _close(self, status: str, summary: dict[str, Any]) -> None:
        for prefix in ("final", "best"):
            scores = summary_scores(prefix, summary.get(prefix))
            self._add(scores, int(scores.pop(f"{prefix}/step", 0)), time.time())
        self._writer.close()
