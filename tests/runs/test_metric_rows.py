"""The latest rows of metrics, of files that are long, being written or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.metric_rows import last_rows, validations


def row(step: int, split: str = "train", **more: Any) -> str:
    return json.dumps({"step": step, "split": split, **more}) + "\n"


def test_the_latest_row_of_each_split(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(10) + row(10, "val") + row(20) + row(30))
    assert {split: found["step"] for split, found in last_rows(path).items()} == {"train": 30, "val": 10}


def test_a_row_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(10) + row(20).rstrip("\n"))
    assert last_rows(path)["train"]["step"] == 10


@pytest.mark.parametrize("length", [1, 50, 5000])
def test_rows_are_found_across_blocks(length: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(1, "val") + "".join(row(step, filler="x" * length) for step in range(1, 100)))
    found = last_rows(path)
    assert (found["val"]["step"], found["train"]["step"]) == (1, 99)


def test_it_is_not_looked_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(1, "val") + "".join(row(step, filler="x" * 5000) for step in range(1, 400)))
    assert set(last_rows(path)) == {"train"}
    assert [each["step"] for each in validations(path)] == [1]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\x00\xff{]\n", b'3\n[]\nnull\n"val"\n{"split": ["val"]}\n', b"[" * 100_000 + b'"val"\n', None],
)
def test_garbage_holds_no_rows(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert (last_rows(path), validations(path)) == ({}, [])
    assert last_rows(tmp_path / "nowhere") == {}


def test_rows_between_garbage_are_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(row(5).encode() + b"\xff\xfe\x00\n" + row(6, "val").encode() + b'{"step": 7, "spl\n')
    assert {split: found["step"] for split, found in last_rows(path).items()} == {"train": 5, "val": 6}
