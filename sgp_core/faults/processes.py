"""Workers that end, stop, or take their time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import NoReturn

from sgp_core.faults.base import FAULTS, Moment, StepFault
from sgp_core.registry import NOT_AN_OPTION
from sgp_core.validation import positive


class FailedOnPurpose(RuntimeError):
    """The exception of ``fail``."""


@FAULTS.register("kill")
@dataclass(frozen=True, kw_only=True)
class KillWorker(StepFault):
    """The worker ends at once (SIGKILL)."""

    def strike(self, moment: Moment) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@FAULTS.register("fail")
@dataclass(frozen=True, kw_only=True)
class FailWorker(StepFault):
    """The worker raises an exception."""

    message: str = field(default="", metadata=NOT_AN_OPTION)

    def strike(self, moment: Moment) -> NoReturn:
        raise FailedOnPurpose(self.message or self.phrase)


@FAULTS.register("stop")
@dataclass(frozen=True, kw_only=True)
class StopWorker(StepFault):
    """The worker's process is stopped (SIGSTOP).

    Args:
        for_: seconds until it goes on; None: it does not by itself.
    """

    for_: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.for_ is not None:
            positive("stop: for", self.for_)

    def strike(self, moment: Moment) -> None:
        if self.for_ is not None:  # another process has to let this one go on
            go_on = f"import os, time; time.sleep({self.for_}); os.kill({os.getpid()}, {int(signal.SIGCONT)})"
            subprocess.Popen([sys.executable, "-S", "-c", go_on], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)


@FAULTS.register("stall")
@dataclass(frozen=True, kw_only=True)
class StallWorker(StepFault):
    """The worker does nothing for a while; its process runs.

    Args:
        seconds: how long.
    """

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("stall: seconds", self.seconds)

    def strike(self, moment: Moment) -> None:
        time.sleep(self.seconds)
