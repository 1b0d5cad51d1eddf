"""Runs of version 0.1 with ``overlap_steps=1``, in whose time a step had one order: they go on in that one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan, plan_of_spec
from sgp_core.atomic_files import write_json
from sgp_core.errors import ConfigurationError
from tests.support.command_line import composed
from tests.support.launched import Said

OSGP = ("algorithm=osgp", "training.epochs=2")


def plan(runs: Path, *arguments: str) -> RunPlan:
    return make_plan(composed(*OSGP, f"runs_dir={runs}", *arguments))


@pytest.fixture
def former(tmp_path: Path) -> RunPlan:
    """The plan of a run that version 0.1 began, whose folder is there."""
    begun = plan(tmp_path, "algorithm.order=atc")
    record(begun, status="failed")
    return begun


def record(begun: RunPlan, status: str) -> dict[str, Any]:
    """Write a run's folder as version 0.1 did; return its spec."""
    spec = begun.spec()
    del spec["experiment"]["algorithm"]["order"]
    spec["overrides"] = [word for word in begun.overrides if "order" not in word]
    (begun.run_dir / "logs" / "attempt-1").mkdir(parents=True)
    (begun.run_dir / "checkpoints" / "step-80").mkdir(parents=True)
    write_json(begun.run_dir / "checkpoints" / "step-80" / "manifest.json", {})
    write_json(begun.run_dir / "spec.json", spec)
    write_json(begun.run_dir / "logs" / "attempt-1" / "spec.json", spec)
    write_json(begun.run_dir / "summary.json", {"status": status, "final": {"step": 80, "epoch": 2.0}, "run_id": "x"})
    return spec


def test_the_command_that_began_it_goes_on_with_it(former: RunPlan) -> None:
    runs = former.run_dir.parent
    again = plan(runs)
    assert (again.run_id, again.experiment) == (former.run_id, former.experiment)
    write_json(former.run_dir / "spec.json", again.spec())  # as the next attempt does
    assert plan(runs).run_id == former.run_id
    assert plan(runs, "algorithm.order=awc").run_id != former.run_id
    assert plan(runs, "seed=1").experiment.algorithm["order"] is None


def test_a_run_that_was_begun_with_the_order_named_is_not_taken_for_one(tmp_path: Path) -> None:
    chosen = plan(tmp_path, "algorithm.order=atc")
    (chosen.run_dir / "logs" / "attempt-1").mkdir(parents=True)
    write_json(chosen.run_dir / "logs" / "attempt-1" / "spec.json", chosen.spec())
    assert plan(tmp_path).run_id != chosen.run_id


def test_its_spec_is_read_as_what_it_was(former: RunPlan) -> None:
    spec = record(plan(former.run_dir.parent, "algorithm.order=atc", "seed=1"), status="failed")
    assert plan_of_spec(spec).experiment.algorithm["order"] == "adapt_then_combine"


def test_a_run_that_extends_it_goes_on_in_its_order(tmp_path: Path) -> None:
    begun = plan(tmp_path, "algorithm.order=atc")
    record(begun, status="completed")
    longer = plan(tmp_path, f"extend={begun.run_id}", "training.epochs=3")
    assert longer.experiment.algorithm["order"] == "adapt_then_combine"
    with pytest.raises(ConfigurationError, match=r"algorithm\.order is None there and adapt_while_communicate here"):
        plan(tmp_path, f"extend={begun.run_id}", "training.epochs=3", "algorithm.order=awc")


def test_users_are_told(former: RunPlan, sgp_train: Callable[..., Said]) -> None:
    said = sgp_train(*OSGP, f"runs_dir={former.run_dir.parent}", "dry_run=true")
    assert "order=adapt_then_combine, as begun by 0.1; add algorithm.order=adapt_while_communicate" in said.out
    assert "adapt_then_combine, as begun" not in sgp_train("algorithm=osgp", "dry_run=true").out
