"""Start workers that measure, and return what they found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from launcher.config.run_plan import RunPlan
from launcher.execution.hidden_run import run_hidden
from sgp_core.atomic_files import read_json


def measure(plan: RunPlan, seconds: float, command: Sequence[str]) -> tuple[int, dict[str, Any] | None]:
    """Let the workers of ``plan`` measure for so long and not train; return the exit code, and what they found."""
    with run_hidden(dataclasses.replace(plan, calibration_s=seconds), "calibrate", command) as (code, folder):
        return code, (read_json(folder.summary) or {}).get("calibration")
