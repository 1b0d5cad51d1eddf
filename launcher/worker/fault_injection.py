"""Failures on purpose (``debug.fail_rank``), to see what a failure looks like and to test how it is handled."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from launcher.config.schema import DebugOptions, FailHow


class FailedOnPurpose(RuntimeError):
    """The exception of ``debug.fail_how=raise``."""


@contextlib.contextmanager
def inject_fault(debug: DebugOptions, rank: int) -> Iterator[None]:
    """Make this worker fail after ``debug.fail_step`` optimizer steps of this attempt, if it is ``debug.fail_rank``."""
    if debug.fail_rank != rank:
        yield
        return
    from torch.optim.optimizer import register_optimizer_step_post_hook

    steps = 0

    def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == debug.fail_step:
            if debug.fail_how == FailHow.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise FailedOnPurpose(f"debug.fail_rank={rank}, debug.fail_step={steps}")

    hook = register_optimizer_step_post_hook(after_step)
    try:
        yield
    finally:
        hook.remove()  # one process may run several attempts
