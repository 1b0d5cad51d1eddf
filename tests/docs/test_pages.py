"""What the pages say in Python, in links and in names is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from launcher.config.schema import choices
from sgp_core.algorithms import ALGORITHMS, OUTERS
from sgp_core.compression import COMPRESSIONS
from sgp_core.topology import TOPOLOGIES
from tests.docs.pages import EXAMPLES, PAGES, ROOT, blocks, session

ONLY_LINKED = {EXAMPLES / "nodes.py", *EXAMPLES.glob("hugging_face_*.py"), *EXAMPLES.glob("lightning_*.py")}
ONLY_LINKED |= set(EXAMPLES.glob("from_*.py"))
"""Need several workers, so they cannot be part of a page that runs in one; test_examples.py and tests/integrations run
them."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, finished: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / f"{page.stem}.py"
    program.write_text(session(page), encoding="utf-8")
    names = runpy.run_path(str(program), run_name=page.stem)
    if page.name == "algorithms.md":
        assert names["run"].z[-1].flatten().tolist() == pytest.approx([3, 3, 3])
        assert names["run"].x[-1].flatten().tolist() == pytest.approx([3, 2, 4])
        assert names["run"].w[-1].tolist() == pytest.approx([1, 2 / 3, 4 / 3])
        assert float(names["lossy"].w[-1].sum() + names["lossy"].w_in_flight[-1]) == pytest.approx(8, abs=1e-12)
    if page.name == "quickstart.md":
        said = capsys.readouterr().out
        assert "sgp-one_peer_exponential-2w-seed0 completed 0.9" in said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_in_languages_that_are_tested(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= {"bash", "python", "text", "yaml", ""}


@pytest.mark.parametrize("example", sorted({*EXAMPLES.glob("*.py")} - ONLY_LINKED), ids=lambda path: path.name)
def test_examples_are_printed_whole(example: Path) -> None:
    printed = {block.text for block in blocks(ROOT / "docs" / "library.md", "python")}
    assert example.read_text(encoding="utf-8") in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


def headings(page: Path) -> set[str]:
    """Return the anchors GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", [*ALGORITHMS.names(), *OUTERS.names()])
def test_every_algorithm_is_explained(name: str) -> None:
    page = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    section = re.search(rf"^##+ {name}$(.*?)(?=^## |^### (?!The )|\Z)", page, flags=re.MULTILINE | re.DOTALL)
    assert section is not None
    registry = ALGORITHMS if name in ALGORITHMS.names() else OUTERS
    for option in registry.options(name):
        assert f"`{option}`" in section[1]
    assert "$$" in section[1]
    assert "*Use it*" in section[1]
    assert f"[`{name}`](#{name})" in page


@pytest.mark.parametrize("name", COMPRESSIONS.names())
def test_every_codec_has_a_row_with_its_options(name: str) -> None:
    page = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \|.*$", page, flags=re.MULTILINE)
    assert row is not None
    for option in COMPRESSIONS.options(name):
        assert f"`{option}`" in row[0]


def test_front_page_names_what_there_is() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for group in ("algorithm", "outer", "compression", "dataset", "partition", "model"):
        for name in set(choices(group)) - {"none", "torchvision"}:
            assert f"`{name}`" in page
    assert f"{len(TOPOLOGIES.names())} graphs" in page
