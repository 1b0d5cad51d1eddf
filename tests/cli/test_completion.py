"""Shells complete verbs, options, runs, sweeps and states, asked by the protocol of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from launcher.cli.sgp import app, command_names
from tests.support.run_folders import make_sweep
from tests.support.run_states import WHOLE_SWEEP, completed_run, failed_run
from tests.support.sgp_command import Said

GROUP: Any = typer.main.get_command(app)
VERBS = {name: GROUP.get_command(None, name) for name in command_names()}
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with runs."""
    run = completed_run(tmp_path / "runs", "c000000001")
    failed_run(tmp_path / "runs", "f000000001")
    make_sweep(tmp_path / "runs", WHOLE_SWEEP, [run.name])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def completed(sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], set[str]]:
    """Return what a shell is offered for the last of some words."""

    def ask(shell: str, words: list[str]) -> set[str]:
        line = " ".join(words)
        monkeypatch.setenv("_SGP_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        said = sgp()
        assert said.err == ""
        return set(said.out.replace('"', " ").replace(":", " ").split())

    return ask


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        (["sgp", "st"], {"status"}, {"runs"}),
        (["sgp", "status", "c0"], {"c000000001"}, {"f000000001"}),
        (["sgp", "status", "aaaa"], {WHOLE_SWEEP}, {"c000000001"}),
        (["sgp", "logs", "f0"], {"f000000001"}, {WHOLE_SWEEP}),
        (["sgp", "cancel", "c000000001", "f"], {"f000000001"}, {"c000000001"}),
        (["sgp", "runs", "--state", "fai"], {"failed"}, {"running"}),
        (["sgp", "runs", "--state", "failed,run"], {"failed,running"}, {"queued"}),
        (["sgp", "runs", "--sweep", "a"], {WHOLE_SWEEP}, set()),
        (["sgp", "status", "--wa"], {"--watch"}, {"--json"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_shells_complete(
    shell: str,
    words: list[str],
    offered: set[str],
    not_offered: set[str],
    here: Path,
    completed: Callable[[str, list[str]], set[str]],
) -> None:
    found = completed(shell, words)
    assert offered <= found
    assert not not_offered & found


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_knows_what_it_can_be_asked_about(
    verb: str, here: Path, completed: Callable[[str, list[str]], set[str]]
) -> None:
    parameters = VERBS[verb].params
    asked = " ".join(str(one.metavar) for one in parameters if one.param_type_name == "argument")
    offered = completed("bash", ["sgp", verb, "c0"]) | completed("bash", ["sgp", verb, "aaaa"])
    assert ("c000000001" in offered) == ("RUN" in asked)
    assert (WHOLE_SWEEP in offered) == ("SWEEP" in asked)
    if any("--state" in one.opts for one in parameters):
        assert completed("bash", ["sgp", verb, "--state", "fai"]) == {"failed"}


def test_runs_are_looked_for_where_the_command_line_says(
    completed: Callable[[str, list[str]], set[str]], here: Path
) -> None:
    completed_run(here / "elsewhere", "dddddddddd")
    assert "dddddddddd" in completed("bash", ["sgp", "status", "--runs-dir", "elsewhere", "d"])
    assert "dddddddddd" not in completed("bash", ["sgp", "status", "d"])


@pytest.mark.parametrize("shell", SHELLS)
def test_damaged_folders_are_completed_too(
    shell: str,
    folders: Path,
    completed: Callable[[str, list[str]], set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folders.parent)
    assert {"9200000000", "9300000000"} <= completed(shell, ["sgp", "status", "9"])
    assert "bbbb0001" in completed(shell, ["sgp", "status", "bbbb"])


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_are_told_how_to_complete(shell: str, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SGP_COMPLETE", f"source_{shell}")
    script = sgp().out
    assert f"complete_{shell}" in script
    assert "sgp" in script
