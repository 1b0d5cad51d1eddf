"""Asking costs little: no torch, no folders; and the shell completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = ["torch", "torchvision", "sklearn", "wandb", "matplotlib", "scipy", "submitit", "pandas"]
BLOCKER = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None  # importing it now fails
from launcher.cli.train import main
sys.exit(main(sys.argv[1:]))
"""


def ask(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``sgp-train`` where nothing heavy can be imported."""
    command = [sys.executable, "-c", BLOCKER, *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "one_peer_exponential"),
        (["--cfg", "job"], "workers_per_node: 4"),
        (["--cfg", "job", "topology=ring", "--resolve", "-p", "topology"], "name: ring"),
        (["topology=ring", "--cfg", "job", "seed=3"], "seed: 3"),
        (["--version"], "sgp-train 0."),
        (["-sc", "install=bash"], "complete -o nospace"),
        (["--info", "defaults"], "topology/one_peer_exponential"),
    ],
)
def test_showing_needs_nothing_heavy_and_leaves_nothing(arguments: list[str], shown: str, tmp_path: Path) -> None:
    said = ask(tmp_path, *arguments)
    assert (said.returncode, said.stderr) == (0, "")
    assert shown in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_found_without_anything_heavy(tmp_path: Path) -> None:
    said = ask(tmp_path, "outer=slowmo", "topology=hypercube", "cluster.workers_per_node=3")
    assert said.returncode == 2
    assert "power of two" in said.stderr


def test_help_speaks_of_sgp_train(tmp_path: Path) -> None:
    said = ask(tmp_path, "--help")
    assert said.stdout.startswith("sgp-train: decentralised data-parallel training")
    for group in ("topology", "algorithm", "outer", "cluster", "experiment"):
        assert f"\n  {group} " in said.stdout
    assert "Powered by" not in said.stdout


@pytest.mark.parametrize(
    ("line", "completed"),
    [("topology=hyp", "topology=hypercube"), ("outer=slo", "outer=slowmo"), ("training.epo", "training.epochs=")],
)
def test_bash_completes(line: str, completed: str, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    command = tmp_path / "sgp-train"
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom launcher.cli.train import main\nsys.exit(main())\n")
    command.chmod(0o755)
    script = f"""
        eval "$(sgp-train -sc install=bash)"
        COMP_LINE='sgp-train {line}' COMP_POINT=99 COMP_CWORD=1 COMP_WORDS=(sgp-train '{line}')
        $(complete -p sgp-train | sed -E 's/.*-F ([^ ]+).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run(
        [bash, "--norc", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == [completed], said.stderr
