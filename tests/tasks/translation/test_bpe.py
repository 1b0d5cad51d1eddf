"""One vocabulary for both languages, from which the text comes back as it was."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.tokens import BOS, EOS, PAD, UNK

LINES = [
    "In the beginning God created the heaven and the earth.",
    "EN el principio crió Dios los cielos y la tierra.",
    "¿Quién eres tú? (And who art thou?)",
    "the Lord's day, and all the rest...",
]
ALPHABET = sorted(set("".join(LINES)) - {" "})


def test_special_tokens_come_first() -> None:
    bpe = Bpe.train(LINES, 80)
    special = {token["id"]: token["content"] for token in json.loads(bpe.content)["added_tokens"]}
    assert special == {PAD: "<pad>", BOS: "<s>", EOS: "</s>", UNK: "<unk>"}
    assert 4 < bpe.size <= 80
    assert bpe.decode([[BOS, *bpe.encode(["the earth."])[0], EOS, PAD, PAD]]) == ["the earth."]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(ALPHABET, min_size=1, max_size=8), min_size=1, max_size=6))
def test_text_of_known_letters_comes_back(words: list[str]) -> None:
    line = " ".join(words)
    bpe = _small()
    [ids] = bpe.encode([f"  {line}\t "])
    assert UNK not in ids
    assert bpe.decode([ids]) == [line]


def _small(kept: list[Bpe] = []) -> Bpe:  # noqa: B006 - learnt once
    if not kept:
        kept.append(Bpe.train(LINES, 80))
    return kept[0]


def test_unknown_letters_and_names_of_special_tokens_are_harmless() -> None:
    bpe = _small()
    [unknown, mentioned] = bpe.encode(["漢", "a </s> <pad> t"])
    assert UNK in unknown
    assert not {PAD, BOS, EOS} & set(mentioned)
    assert bpe.encode([""]) == [[]]


def test_equal_text_gives_the_same_file_in_every_process(tmp_path: Path) -> None:
    """Workers that each learn it, because no cache can be written, must agree."""
    script = (
        "from sgp_core.tasks.datasets import DATASETS\n"
        "from sgp_core.tasks.translation.bpe import Bpe\n"
        "text = DATASETS.build('verses').read()['train']\n"
        "print(Bpe.train([*text.sources, *text.targets], 2000).digest)\n"
    )
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (process.communicate()[0] for process in processes)
    assert one == other
    assert len(one) == 65


def test_what_is_saved_loads_and_has_the_stated_hash(tmp_path: Path) -> None:
    bpe = _small()
    bpe.save(tmp_path / "tokenizer.json")
    again = Bpe.load(tmp_path / "tokenizer.json")
    assert again.encode(LINES) == bpe.encode(LINES)
    assert again.digest == bpe.digest == hashlib.sha256((tmp_path / "tokenizer.json").read_bytes()).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "none.json"):
        with pytest.raises(ConfigurationError, match=f"{name} cannot be read as a tokenizer"):
            Bpe.load(tmp_path / name)
