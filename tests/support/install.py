"""Installs the Debian packages that tests need: ``python -m tests.support.install``.

It runs before pytest starts its workers, because two workers that call apt-get at once fail on its lock. It takes
root, or sudo without a password; where that is missing it says which tests will be skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.support.packages import REQUIREMENTS, Requirement, Unavailable, must_be_complete, program

_LOCK_TIMEOUT_S = 300
"""How long to wait for another apt-get or for an unattended upgrade."""


def main() -> int:
    """Install what is missing and return the exit status: 1 if all tests must run here and some cannot."""
    incomplete = False
    for requirement in REQUIREMENTS:
        try:
            install(requirement)
        except Unavailable as reason:
            incomplete = True
            consequence = "which must not be skipped here" if must_be_complete() else "which will be skipped"
            print(f"{reason}. It is needed by {requirement.tests}, {consequence}.", file=sys.stderr)
    return int(incomplete and must_be_complete())


def install(requirement: Requirement) -> None:
    """Install the packages of a requirement, unless its programs are there.

    Raises:
        Unavailable: they cannot be installed here.
    """
    packages = requirement.missing()
    if not packages:
        return
    lack = f"{requirement.name} is not installed ({' '.join(packages)})"
    if program("apt-get") is None:
        raise Unavailable(f"{lack}, and this is neither Debian nor Ubuntu")
    as_root: list[str] = []
    if os.geteuid() != 0:
        as_root = ["sudo", "-n"]
        if program("sudo") is None or subprocess.run([*as_root, "true"], capture_output=True, check=False).returncode:
            raise Unavailable(f"{lack}, and installing it takes root, or sudo without a password")
    print(f"Installing {requirement.name} ({' '.join(packages)}) with apt-get", flush=True)
    # An old package list names releases that are gone. If it cannot be renewed, it may still do.
    _apt_get(as_root, ["update"])
    failure = _apt_get(as_root, ["install", "-y", "--no-install-recommends", *packages])
    if failure or requirement.missing():
        raise Unavailable(f"{lack}, and apt-get failed: {failure[-500:]}")


def _apt_get(as_root: Sequence[str], words: Sequence[str]) -> str:
    """Run apt-get and return what it complained about, nothing if it succeeded."""
    command = [*as_root, "env", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    end = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        done = subprocess.run(
            [*command, "-o", f"DPkg::Lock::Timeout={_LOCK_TIMEOUT_S}", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        # The option covers the lock of dpkg, and not those of package lists and downloads.
        if done.returncode == 0 or "Could not get lock" not in done.stderr or time.monotonic() > end:
            return done.stderr.strip() if done.returncode else ""
        time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())
