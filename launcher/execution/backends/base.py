"""The interface of every backend: a way to start workers and watch them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan
    from launcher.console.progress import Display
    from launcher.execution.signals import StopSignals
    from launcher.runs.run_folder import RunFolder


class SubmissionFailed(RuntimeError):
    """The workers of a run could not be started."""


@dataclass(frozen=True)
class Attempt:
    """One start of a run."""

    plan: RunPlan
    folder: RunFolder
    number: int
    gpus: str | None = None
    """Value of ``CUDA_VISIBLE_DEVICES`` for its workers; None: the variable is not set."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    status: str
    """``completed``, ``failed``, ``preempted`` or ``cancelled``."""
    error: dict[str, Any] | None = None
    """``rank``, ``type``, ``message``, ``traceback`` and ``log`` of the worker that made it fail."""
    signal: int | None = None
    """The signal that ended it; None if none did."""


class Backend(Protocol):
    """A way to start workers and watch them."""

    def run(self, attempt: Attempt, display: Display, stop: StopSignals) -> Generator[None, None, Outcome]:
        """Start the workers, look at them each time the caller resumes the generator, and leave none behind.

        Raises:
            SubmissionFailed: they could not be started.
        """
