"""Saving happens beside training, from a copy, one write at a time; failures come back."""

from __future__ import annotations

import threading

import pytest
import torch

from sgp_core.training.checkpoint import CheckpointError, CheckpointStore
from sgp_core.training.config import CheckpointConfig
from sgp_core.training.saver import CheckpointSaver, snapshot


class Gate(CheckpointStore):
    """A store whose writes wait until the gate is opened."""

    def __init__(self, directory, world_size=1):
        super().__init__(directory, world_size)
        self.open = threading.Event()
        self.entered = threading.Event()

    def write_shard(self, step, rank, state):
        self.entered.set()
        assert self.open.wait(20)
        super().write_shard(step, rank, state)


def test_training_goes_on_while_a_copy_is_written(tmp_path):
    store = Gate(tmp_path)
    saver = CheckpointSaver(store, 0, CheckpointConfig())
    parameter = torch.ones(4)
    saver.save(1, {"x": parameter})
    assert store.entered.wait(20)
    parameter.mul_(5)
    assert store.manifests() == []
    store.open.set()
    saver.wait()
    assert torch.equal(store.read_shard(store.manifests()[0], 0)["x"], torch.ones(4))


def test_synchronous_saving_returns_with_the_checkpoint_on_disk(tmp_path):
    store = CheckpointStore(tmp_path, 1)
    saver = CheckpointSaver(store, 0, CheckpointConfig(asynchronous=False))
    saver.save(1, {"x": torch.ones(4)})
    assert [manifest.step for manifest in store.manifests()] == [1]


def test_writes_never_overlap(tmp_path):
    store = Gate(tmp_path)
    saver = CheckpointSaver(store, 0, CheckpointConfig(keep_last=5))
    saver.save(1, {})
    assert store.entered.wait(20)
    order = []

    def second() -> None:
        saver.save(2, {})
        order.append([manifest.step for manifest in store.manifests()])

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.05)
    assert order == []
    store.open.set()
    thread.join(20)
    saver.wait()
    assert order[0][-1] == 1
    assert [manifest.step for manifest in store.manifests()] == [2, 1]


@pytest.mark.parametrize("notice", ["check", "wait", "save"])
def test_a_failed_write_raises_once_in_the_training_thread(tmp_path, notice):
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    saver = CheckpointSaver(CheckpointStore(tmp_path, 1), 0, CheckpointConfig())
    saver.save(1, {})
    while threading.active_count() > 1 and any(t.name == "checkpoint-1" for t in threading.enumerate()):
        pass
    with pytest.raises(CheckpointError, match="cannot write checkpoint"):
        saver.save(2, {}) if notice == "save" else getattr(saver, notice)()
    saver.check()


def test_only_rank_0_completes_a_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path, 2)
    savers = [CheckpointSaver(store, rank, CheckpointConfig()) for rank in range(2)]
    savers[1].save(3, {"rank": 1})
    savers[1].wait()
    assert store.manifests() == []
    savers[0].save(3, {"rank": 0}, score=0.5)
    savers[0].wait()
    assert [store.read_shard(store.manifests()[0], rank)["rank"] for rank in range(2)] == [0, 1]


def test_a_snapshot_shares_no_memory_and_keeps_no_storage_around_views():
    storage = torch.arange(1000.0)
    state = {"view": storage[:3], "nested": [storage[3:5], (1, "x", None)]}
    copy = snapshot(state)
    storage.zero_()
    assert copy["view"].tolist() == [0, 1, 2]
    assert copy["nested"][0].tolist() == [3, 4]
    assert copy["nested"][1] == (1, "x", None)
    assert copy["view"].untyped_storage().nbytes() == 12
