"""Calling ``sgp`` in the test process, on run folders made up for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.sgp import main
from tests.support.run_states import make_folders, squeue_that


@dataclass
class Said:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output, parsed as strict JSON."""
        return json.loads(self.out, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@pytest.fixture
def sgp(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Call ``sgp``."""

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders in every state, to be looked at only."""
    return make_folders(tmp_path_factory.mktemp("folders") / "runs")


@pytest.fixture
def fresh_folders(tmp_path: Path) -> Path:
    """Run folders in every state, the test's own."""
    return make_folders(tmp_path / "runs")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put SLURM commands that behave in a certain way first on PATH; return the file that says what they were asked."""

    def put(says: str) -> Path:
        folder = squeue_that(says, tmp_path / f"slurm-{says}")
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder / "asked"

    return put
