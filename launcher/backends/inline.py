"""One worker inside this process: for breakpoints and pdb."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from launcher.backends.base import Attempt, Outcome
from launcher.run_folder import read_json
from launcher.worker import Place, run_worker

if TYPE_CHECKING:
    from launcher.progress import Display


class InlineBackend:
    """Calls the worker. Ctrl-C keeps its usual meaning, and SIGTERM is given the same."""

    def run(self, attempt: Attempt, display: Display) -> Outcome:
        """Run the worker and return how it ended."""
        received: list[int] = [signal.SIGINT]

        def terminate(number: int, frame: object) -> None:
            received[0] = number
            raise KeyboardInterrupt

        on_main_thread = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, terminate) if on_main_thread else None
        try:
            summary = run_worker(attempt.folder.spec, attempt.number, Place(), separate=False, on_row=display.show)
        except KeyboardInterrupt:
            return Outcome("cancelled", signal=received[0])
        except Exception as error:  # the worker has described it, unless even that failed (disk full)
            known = {"type": type(error).__name__, "message": str(error)}
            described = (read_json(attempt.folder.rank(0)) or {}).get("error") or {}
            return Outcome("failed", error={"rank": 0, "log": None, **known, **described})
        finally:
            if on_main_thread:
                signal.signal(signal.SIGTERM, before)
        return Outcome(summary["status"])
