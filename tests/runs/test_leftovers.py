"""What may go beside the run folders, and what may not."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from launcher.runs import leftovers
from launcher.runs.leftovers import remove_leftover
from tests.support.run_folders import make_run, make_sweep

RUN = "a000000000"


def snapshot(runs: Path, name: str, *, age_s: float = 3600.0) -> Path:
    path = runs / "snapshots" / name
    (path / "launcher").mkdir(parents=True)
    (path / "launcher" / "cli.py").write_text("")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_nothing_of_runs_and_sweeps_is_left_over(tmp_path: Path) -> None:
    assert leftovers.leftovers(tmp_path / "nowhere") == []
    make_run(tmp_path, RUN)
    make_sweep(tmp_path, "abcd0000", [RUN])
    (tmp_path / "notes").mkdir()
    (tmp_path / "replaced").mkdir()
    (tmp_path / "replaced" / "a file").write_text("")
    (tmp_path / "replaced" / "a link").symlink_to(tmp_path / "notes")
    assert leftovers.leftovers(tmp_path) == []


def test_runs_started_over_and_removals_that_were_interrupted_are(tmp_path: Path) -> None:
    make_run(tmp_path, RUN)
    found = [
        tmp_path / "replaced" / f"{RUN}-20260101-000000",
        tmp_path / ".removed-17-runs-b000000000",
        tmp_path / "sweeps" / ".removed-17-sweeps-abcd0000",
    ]
    for path in found:
        path.mkdir(parents=True)
    assert leftovers.leftovers(tmp_path) == found


def test_code_that_a_run_was_started_with_is_kept_wherever_it_was_then(tmp_path: Path) -> None:
    latest, earlier, unnamed, new = (snapshot(tmp_path, f"{n}123456789") for n in range(4))
    os.utime(new)
    run = make_run(tmp_path, RUN)
    spec = json.loads((run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps({**spec, "snapshot": f"/elsewhere/runs/snapshots/{latest.name}"}))
    (run / "logs" / "attempt-1").mkdir(parents=True)
    (run / "logs" / "attempt-1" / "spec.json").write_text(json.dumps({**spec, "snapshot": str(earlier)}))
    make_run(tmp_path, "b000000000")
    (tmp_path / "b000000000" / "spec.json").write_text('{"snapshot": [3]}')
    assert leftovers.leftovers(tmp_path) == [unnamed]
    shutil.rmtree(run)
    assert leftovers.leftovers(tmp_path) == [latest, earlier, unnamed]


def test_removing_follows_no_links_and_says_what_it_could_not(tmp_path: Path) -> None:
    path = snapshot(tmp_path, "0123456789")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("")
    (path / "link").symlink_to(tmp_path / "precious")
    assert remove_leftover(path) is None
    assert sorted(str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*")) == [
        "precious",
        "precious/data",
        "snapshots",
    ]
    assert remove_leftover(path) == "No such file or directory"
