"""A disk that fills up in the middle of a run: said with its path, nothing good is lost, and the run goes on later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sgp_core.training.callbacks import CALLBACKS
from tests.support.waiting import LONG_PATIENCE_S
from tests.workers import full_disk

CALLBACKS.remove("fills_disk")  # it is registered as a plug-in is, and no choice of the tests that follow

ROOT = Path(__file__).resolve().parents[2]
IN_ITS_OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


def may_mount() -> bool:
    command = [*IN_ITS_OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model of a run that had room."""
    runs = tmp_path_factory.mktemp("undisturbed")
    done = full_disk.train(runs)
    assert done.returncode == 0, done.stderr
    return next(runs.glob("*/model.safetensors")).read_bytes().hex()


@pytest.mark.parametrize(("what", "named"), [("metrics", ".jsonl"), ("checkpoint", "rank-")])
def test_the_run_says_so_keeps_its_checkpoint_and_resumes_bit_for_bit(
    tmp_path: Path, undisturbed: str, what: str, named: str
) -> None:
    if not may_mount():
        pytest.skip("this user may not mount a small file system")
    done = subprocess.run(
        [*IN_ITS_OWN_MOUNTS, sys.executable, "-m", "tests.workers.full_disk", str(tmp_path), what],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LONG_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit"] == 1, found["err"]
    assert found["summary"]["status"] == "failed"
    assert "failed" in found["reports"], "the worker said so itself"
    message = found["summary"]["error"]["message"]
    assert "No space left on device" in message
    assert str(tmp_path) in message
    assert named in message
    assert found["whole"]
    assert found["again"] == 0, found["model"]
    assert found["model"] == undisturbed
    assert found["rows"] == [*range(1, full_disk.STEPS + 1), full_disk.STEPS]
    assert found["left"] == []
