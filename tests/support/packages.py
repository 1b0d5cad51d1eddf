"""Debian packages that some tests need, and what those tests do on a machine without them.

``tests.support.install`` installs them, once and before the tests start. The tests themselves install nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where daemons lie. Users other than root often lack these folders on PATH."""
_COMPLETE = ("CI", "SGP_REQUIRE_SLURM")
"""Where one of these variables is set, a missing package is a failure and no reason to skip tests."""


class Unavailable(Exception):
    """This machine cannot have the programs; the message says why."""


@dataclass(frozen=True)
class Requirement:
    """Programs that some tests need."""

    name: str
    """What the programs are, as messages say it."""
    packages: Mapping[str, tuple[str, ...]]
    """Debian packages, each with programs: one of them on this machine shows that the package is not needed."""
    tests: str
    """Which tests are skipped without it."""

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [package for package, programs in self.packages.items() if not any(map(program, programs))]


SLURM = Requirement(
    "SLURM",
    {"slurmctld": ("slurmctld",), "slurmd": ("slurmd",), "slurm-client": ("sbatch",), "munge": ("munged",)},
    "tests/slurm",
)
ACCOUNTING = Requirement(
    "SLURM's accounting",
    {"slurmdbd": ("slurmdbd",), "mariadb-server-core": ("mariadbd",), "mariadb-client-core": ("mariadb",)},
    "no tests",
)
BROWSER = Requirement(
    "a browser",
    {"chromium": ("chromium", "chromium-browser", "google-chrome", "chrome")},
    "the tests of pages in tests/report",
)
SLOW_NETWORK = Requirement(
    "a shaped network",
    {"iproute2": ("tc",), "g++": ("c++",)},
    "tests/benchmarks/test_slow_network.py",
)
GIT = Requirement("git", {"git": ("git",)}, "the tests of commits in tests/execution/test_provenance.py")

REQUIREMENTS = (SLURM, BROWSER, SLOW_NETWORK, GIT)
"""What a complete run of the tests needs."""


def program(name: str) -> str | None:
    """Return the path of a program, None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)


def must_be_complete() -> bool:
    """Return whether tests must fail, instead of being skipped, where something is missing."""
    return any(os.environ.get(name) for name in _COMPLETE)


def require(requirement: Requirement) -> None:
    """Skip the test that calls this, or fail it where all must run, unless the programs are installed."""
    if missing := requirement.missing():
        give_up(f"{requirement.name} is not installed ({' '.join(missing)}); `make test` installs it")


def give_up(reason: str) -> None:
    """Skip the test that calls this, or fail it where all must run."""
    if must_be_complete():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
