"""A script may end right after its last step, or after it has asked all workers something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

SCRIPT = """
import fcntl
import os
import sys
import torch
import torch.distributed as dist
import sgp_core

OPTIONS = eval(sys.argv[3])
rank, store = int(sys.argv[1]), dist.FileStore(sys.argv[2], 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
gossip = sgp_core.Gossip(model, optimizer, topology=topology, transport="p2p", **OPTIONS)
"""
ASKS = """
sys.setswitchinterval(0.03)  # gloo's threads, which drop what they averaged, hardly get the lock until the script ends
with gossip.averaged():
    pass
"""
SENDS = """
alive = open(sys.argv[2] + ".lock", "w")
if rank == 1:
    fcntl.flock(alive, fcntl.LOCK_EX)
dist.barrier()
for step in range(3):
    if rank == 0 and step == 2:
        fcntl.flock(alive, fcntl.LOCK_EX)  # once the other has ended
    optimizer.zero_grad()
    model(torch.ones(1, 300)).sum().backward()
    optimizer.step()
assert gossip.step == 3
os._exit(0)
"""


def run(script: str, options: dict[str, str], folder: Path) -> list[tuple[bytes, bytes, int]]:
    arguments = [str(folder / "store"), repr(options)]
    commands = [[sys.executable, "-c", script, str(rank), *arguments] for rank in range(2)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    return [(*worker.communicate(timeout=PATIENCE_S), worker.returncode) for worker in workers]


def test_a_script_may_end_while_the_threads_of_gloo_still_hold_what_they_averaged(tmp_path: Path) -> None:
    ended = run(SCRIPT + ASKS, {"algorithm": "sgp"}, tmp_path)
    assert [code for _, _, code in ended] == [0, 0], ended


@pytest.mark.parametrize("codec", [{}, {"compression": "int8"}], ids=["plain", "int8"])
def test_no_worker_misses_one_that_has_ended_after_its_last_step(tmp_path: Path, codec: dict[str, str]) -> None:
    ended = run(SCRIPT + SENDS, {"algorithm": "osgp", **codec}, tmp_path)
    assert [code for _, _, code in ended] == [0, 0], ended
