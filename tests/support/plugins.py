"""A plug-in with a part of each kind, the words that choose its parts, and a package that is one by an entry point."""

from pathlib import Path

PARTS = Path(__file__).parents[1] / "plugins" / "parts.py"
KINDS = ("model", "dataset", "partition", "topology", "algorithm", "outer", "pace", "optimizer", "schedule")
CHOSEN = [*(f"{kind}=own_{kind}" for kind in KINDS), "compression=own_codec"]

_SCHEDULE = """from dataclasses import dataclass

from {name}.numbers import FACTOR
from sgp_core.training.schedules.base import SCHEDULES, LearningRateSchedule


@SCHEDULES.register("{name}_schedule")
@dataclass(frozen=True)
class Installed(LearningRateSchedule):
    slope: float = FACTOR

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        return 1 - self.slope * step / total_steps
"""


def install_package(site: Path, name: str) -> Path:
    """Write what pip leaves of a package with an entry point into ``site``; its schedule is ``<name>_schedule``."""
    folder, information = site / name, site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    information.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "numbers.py").write_text("FACTOR = 0.5\n")
    (folder / "parts.py").write_text(_SCHEDULE.format(name=name))
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[sgp.plugins]\nanything = {name}.parts\n")
    return folder
