"""MLflow as a mirror of the record: one MLflow run, whose points are sent once each."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from sgp_core.atomic_files import read_json, write_json
from sgp_core.tracking.base import Row
from sgp_core.tracking.mirror import Mirror, Points, start_of_training
from sgp_core.tracking.names import dashboard_numbers, headline, summary_scores

_MOST_POINTS, _MOST_PARAMETERS = 500, 100
"""Of one request."""
_LONGEST_PARAMETER = 500
_STATES = {"completed": "FINISHED", "failed": "FAILED"}
"""What MLflow calls the end of a run; any other is KILLED."""


class MlflowTracker(Mirror):
    """Mirrors the rows of a run to MLflow.

    The run's folder notes which MLflow run it has, in ``mlflow.json``; a resumed experiment goes on in it. MLflow
    cannot take points back. So points that it has are not sent again, and those of the record that it lacks are sent
    first.

    Args:
        run_id: the id of the run.
        directory: the run's folder.
        uri: a server, or a folder or database as MLflow writes it; None: ``MLFLOW_TRACKING_URI``, else ``store``.
        store: the folder for MLflow's files where no other place is named; by default ``directory/mlruns``.
        project: the experiment of MLflow that the run belongs to; it is made if there is none.
        name: what MLflow calls the run.
        notes: a text shown with the run.
        tags: by which runs are found.
        config: settings and provenance (the git sha) of the run, nested; those of the experiment become parameters.
        record: the ``metrics.jsonl`` that is mirrored; by default the one in ``directory``.
        finish_timeout_s: how long the end of the run may wait for the last rows.
    """

    title = "MLflow"

    def __init__(
        self,
        run_id: str,
        directory: Path,
        *,
        uri: str | None = None,
        store: Path | None = None,
        project: str = "stochastic-gradient-push",
        name: str | None = None,
        notes: str | None = None,
        tags: Mapping[str, str] | None = None,
        config: dict[str, Any] | None = None,
        record: Path | None = None,
        finish_timeout_s: float = 15.0,
    ) -> None:
        directory = Path(directory).absolute()
        super().__init__(Path(record or directory / "metrics.jsonl"), finish_timeout_s)
        self._note = directory / "mlflow.json"
        self._store = Path(store or directory / "mlruns").absolute()
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or self._store.as_uri()
        self._project, self._name, self._config = project, name or run_id, config or {}
        git = (self._config.get("provenance") or {}).get("git") or {}
        known = {"run_id": run_id, "mlflow.note.content": notes, "mlflow.source.git.commit": git.get("sha")}
        self._tags = {**(tags or {}), **{key: str(value) for key, value in known.items() if value}}
        self._waiting: list[Any] = []

    def _open(self) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the format that many runs may write to at once
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ImportError(f"{error}; pip install 'stochastic-gradient-push[mlflow]' installs it") from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self._uri)
        self._points = Points()
        self._began = start_of_training(self._record)
        self._run = self._earlier_run() or self._new_run()

    @property
    def _place(self) -> str:
        """Where it writes, without a name and password."""
        return re.sub(r"//[^/@]*@", "//", self._uri)

    def _earlier_run(self) -> str | None:
        """Return the MLflow run that an earlier attempt has made, and note the points it has; None without one."""
        from mlflow.exceptions import MlflowException

        note = read_json(self._note) or {}
        if note.get("uri") != self._place or not isinstance(note.get("run"), str):
            return None
        try:
            run = self._client.get_run(note["run"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage != "active":  # a user has deleted it
            return None
        for name in run.data.metrics:
            for point in self._client.get_metric_history(run.info.run_id, name):
                self._points.note(name, point.step)
        self._began = run.info.start_time / 1000  # so that an interruption leaves no gap in time
        self._client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)

    def _new_run(self) -> str:
        """Make an MLflow run, and return its id."""
        from mlflow.entities import Param

        run = self._client.create_run(
            self._experiment(), start_time=round(self._began * 1000), run_name=self._name, tags=self._tags
        )
        write_json(self._note, {"uri": self._place, "run": run.info.run_id})
        settings = self._config.get("experiment") or {}
        parameters = [
            Param(_valid(key), str(value)[:_LONGEST_PARAMETER])
            for key, value in {**dict(_flat(settings)), **headline(settings)}.items()
        ]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(run.info.run_id, params=parameters[first : first + _MOST_PARAMETERS])
        return str(run.info.run_id)

    def _experiment(self) -> str:
        """Return the id of the MLflow experiment. Runs of one sweep that write to one folder make it once."""
        with self._lock():
            found = self._client.get_experiment_by_name(self._project)
            return str(found.experiment_id if found else self._client.create_experiment(self._project))

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        if self._uri != self._store.as_uri():
            yield
            return
        self._store.mkdir(parents=True, exist_ok=True)
        with FileLock(self._store / ".lock"):
            yield

    def _write(self, row: Row) -> None:
        numbers = {name: value for name, value in dashboard_numbers(row).items() if name != "step"}  # the axis
        self._add(numbers, row["step"], self._began + (row.get("wall_time_s") or 0.0))

    def _add(self, numbers: dict[str, float], step: int, wall_time: float) -> None:
        from mlflow.entities import Metric

        numbers = {_valid(name): value for name, value in numbers.items()}
        points = self._points.new(numbers, step).items()
        self._waiting += [Metric(name, value, round(wall_time * 1000), step) for name, value in points]
        if len(self._waiting) >= _MOST_POINTS:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            self._client.log_batch(self._run, metrics=self._waiting[:_MOST_POINTS])
            del self._waiting[:_MOST_POINTS]

    def _close(self, status: str, summary: dict[str, Any]) -> None:
        if status == "completed":
            for prefix in ("final", "best"):
                row = summary.get(prefix) or {}
                scores = summary_scores(prefix, row)
                self._add(scores, int(scores.get(f"{prefix}/step", 0)), self._began + (row.get("wall_time_s") or 0.0))
            self._flush()
        self._client.set_tag(self._run, "status", status)
        self._client.set_terminated(self._run, _STATES.get(status, "KILLED"))


def _valid(name: str) -> str:
    """Return a name that MLflow accepts."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
