"""Debian packages that some tests need: whether their programs are here, and having them installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping

_ALSO_IN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where daemons lie, which is not on everybody's path."""


class Unavailable(Exception):
    """This machine cannot have it; the message says why."""


def program(name: str) -> str | None:
    """Return the path of a program, None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_ALSO_IN)


def missing(wanted: Mapping[str, str]) -> list[str]:
    """Return the packages that have to be installed for the programs ``wanted``, which come with the package named."""
    return sorted({package for name, package in wanted.items() if program(name) is None})


def install(what: str, wanted: Mapping[str, str], *, sudo: bool, help: Iterable[str] = ()) -> None:
    """Install what is missing.

    Args:
        what: what it is for, as the reason says it.
        wanted: programs, and the package each comes with.
        sudo: whether a user other than root may become root for it, if that needs no password.
        help: what a user who may not is told.

    Raises:
        Unavailable: it cannot be done here.
    """
    packages = missing(wanted)
    if not packages:
        return
    needed = f"{what} is not installed ({' '.join(packages)})"
    if program("apt-get") is None:
        raise Unavailable(f"{needed}, and this is neither Debian nor Ubuntu")
    as_root: list[str] = []
    if os.geteuid() != 0:
        if not sudo:
            raise Unavailable("; ".join([needed, *help]))
        as_root = ["sudo", "-n"]
        if program("sudo") is None or subprocess.run([*as_root, "true"], capture_output=True, check=False).returncode:
            raise Unavailable(f"{needed}, and it takes root, or sudo without a password, to install it")
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run([*as_root, *quiet, *command], capture_output=True, text=True, check=False)
    if done.returncode or missing(wanted):
        raise Unavailable(f"{needed}, and apt-get failed: {done.stderr.strip()[-500:]}")
