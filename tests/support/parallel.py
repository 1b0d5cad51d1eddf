"""Parallel text, made up: a language and the same words spelt another way."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

WORDS = ("house", "dog", "tree", "river", "bread", "green", "old", "runs", "sees", "near", "under", "and", "the", "a")


def write_text(folder: Path, packed: tuple[str, ...] = (), **splits: int) -> None:
    """Write ``<split>.en`` and ``<split>.de`` with so many lines each; those in ``packed`` gzipped."""
    for split, count in splits.items():
        dice = random.Random(f"{split} {count}")
        lines = [[dice.choice(WORDS) for _ in range(dice.randint(2, 12))] for _ in range(count)]
        for language, spelling in (("en", str), ("de", str.capitalize)):
            content = "".join(" ".join(map(spelling, line)) + "\n" for line in lines).encode()
            if split in packed:
                (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{split}.{language}").write_bytes(content)
