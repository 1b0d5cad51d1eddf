"""A script that ends right after it has asked all workers something ends well, whether it closes its group or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import PATIENCE_S

SCRIPT = """
import sys
import torch
import torch.distributed as dist
import sgp_core

rank, store = int(sys.argv[1]), dist.FileStore(sys.argv[2], 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
topology = sgp_core.build_topology("one_peer_exponential", world_size=2)
gossip = sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"), topology=topology)
sys.setswitchinterval(0.03)  # gloo's threads, which drop what they averaged, hardly get the lock until the script ends
with gossip.averaged():
    pass
"""


def test_a_script_may_end_while_the_threads_of_gloo_still_hold_what_they_averaged(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / "store")] for rank in range(2)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    ended = [(*worker.communicate(timeout=PATIENCE_S), worker.returncode) for worker in workers]
    assert [code for _, _, code in ended] == [0] * len(workers), ended
