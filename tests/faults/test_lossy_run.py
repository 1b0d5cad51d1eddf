"""``faults=[drop p=...]`` reaches the links of a run's workers."""

from __future__ import annotations

from pathlib import Path

from sgp_core.training.checkpoint import CheckpointStore
from tests.support.launched import Launched


def test_messages_of_a_run_are_lost_where_its_faults_say_so(tmp_path: Path) -> None:
    """Without shares that are sent again, so that weights are missing at the end."""
    words = ["algorithm=asgp", "algorithm.retransmit=false", "faults=[drop p=0.5, delay p=0.5 steps=3]"]
    words += ["cluster.workers_per_node=2", "training.max_steps=20", "tracker=none"]
    said = Launched(tmp_path, tuple(words)).start().finish()
    assert said.code == 0, said.err
    [run] = (path.parent for path in tmp_path.glob("runs/*/spec.json"))
    store = CheckpointStore(run, 2)
    [manifest, *_] = store.manifests()
    weights = [store.read_shard(manifest, rank)["gossip"]["push_sum_weight"] for rank in range(2)]
    assert sum(weights) < 1.9
