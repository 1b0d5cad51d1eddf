"""The configuration of the test cluster: several nodes on one machine, all files in one private folder."""

from __future__ import annotations

import getpass
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of the test cluster that a test may change."""

    nodes: int = 4
    cpus: int = 8
    """Of each node; more than the machine has, since the tests' work is light."""
    kill_wait_s: int = 10
    """From SIGTERM to SIGKILL when a job is cancelled, is requeued or reaches its limit. SLURM's default is 30."""
    grace_s: int = 20
    """From the signal to SIGTERM when a job has to make room for one of partition ``urgent``."""
    node_timeout_s: int = 300
    """How long a node may be silent before SLURM declares it down. It is SLURM's default."""
    accounting: bool = False
    """Run slurmdbd and mariadb, so that ``sacct`` answers."""


def node_names(count: int) -> list[str]:
    """Return the names of nodes: addresses, because workers connect to each other by the name of a node."""
    return [f"127.0.0.{number}" for number in range(1, count + 1)]


def free_ports(count: int) -> int:
    """Return the first of ``count`` free ports in a row, below those that systems and submitit choose at random."""
    for _ in range(200):
        first = random.SystemRandom().randrange(10_000, 20_000 - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError("no free ports between 10000 and 20000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def slurm_conf(folder: Path, settings: Settings, port: int) -> str:
    """Return ``slurm.conf``; ``port`` and the ``nodes + 1`` after it are used."""
    user = getpass.getuser()
    accounting = "slurmdbd" if settings.accounting else "none"
    return f"""\
ClusterName=lab
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
# The cluster has a key of its own and listens on this machine only: reaching its ports is not enough to run a job.
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credentials have expired; 5 s is the least.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/state/slurmctld.pid
SlurmdPidFile={folder}/state/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
# What works without cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
# Nodes are declared larger than the machine.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Look at once at what waits.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
# A job that has to make room gets the signal that it asked for.
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait={settings.kill_wait_s}
OverTimeLimit=0
SlurmdTimeout={settings.node_timeout_s}
ReturnToService=2
# Ended jobs can be asked about, and no number is used twice, even by a later cluster.
MinJobAge=86400
FirstJobId={int(time.time()) % 60_000_000 + 1}
AccountingStorageType=accounting_storage/{accounting}
AccountingStorageHost=localhost
AccountingStoragePort={port + 1}
AccountingStoragePass={folder}/munge.sock
NodeName=127.0.0.[1-{settings.nodes}] NodeHostname=localhost Port=[{port + 2}-{port + 1 + settings.nodes}] \
CPUs={settings.cpus} RealMemory=512000 State=UNKNOWN
PartitionName=main Default=YES Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE \
GraceTime={settings.grace_s}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


def slurmdbd_conf(folder: Path, port: int) -> str:
    """Return ``slurmdbd.conf``. The database is reached by a socket in the folder, as this user.

    slurmdbd cannot be restricted to this machine, but it answers only clients that have the key.
    """
    user = getpass.getuser()
    return f"""\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdPort={port + 1}
SlurmUser={user}
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/state/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm_acct_db
"""
