"""One worker inside this process: for breakpoints and pdb."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

from launcher.execution.backends.base import Attempt, Outcome
from launcher.runs.run_folder import read_json
from launcher.worker.device_setup import Place
from launcher.worker.worker import run_worker

if TYPE_CHECKING:
    from launcher.console.progress import Display
    from launcher.execution.signals import StopSignals


class InlineBackend:
    """Calls the worker. Ctrl-C keeps its usual meaning, and SIGTERM is given the same."""

    def run(self, attempt: Attempt, display: Display, stop: StopSignals) -> Generator[None, None, Outcome]:
        """Run the worker and return how it ended."""
        yield  # a generator like the others, though nobody can look on here
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
        except Exception as error:  # the worker has described it, unless even that failed (disk full)
            known = {"type": type(error).__name__, "message": str(error)}
            described = (read_json(attempt.folder.rank(0)) or {}).get("error") or {}
            return Outcome("failed", error={"rank": 0, "log": None, **known, **described})
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return Outcome(summary["status"])
