"""The tests' own SLURM: raised once a session, in a folder of its own, empty of jobs after every test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.system.processes import this_process
from tests.slurm.cluster import is_foreign
from tests.slurm.lab import Lab
from tests.support.packages import SLURM, Unavailable, give_up, require


@pytest.fixture(scope="session")
def cluster() -> Iterator[Lab]:
    """Four nodes. Without SLURM on this machine, tests that ask for them are skipped, or fail in CI."""
    require(SLURM)
    folder = Path(tempfile.mkdtemp(prefix="sgp-slurm-", dir="/tmp"))  # a short path: there are sockets in it
    lab = Lab(folder)
    try:
        lab.up(watch=this_process())
        yield lab
    except Unavailable as reason:
        give_up(str(reason))
    finally:
        lab.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(cluster: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The cluster, whole and without jobs; commands that the test runs find it, and no other."""
    for name in filter(is_foreign, list(os.environ)):
        monkeypatch.delenv(name)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.clear()
    cluster.repair()
