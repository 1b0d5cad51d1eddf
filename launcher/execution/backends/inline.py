"""The backend that runs one worker inside this process, for breakpoints and pdb."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

from launcher.execution.backends.base import Attempt, Outcome
from launcher.worker.device_setup import Place
from launcher.worker.worker import run_worker
from sgp_core.atomic_files import read_json

if TYPE_CHECKING:
    from launcher.console.progress import Display
    from launcher.execution.signals import StopSignals


class InlineBackend:
    """Calls the worker as a function. Ctrl-C interrupts it as usual, and so does SIGTERM."""

    def run(self, attempt: Attempt, display: Display, stop: StopSignals) -> Generator[None, None, Outcome]:
        """Run the worker and return how it ended."""
        yield  # a generator as the interface asks, though the caller cannot look in between
        return self._call(attempt, display)

    def _call(self, attempt: Attempt, display: Display) -> Outcome:
        received: list[int] = [signal.SIGINT]

        def terminate(number: int, frame: object) -> None:
            received[0] = number
            raise KeyboardInterrupt

        on_main_thread = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGTERM, signal.SIGINT) if on_main_thread else ()
        before = {number: signal.signal(number, terminate) for number in numbers}
        try:
            summary = run_worker(attempt.folder.spec, attempt.number, Place(), separate=False, on_row=display.show)
        except KeyboardInterrupt:
            return Outcome("cancelled", signal=received[0])
        except Exception as error:  # the worker has reported it, unless even that failed (disk full)
            raised = {"type": type(error).__name__, "message": str(error)}
            reported = (read_json(attempt.folder.rank(0)) or {}).get("error") or {}
            return Outcome("failed", error={"rank": 0, "log": None, **raised, **reported})
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return Outcome(summary["status"])
