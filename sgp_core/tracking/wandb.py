"""Weights & Biases as a mirror of the record. A run does not wait for it, and does not fail with it."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sgp_core.metrics import LOSS, Metric
from sgp_core.tracking.account import has_account
from sgp_core.tracking.base import Row
from sgp_core.tracking.fragments import Fragments
from sgp_core.tracking.mirror import Mirror, short
from sgp_core.tracking.names import AXES, dashboard_numbers, dashboard_numbers_of_rank, headline, summary_scores

_log = logging.getLogger(__name__)

_INIT_SECONDS = 20
_LEAVE_SECONDS = 2
"""How long W&B's service may take to end once the run is finished or given up."""


class WandbTracker(Mirror):
    """Mirrors the rows of a run, or of one worker of it.

    The run's id is stable: an interrupted and resumed experiment is one run. Rows of the record that the server lacks
    are written first, and rows that it has are not sent again. Offline, a new fragment is written from the record and
    replaces the earlier ones (:mod:`sgp_core.tracking.fragments`). Without an account (no key in the environment or in
    netrc) and without ``WANDB_MODE`` the run is offline.

    Args:
        run_id: the stable id of the run.
        directory: the run's folder; offline files go to ``directory/wandb``.
        mode: "online", "offline" or "disabled"; None leaves it to ``WANDB_MODE`` and the account.
        config: settings and provenance (the git sha) of the run, nested. From ``config["experiment"]`` what runs are
            grouped by is also put at the top.
        scores: the facts of the scores in validation rows, whose best values W&B is to show.
        record: the ``metrics.jsonl`` that is mirrored; by default the one in ``directory``.
        rank: a worker other than 0 has a run of its own, with the curves that are its own.
        artifact: upload ``model.safetensors`` and ``model.json`` of a completed run.
        finish_timeout_s: time for all that can be left at the end: a start in progress, the rows, the upload.
        on_stop: called when a user presses "stop" on the run's page; by default nothing happens.
    """

    title = "Weights & Biases"

    def __init__(
        self,
        run_id: str,
        directory: Path,
        *,
        project: str = "stochastic-gradient-push",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        job_type: str = "train",
        notes: str | None = None,
        mode: str | None = None,
        config: dict[str, Any] | None = None,
        scores: Sequence[Metric] = (LOSS,),
        record: Path | None = None,
        rank: int = 0,
        artifact: bool = False,
        finish_timeout_s: float = 15.0,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self._directory = Path(directory).absolute()
        super().__init__(Path(record or self._directory / "metrics.jsonl"), finish_timeout_s)
        self._scores = scores
        self._rank = rank
        self._artifact = artifact
        self._on_stop = on_stop
        config = config or {}
        suffix = f"-rank{rank}" if rank else ""
        self._arguments: dict[str, Any] = {
            "id": f"{run_id}{suffix}",
            "project": project,
            "entity": entity,
            "name": name and f"{name}{suffix}",
            "group": group,
            "tags": list(tags) or None,
            "job_type": "rank" if rank else job_type,
            "notes": notes,
            "config": {**headline(config.get("experiment", {})), "rank": rank, **config},
            "dir": str(self._directory),
        }
        self._mode = mode
        if mode is None and "WANDB_MODE" not in os.environ and not has_account():
            self._mode = "offline"
        self._fragments = Fragments(self._directory, f"{run_id}{suffix}")
        self._run: Any = None
        self._opened: Any = None  # the same, and kept when the mirror is off
        self._first_step = 0
        self._rows = 0
        self._off = self._planned == "disabled"

    @property
    def url(self) -> str | None:
        """The address of the run's page; None while offline, off or not started yet."""
        return None if self._run is None or getattr(self._run, "offline", False) else self._run.url

    @property
    def sync_command(self) -> str | None:
        """The command that uploads what is written offline; None if nothing is, or if it lacks rows of the record."""
        if not self._fragments.current() and (self._off or self._planned != "offline"):
            return None
        if self._off and not self._fragments.state():
            return None
        return f"wandb sync {shlex.quote(str(self._fragments.folder))}/offline-run-*"

    def resume(self, step: int) -> None:
        """Training continues after ``step`` steps: the mirror gets the record up to there, then the logged rows."""
        if not self._off:
            self._fragments.mark_incomplete()
        super().resume(step)

    @property
    def _planned(self) -> str | None:
        return self._mode or os.environ.get("WANDB_MODE")

    # -- the thread -----------------------------------------------------------------------------------------------
    def _open(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else exit waits until reports of errors have arrived
        import wandb

        if self._off:  # given up while it was imported
            raise TimeoutError
        # A service inherited from a parent process would take the run for one in use after this process is killed.
        os.environ.pop("WANDB_SERVICE", None)
        settings = _settings(
            wandb,
            finish_timeout=self._finish_timeout_s,
            stop_fn=lambda: self._stop(),  # a method would be copied with its object, as W&B copies its settings
            x_disable_stats=self._rank > 0,
        )
        self._fragments.folder.mkdir(parents=True, exist_ok=True)
        try:
            if self._planned == "offline":
                run = self._init_offline(wandb, settings)
            else:
                mode: dict[str, Any] = {} if self._mode is None else {"mode": self._mode}
                run = wandb.init(**self._arguments, **mode, resume="allow", settings=settings)
        except Exception as error:
            if self._planned == "offline" or self._off:
                raise
            _log.warning("Weights & Biases cannot be reached (%s); this run is written offline", short(error))
            wandb.teardown()  # else its service takes the run's id for one in use
            run = self._init_offline(wandb, settings)
        self._opened = run
        self._define_metrics(run)
        self._first_step = run.starting_step  # 0 offline; online the first that the server does not have
        self._run = run

    def _replace_earlier(self) -> None:
        self._fragments.set_aside(keep=Path(self._run.dir).parent)

    def _init_offline(self, wandb: Any, settings: Any) -> Any:
        """Start a fragment that replaces what the server has once it is uploaded; a resumed one would be appended."""
        return wandb.init(**self._arguments, mode="offline", settings=settings)

    def _define_metrics(self, run: Any) -> None:
        run.define_metric("*", step_metric="step")
        for axis in AXES:
            run.define_metric(axis, hidden=True)
        ranked = [metric for metric in self._scores if metric.direction is not None]
        for metric in ranked:
            best = "min" if metric.lower_is_better else "max"
            for name in (metric.name, f"{metric.name}_local_mean"):
                run.define_metric(f"val/{name}", step_metric="step", summary=f"{best},last")

    def _write(self, row: Row) -> None:
        """Log a row. Rows of the same step become one line, since Weights & Biases has one line per step."""
        self._rows += 1
        numbers = dashboard_numbers_of_rank(row) if self._rank else dashboard_numbers(row)
        if numbers and row["step"] >= self._first_step:
            self._run.log(numbers, step=row["step"])

    def _close(self, status: str, summary: dict[str, Any]) -> None:
        run, url = self._run, self.url
        if not self._rank:
            run.summary.update(
                {**summary_scores("final", summary.get("final")), **summary_scores("best", summary.get("best"))}
            )
        run.summary.update({"status": status})
        if status == "completed" and self._artifact and not self._rank:
            try:
                self._log_model(summary)
            except Exception as error:
                _log.warning("the model is not uploaded to Weights & Biases (%s)", short(error))
        if status == "preempted":
            run.mark_preempting()
        run.finish(exit_code=0 if status == "completed" else 1)
        self._fragments.mark_complete(self._rows, url)

    def _log_model(self, summary: dict[str, Any]) -> None:
        import wandb

        final, best = summary.get("final") or {}, summary.get("best") or {}
        aliases = ["latest", f"step-{final['step']}"] if "step" in final else ["latest"]
        if final and final.get("step") == best.get("step"):
            aliases.append("best")
        model = wandb.Artifact(f"model-{self._arguments['id']}", type="model", metadata=summary_scores("final", final))
        for name in ("model.safetensors", "model.json"):  # no copies in the home folder
            model.add_file(str(self._directory / name), policy="immutable", skip_cache=True)
        self._run.log_artifact(model, aliases=aliases)

    def _stop(self) -> None:
        """Replace W&B's default, which interrupts the main thread, even on fatal errors of its own."""
        if self._on_stop is not None:
            self._on_stop()

    def _leave(self) -> None:
        """End W&B's service, unless another run of this process uses it: at exit W&B would wait for it."""
        wandb = sys.modules.get("wandb")
        teardown = getattr(wandb, "teardown", None)  # none while it is being imported
        if teardown is not None and getattr(wandb, "run", None) in (None, self._opened):
            leaving = threading.Thread(target=teardown, name="wandb-teardown", daemon=True)
            leaving.start()
            leaving.join(_LEAVE_SECONDS)

    def _give_up(self) -> None:
        self._run = None


def _settings(wandb: Any, **more: Any) -> Any:
    """Return the wanted settings that this version of wandb knows.

    The transaction log's flush interval is private: 1 s instead of 15 s is what lets rows survive a SIGKILL.
    """
    wanted = {
        "init_timeout": _INIT_SECONDS,
        "login_timeout": _INIT_SECONDS,
        "finish_timeout_raises": True,
        "console": "off",
        "silent": True,
        "allow_val_change": True,
        "x_transaction_log_flush_interval": 1.0,
        "x_save_requirements": False,
        **more,
    }
    known = getattr(wandb.Settings, "model_fields", wanted)
    settings = wandb.Settings()
    for name, value in wanted.items():
        if name in known:
            try:
                setattr(settings, name, value)
            except Exception:
                _log.debug("wandb refuses %s=%r", name, value)
    return settings
