"""Secrets in the environment, settings, git remote and command line reach no file that a run leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.config.redact import redact, redact_code
from tests.support.wandb_files import stored

SECRET = "5ecre7"
"""What every planted secret contains."""
ENVIRONMENT = {
    "WANDB_API_KEY": f"{SECRET}{'a' * 34}",
    "HF_TOKEN": f"hf_{SECRET}{'b' * 30}",
    "AWS_SECRET_ACCESS_KEY": f"{SECRET}/aws",
    "MY_OWN_VARIABLE": f"{SECRET}-of-my-own",
}
WORDS = (
    f"tracker.notes='my password: {SECRET}'",
    f"tracker.tags=[quick,sk-{SECRET}{'c' * 20}]",
    f"name='run with token={SECRET}'",
)
SETTINGS = f"""# @package _global_
tracker:
  group: token={SECRET}
"""


def test_no_file_has_a_secret(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    environment = {**os.environ, **ENVIRONMENT, "WANDB_MODE": "offline"}

    def call(*words: str) -> None:
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr

    (tmp_path / "settings.py").write_text("")
    call(*git, "init", "-q")
    call(*git, "remote", "add", "origin", f"https://me:{SECRET}@example.org/repository.git")
    call(*git, "add", "settings.py")
    call(*git, "commit", "-qm", "first")
    (tmp_path / "settings.py").write_text(f"API_KEY = '{SECRET}'\n")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(SETTINGS)
    train = (sys.executable, "-m", "launcher.cli.train", "--config-dir", "conf", "experiment=mine", *WORDS)
    small = ("cluster.workers_per_node=1", "topology=complete", "training.max_steps=2", "log_every=1", "tracker=wandb")
    call(*train, *small, "-m", "seed=1,2")
    [sweep] = tmp_path.glob("runs/sweeps/*/sweep.json")
    call(sys.executable, "-m", "launcher.cli.sgp", "report", sweep.parent.name, "--format", "html")
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {"spec.json", "sweep.json", "report.html", "metrics.jsonl"} <= {f.name for f in files}
    assert [str(path) for path in files if SECRET.encode() in path.read_bytes()] == []
    spec = json.loads(next(tmp_path.glob("runs/*/spec.json")).read_text())
    assert spec["tracker"]["notes"] == "my password: ***"
    assert "tracker.tags=[quick,***]" in spec["provenance"]["command"]
    for run in tmp_path.glob("runs/*/wandb"):  # a compressed part would hide one
        kept = stored(run.parent, run.parent.name)
        assert kept["lines"]
        assert SECRET not in json.dumps(kept)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("training.epochs=3", None),
        ("dataset.max_tokens=4096", None),
        ("tokenizer=bpe", None),
        ("dataset.token=null", None),
        ("author: Ann", None),
        ("tracker.notes=see https://example.org/a@b", None),
        ("dataset.token=abc", "dataset.token=***"),
        ("password: 'a b c'", "password: ***"),
        ("cluster.setup=[export HF_TOKEN=abc, module load]", "cluster.setup=[export HF_TOKEN=***, module load]"),
        ("git+https://user:pw@example.org/x", "git+https://***@example.org/x"),
        (f"x=ghp_{'a' * 30}", "x=***"),
        ("token=***", None),
    ],
)
def test_what_is_redacted(given: str, kept: str | None) -> None:
    assert redact(given) == (given if kept is None else kept)


def test_code_stays_code() -> None:
    code = "+token = tokens[0]\n+secret = compute()\n+password: str\n"
    assert redact_code(code) == code
    assert redact_code("+API_KEY = 'abcdef'\n+DB_PASSWORD=hunter2hunter2\n") == "+API_KEY = ***\n+DB_PASSWORD=***\n"
