"""Files and folders in a run folder that are no part of it are passed over, and what is missing is said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli.train import main as sgp_train
from launcher.config.extension import read_earlier_run
from launcher.runs.run_folder import RunFolder, RunInProgress
from tests.support.sgp_command import Said

TRAIN = ("cluster=inline", "tracker=none", "training.max_steps=4", "topology=complete")


def test_a_run_goes_on_among_stray_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sgp: Callable[..., Said]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sgp_train([*TRAIN, "checkpoint.every_steps=2"]) == 0
    [run] = Path("runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "status": "failed"}))
    for name in ("logs/attempt-foo", "logs/attempt-2x", "logs/attempt-\N{SUPERSCRIPT TWO}"):
        (run / name).mkdir()
    (run / "step-60").write_text("a file")
    (run / "step-61").symlink_to("nowhere")
    (run / "checkpoints" / "step-60").write_text("a file")
    (run / "checkpoints" / "step-61").symlink_to("nowhere")
    (run / "checkpoints" / "step-foo").mkdir()
    (run / "rank-x.json").write_text("[]")
    capsys.readouterr()
    assert sgp_train([*TRAIN, "checkpoint.every_steps=2"]) == 0, capsys.readouterr().err
    assert (run / "logs" / "attempt-2").is_dir()
    (run / "checkpoints" / "step-foo").mkdir(exist_ok=True)
    (run / "checkpoints" / "step-foo" / "manifest.json").write_text("{}")
    assert read_earlier_run(run.name, run.absolute().parent).step == 4
    for words in (["status", run.name], ["logs", run.name], ["table"], ["export", run.name, "--step", "last"]):
        said = sgp(*words)
        assert said.code in (0, 2)
        assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "summary", [{"status": "completed"}, {"status": "completed", "final": 3, "best": [], "steps": "4"}]
)
def test_a_bare_summary_is_shown(
    summary: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sgp_train([*TRAIN, "dry_run=true"]) == 0
    run_id = next(line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("run_id"))
    run = tmp_path / "runs" / run_id
    run.mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps(summary))
    assert sgp_train(TRAIN) == 0
    said = capsys.readouterr().out
    assert f"{run_id} is complete already; nothing to do" in said
    assert f"{run_id} ({run_id}): completed, 0 steps" in said


def test_a_lock_that_leads_out_of_the_folder_empties_no_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("to be kept")
    folder = RunFolder(tmp_path / "0123456789")
    folder.path.mkdir()
    (folder.path / ".lock").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"), folder.lock():
        pass
    assert precious.read_text() == "to be kept"
    (folder.path / ".lock").unlink()
    os.mkfifo(folder.path / ".lock")
    with pytest.raises((OSError, RunInProgress)), folder.lock():
        pass
