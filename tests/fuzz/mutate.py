"""Damage as disks, networks and editors do it: pure functions of the content and a seed."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator

CASES = int(os.environ.get("SGP_FUZZ_CASES", "0"))
"""How many cases a file runs; 0: as few as its tests choose."""
SEED = int(os.environ.get("SGP_FUZZ_SEED", "0"))
"""Of the first case."""

_BLOCKS = (16, 64, 512, 4096)
_NUMBERS = (b"0", b"-1", b"1e400", b"NaN", b"9" * 30, b"null", b'"7"', b"0.5", b"[]", b"true")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def cases(few: int) -> Iterator[int]:
    """Yield the seeds to test: ``few`` of them, or ``SGP_FUZZ_CASES``, from ``SGP_FUZZ_SEED`` on."""
    return iter(range(SEED, SEED + (CASES or few)))


def mutate(content: bytes, seed: int) -> bytes:
    """Return damaged content, which differs from ``content`` unless nothing in it can be damaged."""
    dice = random.Random(seed)
    for _ in range(100):
        damaged = dice.choice(_WAYS)(content, dice)
        if damaged != content:
            return damaged
    return content


def flip_bits(content: bytes, dice: random.Random) -> bytes:
    """Flip one to eight bits."""
    damaged = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 8)) if damaged else 0):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def cut(content: bytes, dice: random.Random) -> bytes:
    """Keep the beginning; half of the time up to a multiple of 512 bytes, as disks and archives do."""
    length = dice.randrange(len(content) + 1)
    return content[: length - length % 512] if dice.random() < 0.5 else content[:length]


def zero_block(content: bytes, dice: random.Random) -> bytes:
    """Fill a block with zeros, as a sector that was never written."""
    begin, end = _block(content, dice)
    return content[:begin] + bytes(end - begin) + content[end:]


def repeat_block(content: bytes, dice: random.Random) -> bytes:
    """Write a block twice, one after the other."""
    begin, end = _block(content, dice)
    return content[:end] + content[begin:]


def drop_block(content: bytes, dice: random.Random) -> bytes:
    """Leave a block out."""
    begin, end = _block(content, dice)
    return content[:begin] + content[end:]


def swap_blocks(content: bytes, dice: random.Random) -> bytes:
    """Exchange two neighbouring blocks."""
    begin, end = _block(content, dice)
    after = min(2 * end - begin, len(content))
    return content[:begin] + content[end:after] + content[begin:end] + content[after:]


def append(content: bytes, dice: random.Random) -> bytes:
    """Add bytes at the end: random ones, or those of the beginning."""
    length = dice.choice((1, 16, 512))
    return content + (dice.randbytes(length) if dice.random() < 0.5 else content[:length])


def change_number(content: bytes, dice: random.Random) -> bytes:
    """Replace a number that is written in digits."""
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    number = dice.choice(found)
    return content[: number.start()] + dice.choice(_NUMBERS) + content[number.end() :]


_WAYS = (flip_bits, flip_bits, cut, zero_block, repeat_block, drop_block, swap_blocks, append, change_number)


def _block(content: bytes, dice: random.Random) -> tuple[int, int]:
    """Return begin and end of a block, half of the time at a multiple of its size."""
    size = dice.choice(_BLOCKS)
    begin = dice.randrange(len(content)) if content else 0
    if dice.random() < 0.5:
        begin -= begin % size
    return begin, min(begin + size, len(content))
