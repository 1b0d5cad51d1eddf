"""A reader's directory: images of their own, settings of their own, and one run that is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from launcher.cli.train import main
from sgp_core.registry import record_registrations
from tests.docs.pages import PAGES, settings_files
from tests.support.parallel import write_text


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``photos/``, ``text/`` and every YAML file that a page tells its reader to write."""
    place = tmp_path_factory.mktemp("reader")
    for label, colour in (("cats", (200, 100, 50)), ("dogs", (50, 100, 200))):
        folder = place / "photos" / label
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (40, 40), tuple(value + number for value in colour)).save(folder / f"{number}.png")
    (place / "text").mkdir()
    write_text(place / "text", train=40, val=4)
    for page in PAGES:
        for name, content in settings_files(page).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(content)
    return place


@pytest.fixture(autouse=True)
def at_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tests run there, without an account, and leave this process as it was."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with record_registrations() as registrations:
        yield place
    torch.set_num_threads(threads)
    for part in registrations:
        part.registry.remove(part.name)


@pytest.fixture(scope="session")
def finished(place: Path) -> list[str]:
    """Run the command that the quickstart calls a check of everything: real worker processes. Return its words."""
    words = ["experiment=smoke"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("WANDB_MODE", "offline")
        assert main(words) == 0
    return words


@pytest.fixture(scope="session")
def swept(place: Path) -> str:
    """Run a small sweep and return its id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["-m", "seed=1,2", "algorithm=sgp,dpsgd", "cluster=inline", "tracker=none", "training.max_steps=3"]
        assert main([*words, "runs_dir=swept"]) == 0
        [sweep] = (place / "swept" / "sweeps").iterdir()
        shutil.copytree(place / "swept", place / "runs", dirs_exist_ok=True)
    return sweep.name
