"""Watching the workers of an elastic run: one that dies is replaced by its keeper, and the attempt goes on.

What the launcher started are keepers (:mod:`launcher.worker.keeper`). The attempt ends when every rank has completed or
is vacant, when a rank could not be filled again, or when no member is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from launcher.execution.backends.base import Attempt
from launcher.execution.signals import StopSignals
from launcher.execution.supervisor import Job, Supervisor
from launcher.runs.failure import SUCCESSFUL, Report, add_log
from launcher.runs.json_fields import number, text, whole
from launcher.runs.line_tail import LineTail
from launcher.runs.membership import MembershipFiles, find_last_culprit
from launcher.system import processes
from launcher.system.processes import Process

if TYPE_CHECKING:
    from launcher.console.progress import Display


class ElasticSupervisor(Supervisor):
    """Watches one attempt of an elastic run, and says which workers were replaced."""

    def __init__(self, attempt: Attempt, display: Display, stop: StopSignals) -> None:
        super().__init__(attempt, display, stop)
        self._folder = attempt.folder.attempt(attempt.number)
        self._files = MembershipFiles(self._folder)
        self._replacements = ReplacementLines(self._files, self._world_size)

    def _have_succeeded(self, reports: dict[int, Report], vanished: Collection[int]) -> bool:
        good = [rank for rank, report in reports.items() if report["status"] in SUCCESSFUL]
        return bool(good) and not self._files.given_up.exists() and len({*good, *vanished}) == self._world_size

    def _have_failed(self, reports: dict[int, Report], vanished: Collection[int]) -> bool:
        if self._files.given_up.exists() or len(vanished) == self._world_size:
            return True
        formed = self._files.members.exists() or any(report.get("member") for report in reports.values())
        return formed and not self._is_any_left(reports) and not self._is_any_left(self._reports())

    def _can_save(self, reports: dict[int, Report]) -> bool:
        return any(report["status"] == "training" for report in reports.values())

    def _error(self, job: Job) -> dict[str, Any]:
        culprit = find_last_culprit(self._folder, self._reports(), self._world_size)
        return add_log(culprit, self._attempt.folder, self._attempt.number)

    def _show_progress(self) -> None:
        super()._show_progress()
        for line in self._replacements.new_lines():
            self._display.say(line)

    def _is_any_left(self, reports: Mapping[int, Report]) -> bool:
        """Whether a member trains, or has completed."""
        return any(
            report["status"] in SUCCESSFUL
            or (report["status"] == "training" and processes.is_alive(Process(report["pid"], report["started"])))
            for report in reports.values()
        )


class ReplacementLines:
    """What to say of workers that died and were replaced."""

    def __init__(self, files: MembershipFiles, world_size: int) -> None:
        self._deaths = {rank: LineTail(files.deaths(rank)) for rank in range(world_size)}
        self._members = LineTail(files.members)
        self._waiting: dict[int, Mapping[str, Any]] = {}
        self._left: dict[int, Mapping[str, Any]] = {}

    def new_lines(self) -> list[str]:
        """Return a line for each worker that was replaced since the last call, with how long its place was vacant."""
        for rank, deaths in self._deaths.items():
            for death in deaths.objects():
                self._waiting.setdefault(rank, death)  # of several in a row the first one counts
        lines = []
        for event in self._members.objects():
            whose = whole(event.get("rank"))
            if whose is None:
                continue
            if event.get("event") == "left":
                self._left[whose] = event
            elif event.get("event") == "joined" and whose in self._waiting:
                lines.append(self._line(self._waiting.pop(whose), self._left.pop(whose, {}), event))
        return lines

    def _line(self, death: Mapping[str, Any], left: Mapping[str, Any], joined: Mapping[str, Any]) -> str:
        step = whole(left.get("step"))
        at = f" at step {step}" if step is not None else ""
        moments = [at for at in (number(death.get("time")), number(left.get("time"))) if at is not None]
        now = number(joined.get("time"))
        vacant = f" in {max(0.0, now - min(moments)):.1f} s" if moments and now is not None else ""
        return f"rank {death.get('rank')} {text(death.get('how')) or 'died'}{at}; replaced{vacant}"
