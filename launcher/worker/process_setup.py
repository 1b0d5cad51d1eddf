"""A process that exists for one worker: what signals ask of it, and whom it does not outlive."""

from __future__ import annotations

import atexit
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from launcher.system import processes

ALONE_S = 60.0
"""How long a worker that nobody looks after any more may take to save."""


class SignalRequests:
    """What signals have asked of this process; read between steps, since handlers cannot run inside a receive."""

    def __init__(self) -> None:
        self.stop = False
        self.requeue = False

    def listen(self) -> None:
        """SIGTERM asks to save and end, SIGUSR1 and SIGUSR2 to save, end and be queued again."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._note)

    def start_elsewhere(self) -> None:
        """Wish to save, end and be queued again."""
        self.stop = self.requeue = True

    def _note(self, number: int, frame: object) -> None:
        self.stop = True
        self.requeue = self.requeue or number != signal.SIGTERM


SIGNAL_REQUESTS = SignalRequests()


def prepare_process(launcher: Mapping[str, Any] | None, *, slurm: bool) -> None:
    """Log crashes, and end with the process that watches this worker: the launcher, or SLURM's daemon.

    Args:
        launcher: ``pid``, ``started`` and ``host`` of the launcher; None if it does not stay.
        slurm: whether SLURM has started this process.
    """
    gc.disable()  # imports make many objects and no garbage: looking for some takes a tenth of their time
    faulthandler.enable()
    atexit.register(_skip_teardown)  # first registered, so last called
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("submitit").propagate = False  # it has a handler of its own
    if launcher is not None and launcher["host"] == socket.gethostname():
        processes.call_when_ended(processes.Process(launcher["pid"], launcher["started"]), _leave)
    parent = processes.find_process(os.getppid())
    if slurm and parent is not None:
        processes.call_when_ended(parent, _leave_slurm)


def _skip_teardown() -> None:
    """All is written and closed: taking a process full of torch apart object by object would take seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if hasattr(sys, "last_value") else 0)


def _leave() -> None:
    """The launcher is gone: nobody watches this worker any more, and the same command may start another."""
    me = os.getpid()
    processes.kill(lambda: processes.descendants(me), patience_s=1.0)
    os._exit(1)


def _leave_slurm() -> None:
    """SLURM's daemon for this node's workers is gone: it can neither signal nor end them, and forgets them."""
    SIGNAL_REQUESTS.start_elsewhere()
    time.sleep(ALONE_S)
    _leave()
