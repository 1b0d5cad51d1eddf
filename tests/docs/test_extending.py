"""The Python of docs/extending.md is one plug-in, and every part of it trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cli.train import main
from sgp_core.plugins import load_plugins, loaded_plugins, registrations_of, unload_plugin
from tests.docs.pages import ROOT, session
from tests.support.launched import read

KINDS = {"model", "dataset", "algorithm", "outer", "topology", "optimizer", "schedule", "partition", "compression"}
KINDS |= {"pace", "loss", "metric", "callback", "task", "network", "computation"}
QUICK = ["tracker=none", "training.max_steps=4", "log_every=2", "cluster=inline"]


@pytest.fixture
def parts(at_place: Path) -> Iterator[dict[str, list[str]]]:
    """Write the page's plug-in, and return the names it registers by kind, in the page's order."""
    (at_place / "parts.py").write_text(session(ROOT / "docs" / "extending.md"))
    plugins = load_plugins(["./parts.py"])
    found: dict[str, list[str]] = {}
    for part in registrations_of(plugins):
        found.setdefault(part.registry.kind, []).append(part.name)
    for plugin in plugins:
        unload_plugin(plugin)
    yield found
    for plugin in loaded_plugins():
        unload_plugin(plugin)


def test_there_is_a_part_of_every_kind_and_each_trains(
    parts: dict[str, list[str]], at_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.keys() == KINDS
    lists = {"metric": "evaluation.metrics=[{}]", "callback": "callbacks=[{}]"}
    every = [lists.get(kind, f"{kind}={{}}").format(names[0]) for kind, names in parts.items() if kind != "task"]
    together = [word for word in every if not word.startswith(("compression=", "pace="))]
    for number, words in enumerate([together, ["compression=half"], ["pace=doubling"]]):
        assert main(["plugins=./parts.py", *words, *QUICK, f"runs_dir=own-{number}"]) == 0, capsys.readouterr().err
    [summary] = (at_place / "own-0").glob("*/summary.json")
    assert read(summary)["final"]["confidence"] > 0


def test_what_parts_build_on_is_marked_as_stable(at_place: Path) -> None:
    (at_place / "parts.py").write_text(session(ROOT / "docs" / "extending.md"))
    plugins = load_plugins(["./parts.py"])
    for part in registrations_of(plugins):
        bases = part.registry.get(part.name).__mro__[1:]
        assert any("Stable extension point" in (base.__doc__ or "") for base in bases), part.name
    for plugin in plugins:
        unload_plugin(plugin)


def test_a_task_of_ones_own_is_scored_by_its_own_score(
    parts: dict[str, list[str]], at_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plugins=[parts.py]", "dataset=visits", "model=log_linear", "optimizer.lr=0.01", *QUICK]
    assert main([*words, "runs_dir=own-task"]) == 0, capsys.readouterr().err
    assert "mean absolute error" in capsys.readouterr().out
    [run] = (at_place / "own-task").glob("[0-9a-f]*")
    assert read(run / "summary.json")["final"]["mae"] > 0
    assert read(run / "spec.json")["metrics"]["score"] == "mae"
