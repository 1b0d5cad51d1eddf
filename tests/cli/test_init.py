"""``sgp init`` writes a project that trains and passes its tests as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from launcher.cli.train import main
from tests.support.launched import read
from tests.support.sgp_command import Said

Sgp = Callable[..., Said]
DEMO = ["--config-dir", "conf", "experiment=demo"]


def test_the_project_trains_and_passes_its_test(here: Path, sgp: Sgp, monkeypatch) -> None:
    said = sgp("init", "demo")
    assert said.code == 0
    assert "cd demo && sgp-train --config-dir conf experiment=demo" in said.out
    monkeypatch.chdir("demo")
    assert len(Path("README.md").read_text().splitlines()) <= 25
    assert main([*DEMO, "tracker=none"]) == 0
    [run] = [path for path in Path("runs").iterdir() if path.is_dir()]
    summary, spec = read(run / "summary.json"), read(run / "spec.json")
    assert summary["final"]["accuracy"] > 0.9
    assert [Path(plugin["path"]).name for plugin in spec["plugins"]] == ["model.py", "dataset.py", "algorithm.py"]
    assert spec["experiment"]["algorithm"]["gamma"] == 0.7
    assert main([*DEMO, "algorithm.order=awc", "dry_run=true"]) == 2  # which mixes before the step, and it after
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "2 passed" in tested.stdout, tested.stdout


def test_nothing_is_overwritten(here: Path, sgp: Sgp) -> None:
    (here / "taken").mkdir()
    assert sgp("init", "taken", "--json").json["files"][0] == "README.md"
    again = sgp("init", "taken")
    assert (again.code, again.err) == (
        2,
        "sgp: taken exists already, and nothing is overwritten; choose another name\n",
    )
    (here / "file").write_text("kept")
    assert sgp("init", "file").code == 2
    assert (here / "file").read_text() == "kept"
