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
from tests.slurm.packages import Unavailable, install


@pytest.fixture(scope="session")
def cluster() -> Iterator[Lab]:
    """Four nodes. Where this machine cannot have SLURM, the test says why it is left out; for CI that is a failure."""
    required = bool(os.environ.get("CI") or os.environ.get("SGP_REQUIRE_SLURM"))
    folder = Path(tempfile.mkdtemp(prefix="sgp-slurm-", dir="/tmp"))  # a short path: there are sockets in it
    lab = Lab(folder)
    try:
        install(sudo=required)
        lab.up(watch=this_process())
        yield lab
    except Unavailable as reason:
        if required:
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
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
