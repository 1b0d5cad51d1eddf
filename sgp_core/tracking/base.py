"""What the training loop asks of a tracker."""

from __future__ import annotations

from typing import Any, Protocol

Row = dict[str, Any]
"""One line of metrics: ``step``, ``epoch``, ``split`` and named numbers, None where not measured."""


class Tracker(Protocol):
    """A place metrics go. Training calls ``resume`` once, then ``log``; whoever made it calls ``finish``."""

    def resume(self, step: int) -> None:
        """Training goes on after ``step`` steps (0: it begins): forget the rows of later steps."""

    def log(self, row: Row) -> None:
        """Record one row; must return fast and keep the row even if the process is killed right after."""

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """The run ended as ``status`` ("completed", "failed", "preempted", ...): close."""
