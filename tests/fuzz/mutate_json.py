"""Damage to what a JSON file says rather than to its bytes: values of other types, missing and hostile ones."""

from __future__ import annotations

import json
import random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 10**12, 10**30, 1.5, 1e308, float("nan"), float("inf")),
    *("", " ", "x", "7", "../..", "../../outside", "/etc/passwd", "\x1b[2J\x07", "\ud800", "=1+1", "${x}", "a" * 5000),
    *([], [None], ["x", 3], [[[]]], {}, {"name": 3}, {"name": []}, {"rank": "x"}, {"step": None}),
)
"""Values that take the place of others."""


def mutate_json(content: bytes, seed: int) -> bytes:
    """Return a JSON object in which one to three values are others, gone or new."""
    dice = random.Random(seed)
    tree = json.loads(content)
    for _ in range(dice.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            break
        holder, key = dice.choice(places)
        way = dice.random()
        if way < 0.12:
            del holder[key]
        elif way < 0.2 and isinstance(holder, dict):
            holder[f"{key}_"] = dice.choice(HOSTILE)
        else:
            holder[key] = dice.choice(HOSTILE)
    return json.dumps(tree).encode()


def _places(node: Any) -> Any:
    """Yield each container below ``node`` with each of its keys."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from _places(node[key])
