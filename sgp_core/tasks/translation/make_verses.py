"""Makes the corpus in ``tasks/text/verses`` again: short verses of two bibles in the public domain.

    apt-get download sword-text-kjv sword-text-sparv
    for package in sword-text-*.deb; do dpkg -x $package bibles; done
    python -m sgp_core.tasks.translation.make_verses bibles FOLDER

The files are the SWORD project's: compressed blocks, where each block lies, where in them each verse lies. Both bibles
number verses alike, so entries match by their place. Books are divided between training, validation and test, not
verses: those of a book repeat one another.
"""

from __future__ import annotations

import argparse
import gzip
import html
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

MODULES = {"en": "engKJV2006eb", "es": "spaRV1909eb"}
MOST_WORDS = 12
HELD_OUT = {
    **dict.fromkeys(("Isa", "Jer", "Acts", "Rom", "Heb"), "val"),
    **dict.fromkeys(("Ezek", "John", "1Cor"), "test"),
}
"""The split of each book that does not train."""

_BOOK = re.compile(r'<div [^>]*osisID="(\w+)"[^>]*type="book"')
_NO_VERSE = re.compile(r"<(note|title)\b[^>]*?(/>|>.*?</\1>)", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")

Pair = tuple[str, str]


def entries(folder: Path, testament: str) -> list[str]:
    """Return every entry of a testament, with markup: headings of books and chapters, and verses."""
    blocks_at, verses_at, data = (folder.joinpath(f"{testament}.{end}").read_bytes() for end in ("bzs", "bzv", "bzz"))
    blocks = [zlib.decompress(data[begin : begin + size]) for begin, size, _ in struct.iter_unpack("<III", blocks_at)]
    return [
        blocks[block][begin : begin + size].decode() if size else ""
        for block, begin, size in struct.iter_unpack("<IIH", verses_at)
    ]


def text(entry: str) -> str:
    """Return an entry on one line, without notes, titles, markup and pilcrows."""
    return " ".join(html.unescape(_TAG.sub("", _NO_VERSE.sub("", entry))).replace("¶", " ").split())


def verses(bibles: Path) -> Iterator[tuple[str, Pair]]:
    """Yield the book and both texts of every verse that both have."""
    folders = [bibles / "usr/share/sword/modules/texts/ztext" / module for module in MODULES.values()]
    for testament in ("ot", "nt"):
        book = ""
        for english, spanish in zip(*(entries(folder, testament) for folder in folders), strict=True):
            if heading := _BOOK.search(english):
                book = heading[1]
            pair = text(english), text(spanish)
            if all(pair):
                yield book, pair


def short_verses(bibles: Path) -> dict[str, list[Pair]]:
    """Return the distinct short pairs of each split; what is held out is nowhere else."""
    splits: dict[str, dict[Pair, None]] = {"train": {}, "val": {}, "test": {}}
    for book, pair in verses(bibles):
        if all(len(side.split()) <= MOST_WORDS for side in pair):
            splits[HELD_OUT.get(book, "train")][pair] = None
    for split, others in (("val", ("test",)), ("train", ("val", "test"))):
        known = {side for other in others for pair in splits[other] for side in pair}
        splits[split] = {pair: None for pair in splits[split] if not known & set(pair)}
    return {split: list(pairs) for split, pairs in splits.items()}


def main() -> None:
    """Write every split in both languages, one verse a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bibles", type=Path, help="where the Debian packages were unpacked")
    parser.add_argument("folder", type=Path, help="where the corpus goes")
    given = parser.parse_args()
    for split, pairs in short_verses(given.bibles).items():
        print(f"{split}: {len(pairs)} pairs")
        for language, side in zip(MODULES, zip(*pairs, strict=True), strict=True):
            content = "".join(f"{line}\n" for line in side).encode()
            (given.folder / f"{split}.{language}.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main()
