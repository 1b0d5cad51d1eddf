"""The interface between the training loop and a tracker."""

from __future__ import annotations

from typing import Any, Protocol

Row = dict[str, Any]
"""One line of metrics: ``step``, ``epoch``, ``split`` and named numbers, None where not measured."""


class Tracker(Protocol):
    """A destination of metrics. Training calls ``resume`` once, then ``log``; its maker calls ``finish``."""

    def resume(self, step: int) -> None:
        """Training continues after ``step`` steps (0: it begins). Drop the rows of later steps."""

    def log(self, row: Row) -> None:
        """Record one row; must return fast and keep the row even if the process is killed right after."""

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """The run ended as ``status`` ("completed", "failed", "preempted", ...): close."""
