"""Numbers of a column, filled up so that right-aligned their decimal points stand below one another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

_NUMBER = re.compile(r"(-?[\d,]*\d)(\.\d+)?( [kMGT]?B)?")


def align(texts: Sequence[str]) -> list[str]:
    """Return texts as HTML: plain numbers with invisible decimals where others have more, other texts as they are.

    Numbers of different units, such as kB and MB, stay as they are, too. Decimals are filled up with digits, which are
    as wide as one another in any font; spaces of their width are missing in some.
    """
    found = [_NUMBER.fullmatch(text) for text in texts]
    if len({number[3] for number in found if number}) > 1:
        return [escape(text) for text in texts]
    most = max((len(number[2] or "") for number in found if number), default=0)
    return [_fill_up(number, most) if number else escape(text) for number, text in zip(found, texts, strict=True)]


def _fill_up(number: re.Match[str], most: int) -> str:
    decimals, unit = number[2] or "", number[3] or ""
    missing = ("." + "0" * most)[len(decimals) : most]
    padding = f'<span class="pad" aria-hidden="true">{missing}</span>' if missing else ""
    return f"{number[1]}{decimals}{padding}{unit}"
