"""The wheel, installed where nothing else of this project is, run where the working directory lays traps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("conf", "launcher", "sgp_core", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for part in PARTS:
        path = ROOT / part
        if path.is_dir():
            shutil.copytree(path, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / part)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source, cwd=source)
    [built] = (source / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_choice_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    choices = {f"launcher/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert choices
    assert choices <= names
    template = ROOT / "launcher" / "cli" / "template"
    files = [path for path in template.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in files} <= names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {
        "launcher",
        "sgp_core",
        "stochastic_gradient_push",
    }


def test_the_wheel_trains_beside_a_decoy(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    [packages] = (environment / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    here = tmp_path / "here"
    for decoy in ("conf", "launcher", "sgp_core", "submitit"):
        (here / decoy).mkdir(parents=True)
        (here / decoy / "__init__.py").write_text(f"raise RuntimeError('the decoy {decoy} was imported')\n")
    (here / "conf" / "config.yaml").write_text("decoy: true\n")
    assert "wrote demo: README.md, algorithm.py" in run(environment / "bin" / "sgp", "init", "demo", cwd=here).stdout
    said = run(environment / "bin" / "sgp-train", "debug=ranks", "training.max_steps=2", cwd=here)
    assert "completed, 2 steps" in said.stdout
    [log] = here.glob("runs/*/logs/attempt-1/*_1_log.out")
    assert "decoy" not in log.read_text()
