"""The documentation as tests see it: pages, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TESTED_ELSEWHERE = {"topologies.md"}  # tests/topology/test_topology_docs.py
PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in TESTED_ELSEWHERE)]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page on which the text begins, from 1."""

    language: str
    text: str
    line: int


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, all of them or those in one language."""
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if language in (None, block.language)]


def session(page: Path) -> str:
    """Return the Python blocks of a page as one program whose lines have the numbers they have on the page."""
    lines = [""] * (page.read_text(encoding="utf-8").count("\n") + 1)
    for block in blocks(page, "python"):
        for offset, line in enumerate(block.text.splitlines()):
            lines[block.line - 1 + offset] = line
    return "\n".join(lines)


def commands(page: Path) -> list[str]:
    """Return the command lines of a page's bash blocks, comments left out."""
    lines = [line for block in blocks(page, "bash") for line in block.text.splitlines()]
    stripped = [re.sub(r"\s+# .*", "", line).strip() for line in lines]
    return [line for line in stripped if line and not line.startswith("#")]


def settings_files(page: Path) -> dict[str, str]:
    """Return the YAML files a page asks its reader to write: path, as named just before the block, and content."""
    text = page.read_text(encoding="utf-8")
    return {
        m[1]: m[2] for m in re.finditer(r"`([\w/]+\.yaml)`:\n\n```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    }
