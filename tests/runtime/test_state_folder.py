"""A folder of states holds a whole save at any instant: the former one or the new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.checkpoint_files import CheckpointError
from sgp_core.runtime.state_folder import StateFolder


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test may catch it."""


def die_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Raise :class:`Killed` in place of the file operation number ``moment``, and of all after it."""
    done = 0
    for name in ("replace", "fsync", "mkdir", "unlink"):
        operation = getattr(os, name)

        def mortal(*args: Any, operation: Any = operation, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done > moment:
                raise Killed
            return operation(*args, **kwargs)

        monkeypatch.setattr(os, name, mortal)


def save(path: Path, step: int) -> None:
    StateFolder(path, None).write({"step": step, "x": torch.full((100,), float(step))}, {"step": step})


def load(path: Path) -> int:
    folder = StateFolder(path, None)
    manifest = folder.manifest()
    state = folder.read(manifest, 0)
    assert state["step"] == manifest["step"]
    assert torch.equal(state["x"], torch.full((100,), float(state["step"])))
    return int(state["step"])


def test_whenever_a_process_is_killed_there_is_a_whole_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for moment in range(20):
        path = tmp_path / str(moment)
        save(path, 1)
        with monkeypatch.context() as mortality:
            die_at(mortality, moment)
            try:
                save(path, 2)
                survived = True
            except Killed:
                survived = False
        found.append(load(path))
        save(path, 3)  # and takes leftovers along
        assert load(path) == 3
        assert len(list(path.iterdir())) == 2
        if survived:
            break
    assert found == sorted(found), "once the new save is there, it stays"
    assert {1, 2} == set(found)
    assert survived


def test_without_a_manifest_there_is_no_save(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds nothing that gossip\.save\(\) has completed"):
        load(tmp_path)
    save(tmp_path, 1)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        load(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot save to .*model\.pt: rank 0: it is a file, not a folder"):
        save(tmp_path / "model.pt", 1)
