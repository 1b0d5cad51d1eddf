"""The setting ``faults`` on a command line: phrases with spaces and ``=``, which Hydra reads only in quotes."""

from __future__ import annotations

import re

_FAULTS = re.compile(r"(\+{0,2}faults=)(.+)", re.DOTALL)
_PHRASE = re.compile(r"[^\[\],]*[^\[\],\s][^\[\],]*")


def quote_faults(word: str) -> str:
    """Return ``faults=["kill rank=3", ...]`` for ``faults=[kill rank=3, ...]``; other words as they are.

    One phrase may stand without brackets. A value that has quotes, or refers to another setting, is left alone.
    """
    found = _FAULTS.fullmatch(word)
    if found is None or re.search("[\"'{]", found[2]):
        return word
    if found[2].lstrip()[:1] != "[":
        return word if found[2] == "null" else f'{found[1]}["{found[2].strip()}"]'
    return found[1] + _PHRASE.sub(lambda phrase: f'"{phrase[0].strip()}"', found[2])
