"""Running ``sgp-train``: inside the test process for speed, as a process of its own where that is the point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf, open_dict

from launcher.cli.train import main
from launcher.config.compose import Point
from launcher.config.schema import CONFIG_MODULE
from tests.support.launched import Said


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an empty place for temporary files beside it."""
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return work


@pytest.fixture
def sgp_train(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Call ``sgp-train`` in this process, in an empty directory."""

    def call(*arguments: str) -> Said:
        code = main(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def composed(*overrides: str) -> Point:
    """Return the point of a run, composed by Hydra without its command line, which takes a third of the time."""
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        settings = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = {str(group): str(choice) for group, choice in settings.hydra.runtime.choices.items()}
    with open_dict(settings):
        del settings["hydra"]
    plain = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(plain, dict)
    return Point({str(key): value for key, value in plain.items()}, choices, list(overrides))
