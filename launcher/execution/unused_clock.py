"""Says so where a virtual clock is chosen for real workers, which take the time that they take."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from launcher.config.run_plan import RunPlan
from sgp_core.training.groups import CLOCK_GROUPS, NOTHING


def print_unused_clock(plans: Sequence[RunPlan]) -> None:
    """Print, once for all plans, which choices of a clock have no effect, since workers are real."""
    chosen = dict.fromkeys(
        f"{group}={name}"
        for plan in plans
        if not plan.cluster.virtual
        for group in CLOCK_GROUPS
        if (name := getattr(plan, group)["name"]) != NOTHING
    )
    if chosen:
        told = "recorded, without effect on real workers; the virtual clock is that of cluster=simulator"
        print(f"warning: {' '.join(chosen)}: {told}", file=sys.stderr)
