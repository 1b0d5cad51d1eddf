"""Standard data sets: found where torchvision and Debian put them, refused in one sentence otherwise."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets import fashion_mnist


def one_sentence(error: pytest.ExceptionInfo[ConfigurationError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def test_digits_are_split_once_and_for_all() -> None:
    splits = DATASETS.build("digits").load()
    assert (len(splits.train), len(splits.validation)) == (1437, 360)
    assert (splits.num_classes, splits.example_shape) == (10, (1, 8, 8))
    inputs, _ = splits.train.batch(torch.arange(1437))
    assert inputs.shape == (1437, 1, 8, 8)
    assert inputs.mean().abs() < 0.01
    assert (inputs.std() - 1).abs() < 0.01
    counts = splits.validation.batch(torch.arange(360))[1].bincount()
    assert counts.tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    again = DATASETS.build("digits").load()
    assert torch.equal(again.train.batch(torch.arange(1437))[0], inputs)


def test_digits_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, targets = load_digits(return_X_y=True)
    rows = train_test_split(np.arange(len(targets)), test_size=360, stratify=targets, random_state=0)
    read = DATASETS.build("digits").load()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # the file may lie elsewhere one day
    for splits in (read, DATASETS.build("digits").load()):
        for part, examples in zip(rows, (splits.train, splits.validation), strict=True):
            inputs, labels = examples.batch(torch.arange(len(part)))
            expected = (pixels[part].reshape(-1, 1, 8, 8) / 16 - 0.305) / 0.376
            assert torch.equal(labels, torch.from_numpy(targets[part]))
            torch.testing.assert_close(inputs, torch.from_numpy(expected).float(), rtol=0, atol=1e-6)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_fashion(folder: Path, suffix: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(12, 28, 28))
    for split in ("train", "t10k"):
        write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", np.arange(12) % 10)
    return images


@pytest.mark.parametrize(("below", "suffix"), [("FashionMNIST/raw", ""), ("", ".gz"), ("raw", ".gz")])
def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path, below: str, suffix: str) -> None:
    images = write_fashion(tmp_path / below, suffix)
    splits = DATASETS.build("fashion_mnist", path=str(tmp_path)).load()
    assert splits.example_shape == (1, 28, 28)
    inputs, targets = splits.train.batch(torch.tensor([11, 2]))
    np.testing.assert_allclose(inputs[0, 0].numpy(), (images[11] / 255 - 0.2860) / 0.3530, atol=1e-5)
    assert targets.tolist() == [1, 2]


def test_fashion_mnist_of_debian_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path / "debian", ".gz")
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert len(DATASETS.build("fashion_mnist").load().train) == 12


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x08\x03\x00", "not an IDX file"),
        (b"<html>", "not an IDX file"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05\x01", "is damaged"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    write_fashion(tmp_path, "")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ConfigurationError, match=says) as error:
        DATASETS.build("fashion_mnist", path=str(tmp_path)).load()
    assert "train-images-idx3-ubyte" in one_sentence(error)


def write_cifar(root: Path, name: str, labels: list[int]) -> np.ndarray:
    images = np.random.default_rng(0).integers(256, size=(len(labels), 3072)).astype(np.uint8)
    if name == "cifar10":
        folder, key = root / "cifar-10-batches-py", "labels"
        files = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    else:
        folder, key, files = root / "cifar-100-python", "fine_labels", ["train", "test"]
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        content: dict[Any, Any] = {"data": images, key: labels}
        if number == 0:  # as a Python 3 program that kept the keys of encoding="bytes" would write it
            content = {k.encode(): value for k, value in content.items()}
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    return images


@pytest.mark.parametrize(("name", "batches", "classes"), [("cifar10", 5, 10), ("cifar100", 1, 100)])
def test_cifar_is_read_from_torchvisions_folder(tmp_path: Path, name: str, batches: int, classes: int) -> None:
    images = write_cifar(tmp_path, name, [3, 1, classes - 1])
    splits = DATASETS.build(name, path=str(tmp_path)).load()
    assert (len(splits.train), len(splits.validation)) == (3 * batches, 3)
    assert (splits.num_classes, splits.example_shape) == (classes, (3, 32, 32))
    inputs, targets = splits.validation.batch(torch.tensor([2]))
    means, stds = DATASETS.get(name).mean, DATASETS.get(name).std  # type: ignore[attr-defined]
    expected = (images[2].reshape(3, 32, 32) / 255 - np.reshape(means, (3, 1, 1))) / np.reshape(stds, (3, 1, 1))
    np.testing.assert_allclose(inputs[0].numpy(), expected, atol=1e-5)
    assert targets.tolist() == [classes - 1]


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("intruder-was-here",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}),
        pickle.dumps({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}),
        pickle.dumps({"data": Intruder(), "labels": [0]}),
    ],
    ids=["empty", "text", "too few labels", "wrong size", "code"],
)
def test_damaged_cifar_files_are_named_and_run_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path, "cifar10", [0, 1])
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(ConfigurationError, match="data_batch_3 is damaged or not a CIFAR batch") as error:
        DATASETS.build("cifar10", path=str(tmp_path)).load()
    one_sentence(error)
    assert not (tmp_path / "intruder-was-here").exists()


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10", [0, 10])
    with pytest.raises(ConfigurationError, match="labels out of range"):
        DATASETS.build("cifar10", path=str(tmp_path)).load()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_data_names_the_command_that_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path / "no-debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConfigurationError) as error:
        DATASETS.build(name).check()
    assert one_sentence(error).endswith(f"run: sgp-train dataset={name} dataset.download=true")
    with pytest.raises(ConfigurationError) as error:
        DATASETS.build(name, path=str(tmp_path)).load()
    assert one_sentence(error).endswith(f"dataset.download=true dataset.path={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_download_happens_only_on_request_and_only_if_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(self: object, root: Path) -> None:
        calls.append(root)
        write_cifar(root, "cifar10", [0, 1])

    monkeypatch.setattr(DATASETS.get("cifar10"), "fetch", fetch)
    wanted = DATASETS.build("cifar10", path=str(tmp_path), download=True)
    wanted.check()
    assert calls == []
    wanted.load()
    wanted.load()
    assert calls == [tmp_path]


def test_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: object, root: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(DATASETS.get("cifar100"), "fetch", fetch)
    with pytest.raises(ConfigurationError, match=r"cifar100 could not be downloaded to .*: no route to host") as error:
        DATASETS.build("cifar100", path=str(tmp_path), download=True).load()
    one_sentence(error)
