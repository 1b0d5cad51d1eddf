"""``sgp`` answers at once: nothing heavy is imported to list, show, follow or cancel runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.run_folders import make_sweep
from tests.support.run_states import WHOLE_SWEEP, completed_run, failed_run

BLOCKED = (
    "torch",
    "torchvision",
    "sklearn",
    "scipy",
    "numpy",
    "networkx",
    "hydra",
    "omegaconf",
    "submitit",
    "wandb",
    "matplotlib",
    "optuna",
    "pandas",
)
BLOCKER = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None  # importing it now fails
from launcher.cli.sgp import main
sys.exit(main())
"""


def ask(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``sgp`` where nothing heavy can be imported."""
    command = [sys.executable, "-c", BLOCKER, *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("here")
    run = completed_run(directory / "runs", "c000000001")
    failed_run(directory / "runs", "f000000001")
    make_sweep(directory / "runs", WHOLE_SWEEP, [run.name])
    return directory


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "runs"),
        (["--version"], "sgp 0."),
        (["runs"], "c000000001"),
        (["status", WHOLE_SWEEP], "1 completed"),
        (["status", "--help"], "--watch"),
        (["logs", "c0", "-n", "1"], "line 20 of 0"),
        (["cancel", "c0"], "nothing to end: completed"),
        (["sync", "--all", "--dry-run"], "c000000001"),
    ],
)
def test_nothing_heavy_is_needed(arguments: list[str], shown: str, here: Path) -> None:
    said = ask(here, *arguments)
    assert (said.returncode, said.stderr) == (0, "")
    assert shown in said.stdout


def test_help_of_every_verb_is_light(here: Path) -> None:
    verbs = [
        line.split()[0] for line in ask(here, "--help").stdout.partition("Commands:")[2].splitlines() if line.strip()
    ]
    assert {"runs", "status", "logs", "cancel"} <= set(verbs)
    script = BLOCKER.replace(
        "sys.exit(main())", f"codes = [main([verb, '--help']) for verb in {verbs!r}]\nsys.exit(any(codes))"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.count("Usage: sgp ") == len(verbs)
