"""What a worker says of itself in ``rank-<k>.json``: the launcher judges a run by these files."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

from launcher.config.redact import redact, redact_code
from launcher.runs.reserve import write_last
from launcher.runs.run_folder import RunFolder
from launcher.system import processes
from sgp_core.errors import ConfigurationError, PeerLost, WorkerHung

_WRITING = threading.Lock()
"""Held while a report is written: the thread that trains and the one that learns of members both write some."""


@dataclass(frozen=True)
class WorkerReport:
    """The report of one worker in one attempt."""

    folder: RunFolder
    rank: int
    attempt: int
    on_slurm: bool
    warnings: list[str] = field(default_factory=list)
    """What this worker has warned of so far."""

    def write(self, status: str, **more: Any) -> None:
        """Replace the report.

        Args:
            status: ``starting``, ``training``, ``completed``, ``preempted``, ``cancelled``, ``failed`` or, in an
                elastic run, ``expelled``.
            more: further entries, such as ``error``.
        """
        me = processes.this_process()
        if self.on_slurm:
            more = {"job_id": os.environ.get("SLURM_JOB_ID"), "node": os.environ.get("SLURMD_NODENAME"), **more}
        report = {
            "rank": self.rank,
            "status": status,
            "attempt": self.attempt,
            "pid": me.pid,
            "started": me.started,
            "host": socket.gethostname(),
            "time": time.time(),
            "warnings": list(self.warnings),
        }
        with _WRITING:
            write_last(self.folder, self.folder.rank(self.rank), {**report, **more})


def describe_error(error: BaseException, rank: int) -> dict[str, Any]:
    """Return an exception as plain data.

    ``peer_lost`` is set where a worker failed because another one was missing, and None for a failure of its own, and
    for a hang, in which all workers say the same; ``rank`` is then the worker that hangs.
    """
    blamed = {"rank": error.peers[0]} if isinstance(error, WorkerHung) else {}
    return {
        **blamed,
        "type": type(error).__name__,
        "message": redact(str(error)),
        "traceback": redact_code("".join(traceback.format_exception(error))),
        "user_mistake": isinstance(error, ConfigurationError),
        "peer_lost": _lost_peer(error, rank),
    }


def _lost_peer(error: BaseException, rank: int) -> dict[str, Any] | None:
    """Return ``rank``, ``peers`` and ``step`` if a missing worker is the cause of ``error``, else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, WorkerHung):
            return None
        if isinstance(cause, PeerLost):
            return {"rank": cause.rank, "peers": list(cause.peers), "step": cause.step}
        if _is_raised_by_torch_distributed(cause):
            return {"rank": rank, "peers": [], "step": None}
        cause = cause.__cause__
    return None


def _is_raised_by_torch_distributed(error: BaseException) -> bool:
    """Whether a collective or a store failed. Gloo raises plain RuntimeErrors, which the place tells from others."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    name = frame.tb_frame.f_globals.get("__name__", "") if frame is not None else ""
    names = (type(error).__module__, str(name))
    return isinstance(error, RuntimeError) and any(name.startswith("torch.distributed") for name in names)
