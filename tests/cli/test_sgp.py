"""What all verbs of ``sgp`` have in common: help, exit codes, interruption, a reader that has had enough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from launcher.cli import commands
from launcher.cli import sgp as application
from launcher.cli.sgp import command_names, main
from sgp_core.errors import ConfigurationError
from tests.support.sgp_command import Said

VERBS = command_names()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_and_speaks_json(verb: str, sgp: Callable[..., Said]) -> None:
    said = sgp(verb, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: sgp {verb} ")
    assert "--json" in said.out
    assert ("--runs-dir" in said.out) == (verb not in ("topology", "init", "plan", "calibrate"))


def test_help_lists_every_verb_with_its_purpose(sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = sgp("-h")
    assert said.code == 0
    listed = dict(line.strip().split(maxsplit=1) for line in said.out.partition("Commands:")[2].strip().splitlines())
    assert sorted(listed) == VERBS


@pytest.mark.parametrize(("typed", "command"), [("list", "runs"), ("ls", "runs"), ("show", "status")])
def test_commands_go_by_the_names_that_people_type(typed: str, command: str, sgp: Callable[..., Said]) -> None:
    asked = sgp(typed, "--help")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out.partition("Options:")[2] == sgp(command, "--help").out.partition("Options:")[2]
    assert "sgp list is sgp runs" in sgp("--help").out


def test_a_new_command_is_one_file(tmp_path: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["def greet(name: str) -> None:", "    'Greet somebody.'", "    print(f'hello {name}')", ""]
    (tmp_path / "greet.py").write_text("\n".join(lines))
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert "greet" in sgp("--help").out
    assert (sgp("greet", "Ada").code, sgp("greet", "Ada").out) == (0, "hello Ada\n")
    assert "Did you mean 'greet'?" in sgp("greeet").err
    monkeypatch.delitem(sys.modules, f"{commands.__name__}.greet")


def test_only_the_command_that_is_called_is_imported(tmp_path: Path) -> None:
    script = "import sys; from launcher.cli.sgp import main; main(['runs']); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {name for name in said.stdout.split() if name.startswith(f"{commands.__name__}.")}
    assert imported == {f"{commands.__name__}.runs"}


def test_version(sgp: Callable[..., Said]) -> None:
    said = sgp("--version")
    assert (said.code, said.out.split()[0]) == (0, "sgp")


def test_without_arguments_there_is_help(sgp: Callable[..., Said]) -> None:
    said = sgp()
    assert "Usage: sgp" in said.out + said.err
    assert "runs" in said.out + said.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigurationError("lr=-1 is negative"), 2, "sgp: lr=-1 is negative\n"),
        (PermissionError(13, "Permission denied", "runs/x"), 2, "sgp: runs/x: Permission denied\n"),
        (OSError("disk gone"), 2, "sgp: disk gone\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(1), 1, ""),
    ],
)
def test_what_goes_wrong_has_a_code_and_few_words(
    error: BaseException, code: int, words: str, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(ctx: typer.Context) -> None:
        raise error

    failing = typer.Typer(cls=application.CommandGroup, rich_markup_mode=None)
    failing.command("runs")(fail)
    failing.callback()(lambda: None)
    monkeypatch.setattr(application, "app", failing)
    said = sgp("runs")
    assert (said.code, said.err) == (code, words)


def test_what_the_terminal_cannot_show_is_no_reason_to_fail(folders: Path) -> None:
    command = [sys.executable, "-m", "launcher.cli.sgp", "logs", "f000000000", "--runs-dir", str(folders)]
    log = folders / "f000000000" / "logs" / "attempt-1" / "1_2_log.out"
    before = log.read_bytes()
    log.write_bytes(before + "λ ≤ ½\n".encode() + b"\xff\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    said = subprocess.run(command, capture_output=True, env=environment, check=False)
    log.write_bytes(before)
    assert (said.returncode, said.stderr) == (0, b"")
    assert b"\\u03bb" in said.stdout


def test_a_reader_that_has_had_enough_is_no_error(folders: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "launcher.cli.sgp", "runs", "--runs-dir", str(folders)]
    said = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (said.returncode, said.stderr) == (128 + signal.SIGPIPE, b"")


def test_arguments_are_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sgp", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("sgp ")
