"""Every ``sgp translate`` line of the pages is run, on a run of the preset that they speak of, made up for it."""

from __future__ import annotations

import io
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from launcher.cli.sgp import main
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from tests.docs.pages import PAGES, commands
from tests.support.run_folders import make_run
from tests.support.translations import MODEL, make_model

LINES = [line for page in PAGES for line in commands(page) if line.startswith("sgp translate ")]
SENTENCES = ["And God said, Let there be light.", "Jesus wept.", "Rejoice evermore."]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with sentences, references, the run, and a model that was exported to a file of its own."""
    [plan] = make_plans(compose(["experiment=translation_small"]))
    run = make_run(tmp_path / "runs", plan.run_id, model=MODEL, dataset={"name": "verses"})
    make_model(run, SENTENCES)
    shutil.copy(run / "model.safetensors", tmp_path / "averaged.safetensors")
    shutil.copy(run / "model.json", tmp_path / "averaged.json")
    shutil.copy(run / "tokenizer.json", tmp_path)
    for name in ("sentences.txt", "references.txt"):
        (tmp_path / name).write_text("".join(f"{sentence}\n" for sentence in SENTENCES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_translates(
    line: str, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _, redirected = line.partition(" < ")
    given = (reader / redirected.split()[0]).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(shlex.split(words)[1:]) == 0
    said = capsys.readouterr()
    if "--json" in words:
        assert '"signature": "nrefs:1|case:mixed' in said.out
    else:
        assert said.out.count("\n") == len(SENTENCES)
        assert said.err.startswith("BLEU ") == ("--reference" in words)
