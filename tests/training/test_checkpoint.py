"""A checkpoint exists whole or not at all, whatever happens while it is written or deleted."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.training.checkpoint import CheckpointError, CheckpointStore
from sgp_core.training.peers import Peers
from sgp_core.training.saver import restore
from tests.support.waiting import wait_until
from tests.support.workers import _CONTEXT

WORLD = 2


def state_of(step: int, rank: int) -> dict[str, Any]:
    return {"step": step, "rank": rank, "x": torch.full((1000,), float(step * 10 + rank)), "note": ["a", 1.5, None]}


def save(store: CheckpointStore, step: int, score: float | None = None, world: int = WORLD) -> None:
    for rank in range(world):
        store.write_shard(step, rank, state_of(step, rank))
    store.commit(step, score)


def load_newest(store: CheckpointStore, world: int = WORLD) -> int | None:
    """Load every shard of every checkpoint, check that they belong together, and return the newest step."""
    manifests = store.manifests()
    for manifest in manifests:
        for rank in range(world):
            state = store.read_shard(manifest, rank)
            assert (state["step"], state["rank"]) == (manifest.step, rank)
            assert torch.equal(state["x"], state_of(state["step"], rank)["x"])
    return manifests[0].step if manifests else None


def test_what_is_saved_is_what_is_loaded_rank_by_rank(tmp_path):
    store = CheckpointStore(tmp_path, WORLD, "experiment")
    save(store, 7, score=0.5)
    assert load_newest(store) == 7
    names = sorted(path.name for path in store.step_folder(7).iterdir())
    assert names == ["manifest.json", "rank-0.pt", "rank-1.pt"]
    assert store.manifests()[0].score == 0.5


def test_without_every_ranks_shard_there_is_no_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path, WORLD, patience=0.05)
    store.write_shard(3, 0, state_of(3, 0))
    with pytest.raises(CheckpointError, match=r"misses rank-1"):
        store.commit(3)
    assert store.manifests() == []
    store.clean()
    assert not store.step_folder(3).exists()


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test may catch it."""


def die_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Raise :class:`Killed` instead of the file operation number ``moment`` and of all after it."""
    done = 0

    def mortal(operation: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if done >= moment:
                raise Killed
            done += 1
            return operation(*args, **kwargs)

        return wrapped

    for name in ("replace", "fsync", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, mortal(getattr(os, name)))
    real_open = builtins.open

    def mortal_open(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = real_open(path, mode, *args, **kwargs)
        if "w" not in mode:
            return file
        real_write = file.write

        class Torn:
            """Half of a write reaches the disk before death."""

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def __getattr__(self, attribute: str) -> Any:
                return getattr(file, attribute)

            def write(self, data: Any) -> int:
                nonlocal done
                if done > moment:
                    raise Killed
                if done == moment:
                    done += 1
                    real_write(data[: len(data) // 2])
                    raise Killed
                done += 1
                return real_write(data)

        return Torn()

    monkeypatch.setattr(builtins, "open", mortal_open)


def list_manifests_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whole folders be deleted in the order that would do most harm, whatever the file system's own is."""
    real_scandir = os.scandir

    def scandir(path: Any) -> Any:
        with real_scandir(path) as entries:
            return contextlib.nullcontext(iter(sorted(entries, key=lambda entry: entry.name, reverse=True)))

    monkeypatch.setattr(os, "scandir", scandir)


def test_death_at_any_moment_of_saving_and_pruning_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and of no use against the death of a process alone
    moment, outcomes = 0, []
    while True:
        store = CheckpointStore(tmp_path / str(moment), WORLD, patience=0.0)
        save(store, 10, 0.9)
        save(store, 20, 0.1)
        with pytest.MonkeyPatch.context() as mortality:
            die_at(mortality, moment)
            list_manifests_last(mortality)
            try:
                save(store, 30, 0.2)
                store.prune(keep_last=1, keep_best=False)
                died = False
            except (Killed, CheckpointError):  # torch.save puts its own error in place of Killed
                died = True
        outcomes.append(load_newest(store))
        store.clean()
        assert load_newest(store) == outcomes[-1]
        leftovers = [path for path in store.folder.rglob("*") if path.suffix == ".tmp"]
        assert not leftovers
        if not died:
            break
        moment += 1
        save(store, 30, 0.2)
        assert load_newest(store) == 30
    assert moment > 30
    assert set(outcomes) == {20, 30}
    assert outcomes == sorted(outcomes)


def keep_saving(folder: str) -> None:
    store = CheckpointStore(Path(folder), 1)
    for step in range(1, 100_000):
        save(store, step, world=1)
        store.prune(keep_last=2, keep_best=False)


