"""Runs with plug-ins train, go on after a kill, are copied, and stay readable when the plug-in is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sgp_core.plugins import loaded_plugins, unload_plugin
from tests.support.launched import Said, read
from tests.support.plugins import CHOSEN, PARTS, install_package
from tests.support.sgp_command import Said as SgpSaid

Train = Callable[..., Said]
Sgp = Callable[..., SgpSaid]
OWN = ["plugins=./parts.py", "model=own_model", "dataset=own_dataset", "dataset.noise=0.1", "algorithm=own_algorithm"]
QUICK = ["tracker=none", "training.epochs=2", "training.batch_size=4", "checkpoint.every_steps=2", "log_every=4"]


@pytest.fixture
def parts(here: Path) -> Path:
    """A plug-in in the directory that ``sgp_train`` runs in."""
    return Path(shutil.copy(PARTS, here / "parts.py"))


def forget_plugins() -> None:
    """Make this process one that has loaded no plug-in."""
    for plugin in loaded_plugins():
        unload_plugin(plugin)


def only_run(here: Path) -> Path:
    [run] = here.glob("runs/[0-9a-f]*/summary.json")
    return run.parent


def test_worker_processes_use_the_copies_in_the_snapshot_after_a_kill_and_a_change(
    parts: Path, here: Path, sgp_train: Train, sgp: Sgp, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install_package(here / "site", "installed_here")
    monkeypatch.syspath_prepend(here / "site")
    chosen = [word for word in CHOSEN if not word.startswith(("pace", "partition", "schedule"))]
    chosen.append("schedule=installed_here_schedule")
    two = ["cluster=local", "cluster.workers_per_node=2", "snapshot=true"]
    killed = ["debug.fail_rank=1", "debug.fail_step=5", "debug.fail_how=kill"]
    said = sgp_train("plugins=./parts.py", *chosen, "dataset.noise=0.1", *QUICK, *two, *killed)
    assert said.code == 1
    run = only_run(here)
    plugins = read(run / "spec.json")["plugins"]
    assert [plugin["name"] for plugin in plugins] == ["installed_here.parts", "./parts.py"]
    package, copy = (Path(plugin["path"]) for plugin in plugins)
    assert package.is_relative_to(here / "runs" / "snapshots")
    assert (package / "parts.py").read_text() == (installed / "parts.py").read_text()
    assert copy.read_text() == parts.read_text()
    shutil.rmtree(here / "site")
    parts.write_text("raise RuntimeError('the original is not to be loaded')\n")
    forget_plugins()
    resumed = sgp("resume", run.name)
    assert resumed.code == 0, resumed.err
    assert "has changed" not in resumed.err
    summary = read(run / "summary.json")
    assert (summary["status"], summary["steps"]) == ("completed", 16)
    assert len(list(run.glob("logs/attempt-*"))) == 2


def test_changed_code_goes_on_with_a_warning_and_a_missing_plugin_is_one_sentence(
    parts: Path, here: Path, sgp_train: Train, sgp: Sgp
) -> None:
    inline = [*OWN, *QUICK, "cluster=inline"]
    assert sgp_train(*inline, "debug.fail_rank=0", "debug.fail_step=5").code == 1
    run = only_run(here)
    parts.write_text(parts.read_text() + "\n# edited\n")
    again = sgp_train(*inline, "debug.fail_rank=0", "debug.fail_step=5")
    assert f"warning: parts.py has changed since run {run.name} began" in again.err
    parts.rename(here / "renamed.py")
    gone = sgp("resume", run.name)
    assert (gone.code, gone.err) == (
        2,
        f"sgp: {run.name} cannot be resumed: plug-in ./parts.py: {parts} is gone\n",
    )
    (here / "renamed.py").rename(parts)
    resumed = sgp("resume", run.name)
    assert (resumed.code, resumed.err) == (0, "")
    assert read(run / "summary.json")["status"] == "completed"


def test_a_sweep_is_listed_compared_reported_and_exported_without_its_plugin(
    parts: Path, here: Path, sgp_train: Train, sgp: Sgp
) -> None:
    said = sgp_train("-m", *OWN, *QUICK, "cluster=inline", "algorithm.beta=0.1,0.9", "partition=own_partition")
    assert said.code == 0, said.err
    [sweep] = (here / "runs" / "sweeps").iterdir()
    forget_plugins()
    run = next((here / "runs").glob("[0-9a-f]*/spec.json")).parent.name
    assert "averaged own_model at step 32" in sgp("export", run, "--step", "last").out
    parts.unlink()
    forget_plugins()
    needs_code = sgp("export", run, "--step", "last")
    assert (needs_code.code, needs_code.err) == (2, f"sgp: plug-in ./parts.py: {parts} is gone\n")
    listed = sgp("runs", "--json")
    assert [run["state"] for run in listed.json] == ["completed", "completed"]
    assert "0.9" in sgp("table", sweep.name).out
    report = sgp("report", sweep.name)
    assert report.code == 0, report.err
    exported = sgp("export", run)
    assert exported.code == 0, exported.err
    assert "accuracy" in exported.out


def test_broken_plugins_start_nothing(here: Path, sgp_train: Train) -> None:
    (here / "broken.py").write_text("import math\nmath.pie\n")
    said = sgp_train("plugins=./broken.py", *QUICK)
    assert (said.code, said.err) == (
        2,
        "sgp-train: plug-in broken.py:2: AttributeError: module 'math' has no attribute 'pie'\n",
    )
    assert not (here / "runs").exists()
