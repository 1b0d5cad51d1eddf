"""The code that a run folder names is run without a question only where this user has made the folder."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.train import main as sgp_train
from launcher.config.trust import sign
from sgp_core.plugins import loaded_plugins, unload_plugin
from tests.support.sgp_command import Said

Sgp = Callable[..., Said]

PLUGIN = "from pathlib import Path\n\nPath({mark!r}).touch()\n"
ASKED = "its folder was not made here by you, and resuming or exporting it uses what it names: "


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a run that loads a plug-in and can be resumed, and a copy of it."""
    work = tmp_path_factory.mktemp("work")
    (work / "plugin.py").write_text(PLUGIN.format(mark=str(work / "mark")))
    words = ["plugins=./plugin.py", "cluster=inline", "tracker=none", "training.max_steps=2", "topology=complete"]
    with contextlib.chdir(work):
        assert sgp_train(words) == 0
    [run] = work.glob("runs/*")
    amend(run / "summary.json", status="failed")
    shutil.copytree(work / "runs", work / "kept")
    return work


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of that run as it was, in the working directory."""
    monkeypatch.chdir(trained)
    for folder in ("runs", "theirs"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("kept", "runs")
    Path("mark").unlink(missing_ok=True)
    for plugin in loaded_plugins():
        unload_plugin(plugin)
    return next(Path("runs").iterdir())


@pytest.fixture
def mark(trained: Path) -> Path:
    """A file that is written when the plug-in is run."""
    return trained / "mark"


def amend(path: Path, **values: Any) -> dict[str, Any]:
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps(content))
    return content


def test_a_folder_that_i_made_is_resumed(run: Path, mark: Path, sgp: Sgp) -> None:
    assert sgp("export", run.name, "--step", "last").code == 0
    assert mark.exists()
    assert sgp("resume", run.name).code == 0


def _copied(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return Path(shutil.copytree(run.parent, "theirs")) / run.name


def _edited(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    amend(run / "spec.json", log_every=7)
    return run


def _unsigned(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    spec = json.loads((run / "spec.json").read_text())
    del spec["signature"]
    (run / "spec.json").write_text(json.dumps(spec))
    return run


def _of_another_user(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as there:
        there.setenv("XDG_STATE_HOME", str(run.parent / "other"))
        (run / "spec.json").write_text(json.dumps(sign(json.loads((run / "spec.json").read_text()))))
    return run


@pytest.mark.parametrize("foreign", [_copied, _edited, _unsigned, _of_another_user])
def test_a_foreign_folder_runs_nothing_before_it_is_trusted(
    foreign: Callable[[Path, pytest.MonkeyPatch], Path],
    run: Path,
    mark: Path,
    sgp: Sgp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = foreign(run, monkeypatch)
    for words in (["resume"], ["export", "--step", "last"]):
        said = sgp(*words, f"./{folder}")
        assert said.code == 2
        assert f"{ASKED}the plug-in {Path('plugin.py').absolute()}; look at that, then give --trust" in said.err
        assert not mark.exists()
    assert sgp("export", f"./{folder}", "--step", "last", "--trust").code == 0
    assert mark.exists()


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_it_is_asked(
    answer: bool, run: Path, mark: Path, sgp: Sgp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("launcher.cli.confirm.on_terminal", lambda: True)

    def confirm(question: str, **_: Any) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr("typer.confirm", confirm)
    said = sgp("resume", f"./{_edited(run, monkeypatch)}")
    assert len(asked) == 1
    assert mark.exists() == answer
    assert ("it is not trusted" in said.err) != answer


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"snapshot": "/tmp/theirs"}, "the copy of the code /tmp/theirs"),
        ({"cluster": {"name": "slurm", "setup": ["rm -rf ~"]}}, "cluster.setup=['rm -rf ~']"),
        ({"cluster": {"name": "slurm", "python": "./python"}}, "cluster.python=./python"),
    ],
)
def test_copies_of_the_code_and_commands_are_code(named: dict[str, Any], words: str, run: Path, sgp: Sgp) -> None:
    amend(run / "spec.json", plugins=[], **named)
    assert f"{ASKED}{words}; look" in sgp("resume", run.name).err


def test_links_that_lead_out_of_a_foreign_folder_are_asked_for(run: Path, tmp_path: Path, sgp: Sgp) -> None:
    amend(run / "spec.json", plugins=[])
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(tmp_path)
    (tmp_path / "step-1").mkdir()  # it would be removed as a leftover
    assert f"{ASKED}the link checkpoints to {tmp_path}; look" in sgp("resume", run.name).err
    assert (tmp_path / "step-1").is_dir()


def test_a_foreign_folder_without_code_is_resumed(run: Path, sgp: Sgp) -> None:
    amend(run / "spec.json", plugins=[], run_dir="/elsewhere")
    assert sgp("resume", run.name).code == 0


def test_words_of_a_run_that_is_extended_run_no_code(run: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    amend(run / "summary.json", status="completed")
    amend(run / "spec.json", log_every=7)
    assert sgp_train([f"extend={run.name}", "training.max_steps=4"]) == 2
    assert "you did not make this run here, and plugins=./plugin.py runs code" in capsys.readouterr().err
    assert not mark.exists()
