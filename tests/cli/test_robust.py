"""Whatever lies in the run folders, and whatever SLURM does: an answer or one sentence, never a traceback."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from launcher.cli.commands import cancel
from launcher.cli.sgp import command_names
from launcher.runs.find import run_ids
from tests.support.run_states import DAMAGED_SWEEPS, MIXED_SWEEP, WHOLE_SWEEP
from tests.support.sgp_command import Said

SWEEPS = (WHOLE_SWEEP, MIXED_SWEEP, *DAMAGED_SWEEPS)

ASKED: dict[str, Sequence[Sequence[str]]] = {
    "runs": (
        [],
        ["--state", "failed,lost"],
        ["--where", "algorithm=sgp"],
        ["--sweep", MIXED_SWEEP],
        ["--sort", "loss"],
    ),
    "status": ([], ["RUN"], ["SWEEP"]),
    "logs": (["RUN"], ["RUN", "--rank", "all", "--lines", "3"]),
    "table": (["SWEEP"],),
    "topology": (["ring"],),
    "report": (["SWEEP", "--format", "html", "--out", "OUT"], [MIXED_SWEEP, "--format", "png", "--out", "OUT"]),
    "sync": (["--all", "--dry-run"],),
    "cancel": (["RUN"], ["SWEEP"]),
    "clean": ([], ["--state", "failed,lost,damaged"]),
    "export": (["RUN", "--out", "OUT"],),
    "translate": (["RUN"],),
    "generate": (["RUN"],),
}
"""Verbs and how they are called here, once for each RUN or SWEEP there is."""

ONLY_LOOK = ("runs", "status", "logs", "table", "topology")
VERBS = sorted(set(command_names()) - {"resume", "init", "plan", "calibrate"})  # they start workers, or read no run


@pytest.mark.filterwarnings("error")  # they would be on the terminal
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_or_a_sentence(
    verb: str,
    as_json: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sgp: Callable[..., Said],
    slurm: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a line\n")))  # for who asks for lines
    folders: Path = request.getfixturevalue("folders" if verb in ONLY_LOOK else "fresh_folders")
    slurm("answers")
    out = tmp_path / "out"
    out.mkdir()
    asked = 0
    for form in ASKED[verb]:
        for target in run_ids(folders) if "RUN" in form else SWEEPS if "SWEEP" in form else [""]:
            words = [{"RUN": target, "SWEEP": target, "OUT": str(out)}.get(word, word) for word in form]
            place = [] if verb == "topology" else ["--runs-dir", folders]
            check(sgp(verb, *words, *place, *(["--json"] if as_json else [])), as_json)
            asked += 1
    assert asked >= len(ASKED[verb])


def check(said: Said, as_json: bool) -> None:
    assert said.code in (0, 1, 2)
    assert "Traceback (most recent call last)" not in said.err
    if said.code == 2:
        assert said.err.startswith("sgp: ")
        assert len(said.err.splitlines()) == 1
    elif as_json:
        assert said.json is not None
    else:
        assert said.out.strip()
        assert "\x1b" not in said.out


@pytest.mark.parametrize("says", ["fails", "hangs", "babbles", "absent"])
@pytest.mark.parametrize("verb", ["status", "cancel"])
def test_slurm_may_be_away(
    verb: str,
    says: str,
    fresh_folders: Path,
    sgp: Callable[..., Said],
    slurm: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if says == "absent":
        monkeypatch.setenv("PATH", str(fresh_folders))
    else:
        slurm(says)
    monkeypatch.setattr(cancel, "_PATIENCE_S", 0.5)
    said = sgp(verb, "d000000000", "--runs-dir", fresh_folders, "--json")
    check(said, as_json=True)
    if verb == "status":
        assert (said.json["state"], said.json["verified"]) == ("running", False)
        assert "SLURM does not answer" in said.json["note"]
    elif says != "babbles":
        assert said.code == 2
        assert not (fresh_folders / "d000000000" / "cancel").exists()


@pytest.mark.parametrize("verb", ["runs", "status"])
def test_slurm_is_asked_once(verb: str, folders: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]) -> None:
    asked = slurm("answers")
    assert sgp(verb, "--runs-dir", folders).code == 0
    assert len(asked.read_text().splitlines()) == 1


def test_slurm_is_not_asked_about_runs_it_never_had(
    folders: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    asked = slurm("answers")
    assert sgp("status", "c000000001", "--runs-dir", folders).code == 0
    assert not asked.exists()


@pytest.mark.parametrize("place", ["nowhere", "empty", "file"])
@pytest.mark.parametrize("verb", ["runs", "status"])
def test_no_runs_is_not_a_mistake(verb: str, place: str, tmp_path: Path, sgp: Callable[..., Said]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("not a folder")
    said = sgp(verb, "--runs-dir", tmp_path / place)
    assert (said.code, said.err) == (0, "")
    assert str(tmp_path / place) in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["rusn"],
        ["status", "--wacth"],
        ["logs"],
        ["status", "nothing-like-it"],
        ["runs", "--state", "faild"],
        ["runs", "-x"],
    ],
)
def test_mistakes_are_told_in_few_words(arguments: list[str], folders: Path, sgp: Callable[..., Said]) -> None:
    place = ["--runs-dir", folders] if arguments[0] in ("status", "runs") else []
    said = sgp(*arguments, *place)
    assert said.code == 2
    assert said.out == ""
    assert 1 <= len(said.err.splitlines()) <= 4
    assert max(map(len, said.err.splitlines())) < 300


def test_output_is_as_wide_as_it_needs_to_be(
    folders: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = sgp("runs", "--runs-dir", folders).out.splitlines()
    named = [line for line in lines if line.startswith("c0")]
    assert len(named) == 8
    assert all("completed" in line and line.endswith(f"local on {os.uname().nodename}") for line in named)
