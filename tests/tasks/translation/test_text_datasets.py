"""Parallel text: read from wherever it lies, refused in one sentence, encoded once."""

from __future__ import annotations

import gzip
import os
import sys
import tracemalloc
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.translation import encoded
from sgp_core.tasks.translation.make_verses import HELD_OUT, MOST_WORDS
from sgp_core.tasks.translation.tokens import BOS, EOS, PAD
from tests.support.parallel import write_text


def text_files(folder: Path, **options: Any) -> Any:
    return DATASETS.build("parallel_text", path=str(folder), **{"cache": str(folder / "cache"), **options})


def test_files_may_be_plain_or_gzipped_and_tests_are_found(tmp_path: Path) -> None:
    write_text(tmp_path, train=20, valid=5, test_2016=4, packed=("train",))
    text = text_files(tmp_path).read()
    assert {split: len(lines) for split, lines in text.items()} == {"train": 20, "val": 5, "test_2016": 4}
    assert text["train"].sources[0] == text["train"].targets[0].lower()
    task = text_files(tmp_path).load()
    assert task.languages == ("en", "de")
    assert task.generated_splits == ("val", "test_2016")
    other = text_files(tmp_path, source="de", target="en").load()
    assert other.text.references["val"] == text["val"].sources


def test_batches_hold_sentences_as_the_model_wants_them(tmp_path: Path) -> None:
    write_text(tmp_path, train=20, val=5)
    task = text_files(tmp_path).load()
    batch = task.batch(torch.tensor([3, 11, 0]))
    source, so_far = batch.inputs
    pairs, bpe = task.text.splits["train"], task.text.bpe
    lines = text_files(tmp_path).read()["train"]
    for row, index in enumerate((3, 11, 0)):
        tokens = [token for token in batch.targets[row].tolist() if token != PAD]
        assert tokens == pairs.targets.row(index)[1:]
        assert tokens[-1] == EOS
        assert [token for token in so_far[row].tolist() if token != PAD] == [BOS, *tokens[:-1]]
        assert [token for token in source[row].tolist() if token != PAD] == pairs.sources.row(index)
        assert bpe.decode([tokens, source[row].tolist()]) == [lines.targets[index], lines.sources[index]]
        assert int(batch.counts[row]) == len(tokens)
    assert source.dtype == so_far.dtype == batch.targets.dtype == torch.int64
    assert batch.count == int((batch.targets != PAD).sum())


def test_validation_is_divided_between_workers_and_keeps_to_the_budget(tmp_path: Path) -> None:
    write_text(tmp_path, train=20, val=23)
    task = text_files(tmp_path, max_tokens=40, max_length=40).load()
    shares = [task.validation_indices(rank, 3, batch_size=4) for rank in range(3)]
    parts = [[task.validation_batch(indices) for indices in share] for share in shares]
    sentences = [tuple(row) for part in parts for batch in part for row in batch.targets.tolist()]
    assert sum(map(len, (batch for part in parts for batch in part))) == len(sentences) == 23
    assert all(len(batch) <= 4 and batch.targets.numel() <= 40 for part in parts for batch in part)
    assert sum(batch.count for part in parts for batch in part) == sum(task.text.splits["val"].targets.lengths - 1)


def test_sentences_without_words_do_not_train(tmp_path: Path) -> None:
    write_text(tmp_path, train=6, val=2)
    with (tmp_path / "train.en").open("a") as file:
        file.write("a house\n\n")
    with (tmp_path / "train.de").open("a") as file:
        file.write("  \nein Haus\n")
    assert len(text_files(tmp_path).load().text.splits["train"]) == 6


