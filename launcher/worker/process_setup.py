"""A process that exists for one worker: what it does upon signals, and when it ends with others."""

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
"""How long a worker may take to save once SLURM has lost it."""


class SignalRequests:
    """What signals have asked of this process. They are read between steps: no handler can run inside a receive."""

    def __init__(self) -> None:
        self.stop = False
        self.requeue = False

    def listen(self) -> None:
        """Handle signals: SIGTERM asks to save and end, SIGUSR1 and SIGUSR2 to save, end and be requeued."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._record)

    def request_requeue(self) -> None:
        """Ask this worker to save, end and be requeued."""
        self.stop = self.requeue = True

    def _record(self, number: int, frame: object) -> None:
        self.stop = True
        self.requeue = self.requeue or number != signal.SIGTERM


SIGNAL_REQUESTS = SignalRequests()


def prepare_process(launcher: Mapping[str, Any] | None, *, slurm: bool) -> None:
    """Log crashes, and end with the process that watches this worker: the launcher, or SLURM's daemon.

    Args:
        launcher: ``pid``, ``started`` and ``host`` of the launcher; None if it does not stay.
        slurm: whether SLURM has started this process.
    """
    gc.disable()  # imports make many objects but no garbage, and collection would take a tenth of their time
    faulthandler.enable()
    atexit.register(_skip_teardown)  # registered first, so called last
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("submitit").propagate = False  # it has its own handler
    if (watching := watching_process(launcher)) is not None:
        processes.call_when_ended(watching, _exit_with_launcher)
    parent = processes.find_process(os.getppid())
    if slurm and parent is not None:
        processes.call_when_ended(parent, _exit_with_slurm)


def _skip_teardown() -> None:
    """Exit at once: everything is written and closed, and freeing the objects of torch takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if hasattr(sys, "last_value") else 0)


def watching_process(launcher: Mapping[str, Any] | None) -> processes.Process | None:
    """Return the launcher that watches this worker; None if there is none on this machine."""
    if launcher is None or launcher["host"] != socket.gethostname():
        return None
    return processes.Process(launcher["pid"], launcher["started"])


def _exit_with_launcher() -> None:
    """End this worker: the launcher has ended, and the same command may start another worker of this rank."""
    me = os.getpid()
    processes.kill(lambda: processes.descendants(me), patience_s=1.0)
    os._exit(1)


def _exit_with_slurm() -> None:
    """Save and end this worker: SLURM's daemon on this node has ended, and SLURM can no longer end the worker."""
    SIGNAL_REQUESTS.request_requeue()
    time.sleep(ALONE_S)
    _exit_with_launcher()
