"""``sgp calibrate``: two workers measure, and a plan and the virtual clock read what they found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sgp_core.clock import ComputationModel, NetworkModel
from tests.docs.pages import ROOT, commands
from tests.support.sgp_command import Said


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_page_s_commands(sgp: Callable[..., Said]) -> None:
    """The figures are those of a busy machine, so only that they are there is tested."""
    lines = commands(ROOT / "docs" / "plan.md")
    measure = next(line for line in lines if line.startswith("sgp calibrate"))
    data = sgp(*measure.split()[1:], "--seconds", "4", "--json").json
    measured = data["measured"]
    assert (measured["workers"], measured["workers_per_host"]) == (2, 2)
    assert {"inside", "all_reduce", "update"} == set(measured["exchanges"])
    assert all(seconds > 0 for timings in measured["exchanges"].values() for _, seconds in timings)
    assert data["computation"]["step_ms"] > 0
    network, computation = (
        NetworkModel.from_options(data["network"]),
        ComputationModel.from_options(data["computation"]),
    )
    assert network.workers_per_host == 0
    assert computation.seconds(0, 2, 0).shape == (2,)
    assert list(Path("runs").iterdir()) == [], "nothing stays but the file"
    plan = next(line for line in lines if line.startswith("sgp plan default model=cnn cluster.workers_per_node=2"))
    said = sgp(*plan.split()[1:])
    assert (said.code, said.err) == (0, "")
    assert "network calibration.json\ncomputation of calibration.json" in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1,2"], "seed"),
        (["cluster.elastic=true"], "elastic"),
        (["cluster=simulator"], "virtual workers have no network"),
        (["--out", "nowhere/file.json"], "there is no folder"),
    ],
)
def test_mistakes_start_nothing(words: list[str], message: str, sgp: Callable[..., Said]) -> None:
    said = sgp("calibrate", *words)
    assert said.code == 2
    assert message in said.err
    assert not Path("calibration.json").exists()
