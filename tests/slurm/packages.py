"""The SLURM of the Debian packages: whether it is here, and having it installed."""

from __future__ import annotations

from tests.support import packages
from tests.support.packages import Unavailable as Unavailable
from tests.support.packages import program as program

SLURM = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core"}


def install(*, accounting: bool = False, sudo: bool = True) -> None:
    """Install what is missing. Starts no service: SLURM's own need a configuration that is not there.

    Args:
        accounting: also install what ``sacct`` needs.
        sudo: whether a user other than root may become root for it, if that needs no password.

    Raises:
        Unavailable: it cannot be done here.
    """
    wanted = SLURM | (ACCOUNTING if accounting else {})
    packages.install("SLURM", wanted, sudo=sudo, help=["`make slurm-up` installs it"])