def test_text_is_encoded_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    work = encoded.encode
    monkeypatch.setattr(encoded, "_AT_ONCE", 7)
    monkeypatch.setattr(encoded, "encode", lambda *given: calls.append(given) or work(*given))
    write_text(tmp_path, train=20, val=5)
    first = text_files(tmp_path).load()
    again = text_files(tmp_path).load()
    assert len(calls) == 1
    assert isinstance(again.text.splits["train"].sources.tokens, np.memmap)
    assert again.state() == first.state() == {"tokenizer": first.text.bpe.digest}
    text_files(tmp_path, vocabulary=30).load()
    assert len(calls) == 2
    write_text(tmp_path, train=21, val=5)
    assert text_files(tmp_path).load().state() != first.state()
    assert len(calls) == 3
    for file in (tmp_path / "cache").rglob("train.source.npy"):  # damage is noticed and repaired
        file.write_bytes(file.read_bytes()[:-4])
    text_files(tmp_path).load()
    text_files(tmp_path).load()
    assert len(calls) == 4
    (tmp_path / "file").write_text("no folder")
    assert (
        text_files(tmp_path, cache=str(tmp_path / "file" / "below")).load().state()
        == text_files(tmp_path).load().state()
    )


def append(folder: Path, line: bytes) -> None:
    with (folder / "train.en").open("ab") as file:
        file.write(line)


def bomb(folder: Path) -> None:
    """Replace a file by a small one that expands to 1.5 GB."""
    part = gzip.compress(b"\n" * 15_000_000)
    (folder / "train.en").unlink()
    (folder / "train.en.gz").write_bytes(part * 100)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "val.de").unlink(), r"holds no val.en\[.gz\] and val.de\[.gz\]"),
        (lambda folder: (folder / "train.en").write_text("one\n"), "train.en has 1 lines and train.de has 20: they"),
        (
            lambda folder: (folder / "train.en").write_bytes(b"\xff\xfe\n" * 20),
            "train.en, line 1, is not UTF-8 text: invalid start byte",
        ),
        (lambda folder: append(folder, b"a b" + bytes(9) + b"\n"), "train.en, line 21, has bytes that are zero"),
        (lambda folder: append(folder, b"a" * 999_999 + b"\n"), "line 21, has a word of more than 10000 characters"),
        (lambda folder: append(folder, b"a " * 500_001 + b"\n"), "line 21, has more than 1 million bytes"),
        (lambda folder: bomb(folder), "train.en.gz cannot be read: it expands to more than 100 times its size"),
        (lambda folder: (folder / "train.en").rename(folder / "train.en.gz"), "train.en.gz cannot be read"),
        (lambda folder: write_text(folder, train=20, val=0), "parallel_text has no sentences to validate on"),
    ],
)
def test_damaged_text_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    write_text(tmp_path, train=20, val=5)
    spoil(tmp_path)
    tracemalloc.start()
    with pytest.raises(ConfigurationError, match=message):
        text_files(tmp_path).load()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6


def test_ends_of_lines_and_marks_are_no_text(tmp_path: Path) -> None:
    write_text(tmp_path, train=20, val=5)
    for content, lines in (
        (b"\xef\xbb\xbfone\r\ntwo\r\n", ["one", "two"]),
        (b"one\n\n", ["one", ""]),
        (b"one\rtwo", ["one\rtwo"]),
        (b"\n", []),
        (b"", []),
    ):
        for ending in ("en", "de"):
            (tmp_path / f"val.{ending}").write_bytes(content)
        assert text_files(tmp_path).read()["val"].sources == lines


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("parallel_text", {}, "needs dataset.path=FOLDER"),
        ("parallel_text", {"path": "/nowhere"}, "/nowhere is not a folder"),
        ("parallel_text", {"target": "en"}, "both en"),
        ("verses", {"target": "de"}, "dataset.target=de: the languages are en and es"),
        ("verses", {"max_length": 2000}, "dataset.max_tokens=1024: must be at least dataset.max_length=2000"),
        ("verses", {"vocabulary": 3}, "dataset.vocabulary=3: must be at least 8"),
        ("multi30k", {"path": "/nowhere"}, "github.com/multi30k"),
        ("libreoffice", {"path": "/nowhere"}, "apt-get install libreoffice-help-en-us libreoffice-help-de"),
        ("wmt16", {"source": "cs"}, "one of them must be en"),
    ],
)
def test_impossible_wishes_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DATASETS.build(name, **options).check()


