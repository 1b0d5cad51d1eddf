"""The account of PushSum weights of elastic workers: what survivors hold is what they began with, less what died."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """What one worker process says of its weight."""

    rank: int
    life: int
    """1 for the first process of a rank, 2 for its replacement, ..."""
    step: int
    began: float
    weight: float
    peers: dict[tuple[int, int], tuple[float, float]]
    """By rank and life: the weights given to it, and taken from it."""


def read_accounts(folder: Path) -> list[Account]:
    """Return the account of every process that wrote one."""
    found = []
    for path in sorted(folder.glob("ledger-*.json")):
        told = json.loads(path.read_text())
        rank, life = told["member"]
        peers = {(peer, life): (given, taken) for peer, life, given, taken in told["peers"]}
        found.append(Account(rank, life, told["step"], told["began"], told["weight"], peers))
    return found


def mass_defect(accounts: list[Account]) -> float | None:
    """Return by how much the accounts of the last step's members do not come out; None without accounts.

    The largest of: what all of them hold, against what they began with and what processes that are gone have given
    and were given; the same for each by itself; what one says to have given, and the other to have taken.
    """
    last = max((account.step for account in accounts), default=None)
    living = {(account.rank, account.life): account for account in accounts if account.step == last}
    if not living:
        return None
    gone = [
        taken - given
        for account in living.values()
        for peer, (given, taken) in account.peers.items()
        if peer not in living
    ]
    defects = [abs(sum(a.weight for a in living.values()) - sum(a.began for a in living.values()) - sum(gone))]
    for me, account in living.items():
        net = sum(taken - given for given, taken in account.peers.values())
        defects.append(abs(account.weight - account.began - net))
        for peer, (given, _) in account.peers.items():
            if peer in living:
                defects.append(abs(given - living[peer].peers.get(me, (0.0, 0.0))[1]))
    return max(defects)
