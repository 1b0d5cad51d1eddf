"""One worker inside this process: for breakpoints and pdb."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from launcher.backends.base import Attempt, Outcome
from launcher.run_folder import read_json
from launcher.worker import Place, run_worker

if TYPE_CHECKING:
    from launcher.progress import Display


class InlineBackend:
    """Calls the worker; signals keep their usual meaning."""

    def run(self, attempt: Attempt, display: Display) -> Outcome:
        """Run the worker and return how it ended."""
        try:
            summary = run_worker(attempt.folder.spec, attempt.number, Place(), separate=False, on_row=display.show)
        except KeyboardInterrupt:
            return Outcome("cancelled", signal=signal.SIGINT)
        except Exception:
            report = read_json(attempt.folder.rank(0)) or {}
            return Outcome("failed", error={"rank": 0, "log": None, **report.get("error", {})})
        return Outcome(summary["status"])
