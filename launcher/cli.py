"""The command ``sgp-train``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from launcher.plan import RunPlan

BAD_CONFIGURATION, SUBMISSION_FAILED, INTERRUPTED = 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sgp-train`` and return its exit code.

    0 every run ok, 1 a run failed, 2 bad configuration, 3 submission failed, 130 interrupted (143: by SIGTERM).
    """
    try:
        return _main(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has had enough: sgp-train --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _main(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"sgp-train {version('stochastic-gradient-push')}")
        return 0
    from launcher.compose import compose

    try:
        points = compose(arguments)
        if not points:
            return 0
        from launcher.plan import make_plans

        plans = make_plans(points)
    except ConfigurationError as error:
        return _say(str(error), BAD_CONFIGURATION)
    except SystemExit as stop:
        return int(stop.code or 0)
    return _run_all(plans, arguments)


def _run_all(plans: Sequence[RunPlan], arguments: Sequence[str]) -> int:
    """Run one plan after another; a failed one does not keep the others from running, an interruption does."""
    from launcher.backends import SubmissionFailed
    from launcher.launch import launch
    from launcher.run_folder import RunInProgress

    codes = []
    for number, plan in enumerate(plans, start=1):
        if len(plans) > 1:
            print(f"\n[{number}/{len(plans)}] {' '.join(plan.overrides)}", flush=True)
        try:
            codes.append(launch(plan, arguments))
        except (RunInProgress, SubmissionFailed, OSError) as error:
            codes.append(_say(str(error), SUBMISSION_FAILED))
        except KeyboardInterrupt:
            codes.append(INTERRUPTED)
        if codes[-1] > 128:
            break
    if len(codes) == 1 or max(codes) > 128:
        return max(codes)
    if len(plans) > 1:
        print(f"\n{codes.count(0)} of {len(plans)} runs ok")
    return 1 if any(codes) else 0


def _say(message: str, code: int) -> int:
    print(f"sgp-train: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