def test_sigkill_while_saving_never_leaves_a_checkpoint_that_loads_wrongly(tmp_path):
    store = CheckpointStore(tmp_path, 1)
    newest = 0
    for attempt in range(5):
        process = _CONTEXT.Process(target=keep_saving, args=(str(tmp_path),))
        process.start()
        wait_until(lambda: load_quietly(store) not in (None, newest), "a checkpoint", works=process.is_alive)  # noqa: B023
        time.sleep(0.003 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        store.clean()
        newest = load_newest(store, world=1)
        assert newest
        for manifest in store.manifests():
            store.remove(manifest.step)
        newest = None


def load_quietly(store: CheckpointStore) -> int | None:
    manifests = store.manifests()
    return manifests[0].step if manifests else None


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_a_damaged_shard_is_noticed_and_the_checkpoint_before_is_used(tmp_path, damage):
    store = CheckpointStore(tmp_path, 1)
    save(store, 10, world=1)
    save(store, 20, world=1)
    shard = store.step_folder(20) / "rank-0.pt"
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif damage == "cut":
        shard.write_bytes(content[:-1])
    else:
        shard.unlink()
    with pytest.raises(CheckpointError):
        store.read_shard(store.manifests()[0], 0)
    state = restore(store, Peers(torch.device("cpu")))
    assert state is not None
    assert state["step"] == 10
    assert (store.folder / "damaged-step-20").exists()
    save(store, 20, world=1)
    assert load_newest(store, world=1) == 20


ALONE = Peers(torch.device("cpu"))


def spoil_shard(folder: Path) -> None:
    (folder / "rank-0.pt").write_bytes(b"junk")


def empty_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"step": 20, "wor')


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def rename_experiment(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"mine"', '"nine"'))


DAMAGES = [spoil_shard, empty_manifest, cut_manifest, lose_manifest, rename_experiment]


@pytest.mark.parametrize("damage", DAMAGES)
def test_if_no_checkpoint_is_whole_no_start_begins_afresh(tmp_path, damage):
    store = CheckpointStore(tmp_path, 1, "mine")
    for step in (10, 20):
        save(store, step, world=1)
        damage(store.step_folder(step))
    held = {path.name: path.read_bytes() for path in store.step_folder(10).iterdir()}
    for _ in range(3):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole; remove that folder to start afresh"):
            restore(store, ALONE)
    assert {path.name: path.read_bytes() for path in (store.folder / "damaged-step-10").iterdir()} == held


@pytest.mark.parametrize("damage", DAMAGES)
def test_going_back_to_the_checkpoint_before_is_said(tmp_path, damage, caplog):
    store = CheckpointStore(tmp_path, 1, "mine")
    for step in (9, 10):
        save(store, step, world=1)
    damage(store.step_folder(10))
    state = restore(store, ALONE)
    assert state is not None
    assert state["step"] == 9
    first, last = caplog.messages
    assert first.startswith("checkpoint step-10 is damaged and now called damaged-step-10: ")
    assert last == "training goes on from step 9, the newest checkpoint that is whole"
    caplog.clear()
    save(store, 10, world=1)
    assert restore(store, ALONE)["step"] == 10


def test_a_flip_in_a_manifest_is_damage_and_not_another_experiment(tmp_path):
    store = CheckpointStore(tmp_path, 1, "mine")
    save(store, 10, 0.5, world=1)
    path = store.step_folder(10) / "manifest.json"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        for manifest in store.manifests():  # a blank may be another blank
            store.check(manifest)
            assert (manifest.step, manifest.score) == (10, 0.5)


def test_manifests_of_versions_that_did_not_seal_them_are_read(tmp_path):
    store = CheckpointStore(tmp_path, 1, "mine")
    save(store, 10, 0.5, world=1)
    path = store.step_folder(10) / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "checksum"}))
    assert restore(store, ALONE) is not None


@pytest.mark.parametrize("left", ["rank-0.done", ".rank-0.pt.77.tmp", "unfinished"])
def test_what_interrupted_saving_leaves_is_no_damage(tmp_path, left):
    store = CheckpointStore(tmp_path, 1)
    save(store, 10, world=1)
    (store.step_folder(10) / "manifest.json").unlink()
    (store.step_folder(10) / left).touch()
    assert restore(store, ALONE) is None
    assert list(store.folder.iterdir()) == []


def test_another_world_size_or_experiment_is_refused_in_a_sentence(tmp_path):
    save(CheckpointStore(tmp_path, 2, "a"), 10)
    peers = Peers(torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="saved by 2 workers, not 1: use 2 workers or another folder"):
        restore(CheckpointStore(tmp_path, 1, "a"), peers)
    with pytest.raises(ConfigurationError, match="belong to another experiment"):
        restore(CheckpointStore(tmp_path, 2, "b"), peers)


def test_the_newest_and_the_best_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, 1)
    for step, score in [(1, 0.3), (2, 0.9), (3, None), (4, 0.9), (5, 0.5), (6, None)]:
        save(store, step, score, world=1)
        store.prune(keep_last=2, keep_best=True)
    assert [manifest.step for manifest in store.manifests()] == [6, 5, 2]
    store.prune(keep_last=1, keep_best=False)
    assert [path.name for path in store.folder.iterdir()] == ["step-6"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, 1)
    real_open = builtins.open

    def full(path: Any, *args: Any, **kwargs: Any) -> Any:
        return real_open("/dev/full" if str(path).endswith(".tmp") and ".pt." in str(path) else path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", full)
    big = {"x": torch.zeros(1_000_000)}
    with pytest.raises(CheckpointError, match=r"rank-0\.pt.*No space left on device"):
        store.write_shard(1, 0, big)


def test_a_manifest_lists_sizes_and_checksums(tmp_path):
    store = CheckpointStore(tmp_path, WORLD, "experiment")
    save(store, 4, 0.25)
    manifest = json.loads((store.step_folder(4) / "manifest.json").read_text())
    assert manifest.keys() == {"schema_version", "step", "world_size", "experiment", "score", "shards", "checksum"}
    assert [shard["bytes"] for shard in manifest["shards"]] == [
        (store.step_folder(4) / f"rank-{rank}.pt").stat().st_size for rank in range(WORLD)
    ]
    assert all(len(shard["sha256"]) == 64 for shard in manifest["shards"])


def test_a_checkpoint_is_not_written_to_another_folder_in_the_place_of_the_runs(tmp_path):
    store = CheckpointStore(tmp_path / "run", 1)
    save(store, 1, world=1)
    (tmp_path / "run").rename(tmp_path / "moved")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"cannot write .*: the folder was removed, renamed or replaced"):
            store.write_shard(2, 0, state_of(2, 0))
        (tmp_path / "run").mkdir(exist_ok=True)
    assert list((tmp_path / "run").iterdir()) == []
