"""A run goes on with the plug-ins it recorded, wherever its folder has gone, or says in a sentence why it cannot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.config.compose import compose
from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from launcher.execution.snapshot import with_code
from launcher.runs.find import read_runs
from launcher.runs.resumption import plan_to_resume
from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import write_json
from sgp_core.errors import ConfigurationError
from tests.support.plugins import PARTS


@pytest.fixture
def plan(here: Path) -> RunPlan:
    """A run with a plug-in, as planned."""
    shutil.copy(PARTS, here / "parts.py")
    [point] = compose(["plugins=./parts.py", "topology=own_topology", "cluster=inline", "tracker=none"])
    return make_plan(point)


def write(plan: RunPlan, **changes: Any) -> None:
    """Write the folder of a run that has failed."""
    folder = RunFolder(plan.run_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    attempt = {"number": 1, "launcher": None, "cuda_visible_devices": None}
    write_json(folder.spec, {**plan.spec(), "attempt": attempt, **changes})
    write_json(folder.summary, {"run_id": plan.run_id, "name": plan.name, "status": "failed", "steps": 0})


def resumed(runs: str, plan: RunPlan) -> RunPlan:
    [run] = read_runs(Path(runs), [plan.run_id])
    return plan_to_resume(run)


def test_copies_are_found_where_the_runs_have_gone(plan: RunPlan, here: Path) -> None:
    [copied] = with_code([plan], take=True)
    write(copied)
    os.rename("runs", "moved")
    (here / "parts.py").unlink()
    found = resumed("moved", copied)
    [plugin] = found.plugins
    assert Path(plugin.path).is_relative_to(here / "moved" / "snapshots")
    assert Path(plugin.path).read_text() == PARTS.read_text()
    assert plugin.sha256 == plan.plugins[0].sha256


def test_the_present_code_is_recorded_and_counts_for_the_id_only_if_asked(plan: RunPlan, here: Path) -> None:
    write(plan)
    (here / "parts.py").write_text(PARTS.read_text() + "# changed\n")
    found = resumed("runs", plan)
    assert found.run_id == plan.run_id
    assert found.plugins[0].sha256 != plan.plugins[0].sha256
    write(plan, identity="code")
    with pytest.raises(ConfigurationError, match=r"its settings make run \w+ now: spec\.json or the code was changed"):
        resumed("runs", plan)


@pytest.mark.parametrize(
    "plugins", [[{"name": "./parts.py"}], [3], 3, [{"name": "a", "path": "b", "sha256": "c", "kind": "?"}]]
)
def test_a_damaged_record_is_one_sentence(plugins: Any, plan: RunPlan) -> None:
    write(plan, plugins=plugins)
    with pytest.raises(ConfigurationError, match=r"its spec\.json is damaged"):
        resumed("runs", plan)
