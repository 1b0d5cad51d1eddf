"""The SLURM of the Debian packages: whether it is here, and having it installed."""

from __future__ import annotations

import os
import shutil
import subprocess

SLURM = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core"}
_ALSO_IN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where daemons lie, which is not on everybody's path."""


class Unavailable(Exception):
    """This machine cannot have SLURM; the message says why."""


def program(name: str) -> str | None:
    """Return the path of a program, None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_ALSO_IN)


def missing(*, accounting: bool = False) -> list[str]:
    """Return the packages that have to be installed."""
    wanted = SLURM | (ACCOUNTING if accounting else {})
    return sorted({package for name, package in wanted.items() if program(name) is None})


def install(*, accounting: bool = False, sudo: bool = True) -> None:
    """Install what is missing. Starts no service: SLURM's own need a configuration that is not there.

    Args:
        accounting: also install what ``sacct`` needs.
        sudo: whether a user other than root may become root for it, if that needs no password.

    Raises:
        Unavailable: it cannot be done here.
    """
    packages = missing(accounting=accounting)
    if not packages:
        return
    needed = f"SLURM is not installed ({' '.join(packages)})"
    if program("apt-get") is None:
        raise Unavailable(f"{needed}, and this is neither Debian nor Ubuntu")
    as_root: list[str] = []
    if os.geteuid() != 0:
        if not sudo:
            raise Unavailable(f"{needed}; `make slurm-up` installs it")
        as_root = ["sudo", "-n"]
        if program("sudo") is None or subprocess.run([*as_root, "true"], capture_output=True, check=False).returncode:
            raise Unavailable(f"{needed}, and it takes root, or sudo without a password, to install it")
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run([*as_root, *quiet, *command], capture_output=True, text=True, check=False)
    if done.returncode or missing(accounting=accounting):
        raise Unavailable(f"{needed}, and apt-get failed: {done.stderr.strip()[-500:]}")