@pytest.mark.parametrize(
    ("option", "message"), [("batch_size", "use dataset.max_tokens"), ("channels_last", "text has no channels")]
)
def test_options_that_mean_nothing_for_text_are_refused(option: str, message: str) -> None:
    DATASETS.build("verses").check_training({"epochs": 3})
    with pytest.raises(ConfigurationError, match=f"training.{option}=5: .*{message}"):
        DATASETS.build("verses").check_training({option: 5})


def test_the_verses_that_ship(tmp_path: Path) -> None:
    text = DATASETS.build("verses").read()
    assert {split: len(lines) for split, lines in text.items()} == {"train": 1836, "val": 182, "test": 191}
    sides = [{*lines.sources, *lines.targets} for lines in text.values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert all(line and len(line.split()) <= MOST_WORDS for side in sides for line in side)
    assert ("Jesus wept.", "Y lloró Jesús.") in zip(text["test"].sources, text["test"].targets, strict=True)
    assert set(HELD_OUT.values()) == {"val", "test"}


PAGE = (
    '<html><h1 id="hd_id1" dir="auto">{0}</h1><p id="par_id2"><span class="emph">{1}</span> {2}</p><p>no id</p></html>'
)


def test_help_pages_are_paired_by_file_and_paragraph(tmp_path: Path) -> None:
    for page in range(90):
        for folder, words in (
            ("en-US", "The red house {}. It is big &amp; old."),
            ("de", "Das rote Haus {}. Es ist alt."),
        ):
            path = tmp_path / folder / "text" / f"{page}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PAGE.format("Help", words.format(page), "Same text here."))
    choice = DATASETS.build("libreoffice", path=str(tmp_path))
    choice.check()
    text = choice.read()
    pairs = {pair for lines in text.values() for pair in zip(lines.sources, lines.targets, strict=True)}
    assert ("The red house 7.", "Das rote Haus 7.") in pairs
    assert ("It is big & old.", "Es ist alt.") in pairs
    assert not any("Same" in source or source == "Help" for source, _ in pairs)
    assert len(pairs) == sum(map(len, text.values())) == 91
    assert len(text["val"]) > 0
    assert len(text["test"]) > 0
    before = choice.fingerprint()
    (tmp_path / "de" / "text" / "7.html").write_text("other")
    assert choice.fingerprint() != before


def test_wmt16_is_read_with_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Split:
        info = types.SimpleNamespace(version="1.0.0")
        rows = ({"en": "one", "de": "eins"}, {"en": "two", "de": "zwei"})

        def __len__(self) -> int:
            return len(self.rows)

        def __iter__(self) -> Iterator[dict[str, dict[str, str]]]:
            return ({"translation": row} for row in self.rows)

    def load_dataset(*given: Any, cache_dir: Any) -> dict[str, Split]:
        asked.append((*given, os.environ.get("HF_HUB_OFFLINE"), cache_dir))
        if cache_dir == "empty":
            raise FileNotFoundError("not in the cache")
        return {"train": Split(), "validation": Split(), "test": Split()}

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # restored afterwards
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'stochastic-gradient-push\[wmt\]'"):
        DATASETS.build("wmt16").check()
    library: Any = types.ModuleType("datasets")
    library.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    text = DATASETS.build("wmt16", source="de", target="en").read()
    assert text["val"].sources == ["eins", "zwei"]
    assert text["train"].targets == ["one", "two"]
    assert asked[-1] == ("wmt/wmt16", "de-en", "1", None)
    assert DATASETS.build("wmt16").fingerprint().endswith("wmt/wmt16 1.0.0 2")
    with pytest.raises(
        ConfigurationError, match=r"run: sgp-train dataset=wmt16 dataset.download=true dataset.path=empty"
    ):
        DATASETS.build("wmt16", path="empty").read()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ConfigurationError, match="could not be downloaded: not in the cache"):
        DATASETS.build("wmt16", path="empty", download=True).read()
    assert asked[-1] == ("wmt/wmt16", "de-en", None, "empty")
