"""The setting ``faults`` on a command line."""

from __future__ import annotations

import pytest

from launcher.config.fault_words import quote_faults


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("faults=[kill rank=3 step=100, nan rank=1]", 'faults=["kill rank=3 step=100","nan rank=1"]'),
        ("faults=kill rank=3", 'faults=["kill rank=3"]'),
        ("faults=kill", 'faults=["kill"]'),
        ("faults=[kill],[]", 'faults=["kill"],[]'),
        ('faults=["kill rank=3"]', 'faults=["kill rank=3"]'),
        ("faults=[]", "faults=[]"),
        ("training.epochs=3", "training.epochs=3"),
    ],
)
def test_phrases_are_quoted_for_hydra(word: str, read: str) -> None:
    assert quote_faults(word) == read
