"""The keeper of one worker of an elastic run: it forks the worker, and another in its place when that has died.

submitit starts keepers, on this machine as on SLURM, so replacing a worker is the same on both, needs no scheduler and
begins at once. A keeper never imports torch: it holds no memory of the model, no thread and no GPU.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.runs.failure import SUCCESSFUL, WORKER_DIED
from launcher.runs.line_tail import LineTail
from launcher.runs.membership import MembershipFiles
from launcher.runs.run_folder import RunFolder
from launcher.system import processes
from launcher.system.processes import Process
from launcher.worker.process_setup import SIGNAL_REQUESTS
from sgp_core.atomic_files import read_json, write_json

_POLL_S = 0.1
_LOOK_S = 0.5
"""Seconds between two looks at what the other workers have reported."""
_LAST_BREATH_S = 0.5
"""How long a process that the others have left out may take to end by itself, as one does that has been killed."""
_MOST_STOPPED_S = 4.0
"""How long a process that no other worker knows yet may be stopped."""
_MOST_FAILURES = 2
"""How often in a row a worker may die before it has taken part."""

Report = dict[str, Any]


@dataclass
class Keeper:
    """Keeps one rank of an attempt occupied until the run has ended.

    Attributes:
        work: is the worker; called in a process of its own with the number of the process, from 1.
        launcher: the process that watches this run, with which it ends; None: SLURM watches.
    """

    folder: RunFolder
    attempt: int
    rank: int
    world_size: int
    work: Callable[[int], object]
    launcher: Process | None = None
    _failures: int = 0
    _looked: float = 0.0
    _ran: float = 0.0
    """When the process, which no other worker knows yet, was last seen to run."""
    _parent: int = field(default_factory=os.getppid)
    _left: dict[int, Report] = field(default_factory=dict)
    """What the others recorded of processes that they left out."""

    @property
    def record(self) -> MembershipFiles:
        """The files that tell of members and deaths."""
        return MembershipFiles(self.folder.attempt(self.attempt))

    def run(self) -> Report:
        """Keep the rank occupied, and return the last report of its worker."""
        self._members = LineTail(self.record.members)
        number = 1
        while True:
            worker = self._fork(number)
            left, code = self._watch(worker, number)
            report = self._report_of(worker)
            if report.get("status") in SUCCESSFUL or self._is_over():
                return report
            death = self._describe(worker, report, left, code)
            _append(self.record.deaths(self.rank), death)
            print(f"worker {self.rank}: process {worker.pid} {death['how']}", flush=True)
            if not self._may_replace(report, death):
                return report
            number += 1

    # -- one process ----------------------------------------------------------------------------------------------
    def _fork(self, number: int) -> Process:
        sys.stdout.flush()
        sys.stderr.flush()
        me = os.getpid()
        child = os.fork()
        if child:
            return processes.find_process(child) or Process(child, "")
        code = 1
        try:
            processes.die_with(me)
            self.work(number)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _watch(self, worker: Process, number: int) -> tuple[Mapping[str, Any] | None, int]:
        """Wait until a process has ended; end it if the others have left it out, or if the run is over.

        Returns:
            Why the others left it out, None if it ended before they did; and its exit code, negative for a signal.
        """
        told, left, kill_at = False, None, float("inf")
        self._ran = time.monotonic()
        while True:
            ended, status = os.waitpid(worker.pid, os.WNOHANG)
            if ended:
                return left, os.waitstatus_to_exitcode(status)
            if kill_at == float("inf") and self._left_out(worker) is not None:
                kill_at = time.monotonic() + _LAST_BREATH_S
            if time.monotonic() > kill_at:  # it may have been stopped, and would wake up
                left = self._left_out(worker)
                _kill(worker.pid)
            if SIGNAL_REQUESTS.stop and not told:
                told = True
                os.kill(worker.pid, signal.SIGUSR2 if SIGNAL_REQUESTS.requeue else signal.SIGTERM)
            if time.monotonic() - self._looked > _LOOK_S:
                self._looked = time.monotonic()
                self._end_with_others(worker, number)
            time.sleep(_POLL_S)

    def _left_out(self, worker: Process) -> Mapping[str, Any] | None:
        for line in self._members.objects():
            if line.get("event") == "left" and line.get("rank") == self.rank and isinstance(line.get("pid"), int):
                self._left[line["pid"]] = line
        return self._left.get(worker.pid)

    def _end_with_others(self, worker: Process, number: int) -> None:
        """End the process if there is nothing left to take part in, or if what watches this run has ended."""
        if self._is_abandoned():
            _kill(worker.pid)
            os._exit(1)
        member = self._report_of(worker).get("member")
        if member or not processes.is_stopped(worker):
            self._ran = time.monotonic()
        elif time.monotonic() - self._ran > _MOST_STOPPED_S:
            _kill(worker.pid)
        joins = number > 1 and not member
        if self.record.given_up.exists() or (joins and (SIGNAL_REQUESTS.stop or self._is_over())):
            _kill(worker.pid)

    def _is_abandoned(self) -> bool:
        return os.getppid() != self._parent or (self.launcher is not None and not processes.is_alive(self.launcher))

    # -- what the others do ---------------------------------------------------------------------------------------
    def _is_over(self) -> bool:
        """Whether the run has ended for other workers: they are done or have saved, or one was given up."""
        reports = (read_json(self.folder.rank(rank)) or {} for rank in range(self.world_size) if rank != self.rank)
        ended = any(report.get("attempt") == self.attempt and report.get("status") in SUCCESSFUL for report in reports)
        return ended or self.record.given_up.exists()

    # -- after a death --------------------------------------------------------------------------------------------
    def _report_of(self, worker: Process) -> Report:
        report = read_json(self.folder.rank(self.rank)) or {}
        return report if (report.get("pid"), report.get("attempt")) == (worker.pid, self.attempt) else {}

    def _describe(self, worker: Process, report: Report, left: Mapping[str, Any] | None, code: int) -> dict[str, Any]:
        error = report.get("error") if report.get("status") == "failed" else None
        if report.get("status") == "expelled":
            how = "was left out, and ended"
        elif error is not None:
            how = f"failed ({error['type']}: {str(error['message']).partition(chr(10))[0]})"
        elif left is not None and code == -signal.SIGKILL:
            how = f"was left out ({left.get('reason')}), and killed"
        elif code < 0:
            how = f"was killed ({signal.Signals(-code).name})"
        else:
            how = f"ended without a report (exit code {code})"
        return {"time": time.time(), "rank": self.rank, "pid": worker.pid, "how": how, "error": error}

    def _may_replace(self, report: Report, death: Mapping[str, Any]) -> bool:
        """Whether another process takes the place of the one that died. If none can, the run is given up."""
        if SIGNAL_REQUESTS.stop:
            return False
        self._failures = 0 if report.get("member") else self._failures + 1
        error = death["error"]
        if self._failures < _MOST_FAILURES and not (error and error.get("user_mistake")):
            return True
        error = error or {"type": WORKER_DIED, "message": death["how"], "traceback": None}
        error = {"rank": self.rank, **error}
        write_json(self.record.given_up, error)
        known = {"rank": self.rank, "attempt": self.attempt, "pid": death["pid"], "time": death["time"]}
        write_json(self.folder.rank(self.rank), {**known, **report, "status": "failed", "error": error})
        return False


def _kill(pid: int) -> None:
    """Kill a child that has not been waited for, so that the number is still its own."""
    os.kill(pid, signal.SIGKILL)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
