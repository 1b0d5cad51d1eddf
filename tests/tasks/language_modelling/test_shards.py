"""Tokens in binary shards: read in place, in any number of files, and not taken for what they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import Batch
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.language_modelling.windows import IGNORED
from sgp_core.tasks.translation.bpe import Bpe

CONTEXT = 8


def header(count: int, kind: tuple[int, int] = (20240520, 1)) -> bytes:
    numbers = np.zeros(256, dtype="<i4")
    numbers[:3] = *kind, count
    return numbers.tobytes()


def write_shard(path: Path, tokens: np.ndarray, kind: tuple[int, int] = (20240520, 1)) -> None:
    path.write_bytes(header(len(tokens), kind) + tokens.astype("<u2" if kind[1] == 1 else "<u4").tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three shards to train on and one to validate on, and the tokenizer of them."""
    dice = np.random.default_rng(0)
    for name, count in (("train_1", 50), ("train_2", 30), ("train_3", 77), ("val_0", 45)):
        write_shard(tmp_path / f"some_{name}.bin", dice.integers(258, size=count))
    ByteBpe.train(["the cat sat on the mat, and the dog sat by it\n"] * 3, 280).save(tmp_path / "tokenizer.json")
    return tmp_path


def data(folder: Path, **options: Any) -> Any:
    usual = {"path": str(folder), "tokenizer": str(folder / "tokenizer.json"), "vocabulary": 280, "context": CONTEXT}
    return DATASETS.build("tokens", **{**usual, **options})


def all_targets(batches: list[Batch]) -> list[int]:
    targets = torch.cat([batch.targets.flatten() for batch in batches])
    return targets[targets != IGNORED].tolist()


def read_shards(folder: Path, pattern: str) -> np.ndarray:
    files = sorted(folder.glob(pattern))
    return np.concatenate([np.frombuffer(file.read_bytes(), dtype="<u2", offset=1024) for file in files])


def test_shards_are_one_stream(folder: Path) -> None:
    task = data(folder).load()
    train, validation = read_shards(folder, "*train*"), read_shards(folder, "*val*")
    windows = task.batch(torch.arange(len(task.labels)))
    assert len(windows) == (len(train) - 1) // CONTEXT
    assert all_targets([windows]) == train[1 : 1 + len(windows) * CONTEXT].tolist()
    assert windows.inputs[0].flatten().tolist() == train[: len(windows) * CONTEXT].tolist()
    scored = [task.validation_batch(rows) for rows in task.validation_indices(0, 1, 3)]
    assert all_targets(scored) == validation[1:].tolist()
    order = torch.tensor([17, 3, 9])
    assert torch.equal(task.batch(order).targets, windows.targets[order])
    assert task.labels.tolist() == np.repeat([0, 1, 2], [7, 3, 9]).tolist()
    assert task.content()["training tokens"] == 157


def test_bytes_are_those_of_the_tokenizer(folder: Path) -> None:
    task = data(folder, vocabulary=300).load()
    batch = task.validation_batch(torch.arange(5))
    _, count, size = task.statistics(torch.zeros(5, CONTEXT, 300), batch.targets).tolist()
    tokens = all_targets([batch])
    assert count == len(tokens)
    assert size == task.text.bpe.token_bytes()[tokens].sum()
    assert task.describe()["vocabulary"] == 300


def test_tokens_of_32_bits(tmp_path: Path, folder: Path) -> None:
    tokens = np.arange(40) * 3000
    for name in ("train", "val"):
        write_shard(tmp_path / f"{name}.bin", tokens, (20240801, 7))
    task = data(folder, path=str(tmp_path / "train.bin"), validation_path=str(tmp_path / "val.bin"), vocabulary=128_000)
    assert all_targets([task.load().batch(torch.arange(4))]) == tokens[1:33].tolist()


def test_two_gigabytes_take_no_memory(folder: Path) -> None:
    count = 10**9
    with (folder / "some_train_1.bin").open("wb") as file:  # a hole, which is read as zeros
        file.write(header(count))
        file.truncate(1024 + 2 * count)
    process = psutil.Process()
    before = process.memory_info().rss
    task = data(folder, context=1024).load()
    order = task.sampler(world_size=2, rank=1, batch_size=2, seed=0).indices(0)
    most = 0
    for number in range(2000):
        task.batch(order[number])
        most = max(most, process.memory_info().rss)
    assert len(order) > 200_000
    assert most - before < 100e6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: path.write_bytes(b""),
            "some_train_2.bin is no shard of tokens: its first two numbers must be 20",
        ),
        (lambda path: path.write_bytes(b"text" * 500), "some_train_2.bin is no shard of tokens"),
        (lambda path: path.write_bytes(header(10, (20240520, 2))), "some_train_2.bin is no shard of tokens"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "some_train_2.bin is damaged: its header says 30 token",
        ),
        (lambda path: path.write_bytes(header(0)), "some_train_2.bin is damaged: its header says 0 tokens"),
        (lambda path: path.write_bytes(header(-1)), "some_train_2.bin is damaged: its header says -1 tokens"),
        (
            lambda path: write_shard(path, np.full(30, 280)),
            "some_train_2.bin has the token 280, and dataset.vocabulary",
        ),
    ],
)
def test_damaged_shards_are_refused(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder / "some_train_2.bin")
    with pytest.raises(ConfigurationError, match=message):
        data(folder).load().batch(torch.arange(19))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "dataset=tokens needs dataset.path=FOLDER with shards"),
        ({"path": "/nowhere"}, "/nowhere is no file and holds none that ends in .bin"),
        ({"tokenizer": None}, "dataset=tokens needs dataset.tokenizer=tokenizer.json"),
        ({"tokenizer": "/nowhere"}, "/nowhere cannot be read as a tokenizer"),
        ({"vocabulary": 270}, "dataset.vocabulary=270: the tokenizer .* has 2.. tokens"),
    ],
)
def test_impossible_wishes_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        data(folder, **options).load()


def test_shards_of_one_kind_alone_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no shards to validate on: those with 'val' in their names"):
        data(folder, path=f"{folder}/*train*").check()
    with pytest.raises(ConfigurationError, match="has no shards to train on"):
        data(folder, path=f"{folder}/*val*").check()


def test_a_tokenizer_that_is_not_of_bytes_is_refused(folder: Path) -> None:
    Bpe.train(["the cat sat on the mat"] * 3, 60).save(folder / "tokenizer.json")
    with pytest.raises(ConfigurationError, match="must be a byte-level tokenizer, as those of GPT-2 and Llama 3 are"):
        data(folder).load()
