"""docs/topologies.md: its tables are what the script computes, its pictures exist, its snippets run."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from sgp_core.topology import TOPOLOGIES, build_topology

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "topologies.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_topologies", DOCS / "make_topologies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_what_the_script_computes(script: ModuleType) -> None:
    assert script.page_with_tables(PAGE) == PAGE
    assert PAGE.count("| [`ring`](#ring) |") == 2


def test_every_topology_has_a_section_and_a_small_picture() -> None:
    for name in TOPOLOGIES.names():
        assert f"\n### {name}\n\n![{name}](images/topologies/{name}.svg)\n" in PAGE
        assert (DOCS / "images" / "topologies" / f"{name}.svg").stat().st_size < 100_000


def test_pictures_are_drawn(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "IMAGES", tmp_path)
    script.draw("base_k")
    assert [path.name for path in tmp_path.iterdir()] == ["base_k.svg"]
    assert (tmp_path / "base_k.svg").read_text().count("step ") == 4


def test_links_inside_the_page_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"\n#+ (.*)", PAGE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= headings


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
def test_snippets_run(snippet: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(snippet)
    runpy.run_path(str(tmp_path / "snippet.py"), run_name="snippet")


def test_first_snippet_says_what_is_true() -> None:
    topology = build_topology("one_peer_exponential", world_size=8)
    assert topology.out_peers(0, step=2) == (4,)
    assert topology.period == 3
    assert topology.is_doubly_stochastic


@pytest.mark.parametrize("line", re.findall(r"^sgp-train .*", PAGE, flags=re.MULTILINE))
def test_commands_name_what_exists(line: str) -> None:
    given = dict(word.split("=", 1) for word in shlex.split(line)[1:])
    options = {key.removeprefix("topology.") for key in given if key.startswith("topology.")}
    assert options <= set(TOPOLOGIES.options(given["topology"]))
