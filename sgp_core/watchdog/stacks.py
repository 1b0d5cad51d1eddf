"""Stack traces of workers, in files: written by the worker, or upon a signal of another one of its host."""

from __future__ import annotations

import faulthandler
import os
import signal
from contextlib import suppress
from pathlib import Path

SIGNAL = signal.SIGRTMIN + 1 if hasattr(signal, "SIGRTMIN") else None
"""Makes a worker write its stack traces, whatever it does, unless it hangs in the kernel."""


class StackFile:
    """The stack traces of one worker.

    Args:
        folder: gets ``stacks-rank-<rank>.txt``, empty until there are any.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"stacks-rank-{rank}.txt"
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - a handler of signals writes to it
        if SIGNAL is not None:
            faulthandler.register(SIGNAL, self._file, all_threads=True)

    def write(self, why: str) -> None:
        """Write where all threads of this process are."""
        with suppress(OSError, ValueError):  # a full disk hides nothing else
            self._file.write(f"{why}\n")
            self._file.flush()
            faulthandler.dump_traceback(self._file, all_threads=True)

    def close(self) -> None:
        """Write no more; leave no empty file."""
        if SIGNAL is not None:
            faulthandler.unregister(SIGNAL)
        with suppress(OSError):
            self._file.close()
            if self._path.stat().st_size == 0:
                self._path.unlink()


def ask_for_stacks(pid: int) -> None:
    """Let another process of this host, stopped or not, write its stack traces. One that was stopped goes on."""
    if SIGNAL is None:
        return
    with suppress(OSError):
        os.kill(pid, SIGNAL)
        os.kill(pid, signal.SIGCONT)
