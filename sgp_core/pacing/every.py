"""Gossip after every so many steps."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.pacing.base import PACES, Numbers, Pace, Plan


@PACES.register("every")
@dataclass(frozen=True)
class Every(Pace):
    """A round of gossip after every ``steps`` steps, silence in between (local steps; H in local SGD's papers)."""

    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise self.refuse(f"steps must be at least 1, not {self.steps}")

    def after(self, step: int, numbers: Numbers) -> Plan:
        return Plan(int((step + 1) % self.steps == 0))
