"""Weights & Biases as a mirror of ``metrics.jsonl``: it may be away or broken; the run does not notice."""

from __future__ import annotations

import logging
import math
import netrc
import os
import shlex
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sgp_core.tracking.base import Row

_log = logging.getLogger(__name__)

_INIT_SECONDS = 20
_FINISH_SECONDS = 30


class WandbTracker:
    """Mirrors rows to a Weights & Biases run; made on rank 0 only.

    Metrics are called ``train/loss``, ``val/accuracy``, ... over the run's own ``step``. The run's id is stable:
    an interrupted and resumed experiment is one run, online by ``resume="allow"``, offline as several fragments
    of one id which :attr:`sync_command` uploads together. Without an account (no key in the environment or in
    netrc) and without ``WANDB_MODE`` the run is offline. A failure costs one warning; then the mirror is off.

    Args:
        run_id: the stable id of the run.
        directory: the run's folder; offline files go to ``directory/wandb``.
        mode: "online", "offline" or "disabled"; None leaves it to ``WANDB_MODE`` and the account.
        config: settings and provenance (the git sha) of the run, nested; shown flattened with dots.
        on_stop: called when somebody presses "stop" on the run's page; by default nothing happens.
    """

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
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self._directory = Path(directory).absolute()
        self._run: Any = None
        self._on_stop = on_stop
        arguments: dict[str, Any] = {
            "id": run_id,
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "tags": list(tags) or None,
            "job_type": job_type,
            "notes": notes,
            "config": _flat(config or {}),
            "dir": str(self._directory),
            "resume": "allow",
        }
        if mode is None and not _has_account() and "WANDB_MODE" not in os.environ:
            mode = "offline"
        self._guard("start", lambda: self._start(mode, arguments))

    @property
    def active(self) -> bool:
        """Whether rows are still being mirrored."""
        return self._run is not None

    @property
    def url(self) -> str | None:
        """Where the run is shown; None while offline or off."""
        return None if self._run is None or getattr(self._run, "offline", False) else self._run.url

    @property
    def sync_command(self) -> str | None:
        """The command that uploads what was written offline; None if nothing was."""
        written = any((self._directory / "wandb").glob("offline-run-*"))
        return f"wandb sync {shlex.quote(str(self._directory / 'wandb'))}/offline-run-*" if written else None

    def resume(self, step: int) -> None:
        """Nothing to forget: resuming is exact, so rows logged twice have the same step and scores."""

    def log(self, row: Row) -> None:
        """Mirror one row under the name of its split; what was not measured is left out."""
        split = row.get("split", "train")
        named: dict[str, Any] = {"step": row.get("step"), "epoch": row.get("epoch")}
        for name, value in row.items():
            if name not in ("step", "epoch", "split") and _is_number(value):
                named[f"{split}/{name}"] = value
        self._guard("log", lambda: self._run.log(named))

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """Write the summary (``best/...``, ``final/...``, ``status``) and close, within 30 s."""

        def close() -> None:
            numbers = _flat({key: summary[key] for key in ("final", "best") if summary.get(key)}, "/")
            self._run.summary.update({**numbers, "status": status})
            self._run.finish(exit_code=0 if status == "completed" else 1)

        self._guard("finish", lambda: _bounded(close, _FINISH_SECONDS + 10))
        self._run = None

    def _start(self, mode: str | None, arguments: dict[str, Any]) -> None:
        import wandb

        settings = _settings(wandb, stop_fn=self._stop)
        (self._directory / "wandb").mkdir(parents=True, exist_ok=True)
        if mode is not None:
            arguments["mode"] = mode
        try:
            self._run = wandb.init(**arguments, settings=settings)
        except Exception as error:
            if mode in ("offline", "disabled"):
                raise
            _log.warning("Weights & Biases cannot be reached (%s); this run is written offline", _short(error))
            self._run = wandb.init(**{**arguments, "mode": "offline"}, settings=settings)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self._run.define_metric("val/accuracy", step_metric="step", summary="max,last")

    def _stop(self) -> None:
        """Replace W&B's default, which is to interrupt the main thread, on its own fatal errors too."""
        if self._on_stop is not None:
            self._on_stop()

    def _guard(self, what: str, action: Callable[[], None]) -> None:
        if self._run is None and what != "start":
            return
        try:
            action()
        except Exception as error:
            self._run = None
            _log.warning("Weights & Biases is off for this run (%s: %s)", what, _short(error))


def _settings(wandb: Any, **more: Any) -> Any:
    """Return the settings this version of wandb knows among those wanted.

    The transaction log's flush interval is private: 1 s instead of 15 s is what lets rows survive a SIGKILL.
    """
    wanted = {
        "init_timeout": _INIT_SECONDS,
        "login_timeout": _INIT_SECONDS,
        "finish_timeout": _FINISH_SECONDS,
        "console": "off",
        "silent": True,
        "allow_val_change": True,
        "x_transaction_log_flush_interval": 1.0,
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


def _has_account() -> bool:
    """Whether a key could be found without asking anybody."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "")).hostname
    candidates = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for candidate in filter(None, candidates):
        try:
            machines = netrc.netrc(os.path.expanduser(str(candidate))).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        if any(machine == host or "wandb" in machine or "coreweave" in machine for machine in machines):
            return True
    return False


def _bounded(action: Callable[[], None], seconds: float) -> None:
    """Run ``action`` but wait no longer than ``seconds``; re-raises what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="wandb-finish", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not finished after {seconds:g} s")
    if raised:
        raise raised[0]


def _flat(values: dict[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, separator, f"{prefix}{name}{separator}"))
        else:
            flat[prefix + name] = value
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
