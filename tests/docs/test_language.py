"""Every ``sgp generate`` line of the pages is run, on the run that they speak of, made up for it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from launcher.cli.sgp import main
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from tests.docs.pages import PAGES, ROOT, commands
from tests.support.language_models import LLAMA, make_language_model
from tests.support.run_folders import make_run

LINES = [line for page in PAGES for line in commands(page) if re.match("sgp (generate|export .*--format)", line)]


@pytest.mark.parametrize("line", LINES)
def test_writes(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first = commands(ROOT / "docs" / "language.md")[0]
    [plan] = make_plans(compose(shlex.split(first)[1:]))
    make_language_model(make_run(tmp_path / "runs", plan.run_id, model=LLAMA, dataset={"name": "text"}))
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out
