"""Any class-per-folder tree, as a folder or an archive, gives the same examples, decoded once."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images import decoded
from sgp_core.tasks.images.classification import ImageClassification


def image_bytes(seed: int, size: tuple[int, int] = (16, 16), kind: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(root: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(seed, kind="jpeg" if name.endswith("jpg") else "png"))


def names(*splits: str, count: int = 3) -> list[str]:
    return [f"{split}{label}/{number}.png" for split in splits for label in ("cat", "dog") for number in range(count)]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ImageClassification]:
    def load(path: Path, **options: object) -> ImageClassification:
        return DATASETS.build(
            "image_folder", path=str(path), **{"image_size": 16, "cache": str(tmp_path / "cache"), **options}
        ).load()

    return load


def everything(splits: ImageClassification) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [part.batch(torch.arange(len(part))) for part in (splits.train, splits.validation)]


@pytest.mark.parametrize("top", ["", "data/", "data/v1/"])
@pytest.mark.parametrize("validation", ["val", "test", "validation"])
def test_splits_and_classes_are_read_off_the_folders(
    tmp_path: Path, load: Callable[..., ImageClassification], top: str, validation: str
) -> None:
    write(tmp_path / "tree", names(f"{top}train/", f"{top}{validation}/"))
    splits = load(tmp_path / "tree", mean=[0.0] * 3, std=[1.0] * 3)
    assert (splits.num_classes, splits.example_shape) == (2, (3, 16, 16))
    (inputs, targets), (others, _) = everything(splits)
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(tmp_path / "tree" / f"{top}train/dog/0.png"))
    np.testing.assert_array_equal((inputs[3] * 255).round().permute(1, 2, 0).numpy(), expected)
    expected = np.asarray(Image.open(tmp_path / "tree" / f"{top}{validation}/cat/2.png"))
    np.testing.assert_array_equal((others[2] * 255).round().permute(1, 2, 0).numpy(), expected)


def test_validation_prefers_val_to_test_and_ignores_other_files(
    tmp_path: Path, load: Callable[..., ImageClassification]
) -> None:
    write(tmp_path / "tree", [*names("train/"), *names("test/", count=2), *names("val/", count=1)])
    (tmp_path / "tree" / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "tree" / "train" / "cat" / "._0.png").write_bytes(b"left by another system")
    splits = load(tmp_path / "tree")
    assert (len(splits.train), len(splits.validation)) == (6, 2)


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_one_split_is_held_out_from_the_same_way_every_time(
    tmp_path: Path, load: Callable[..., ImageClassification], prefix: str
) -> None:
    write(tmp_path / "tree", names(prefix, count=10))
    first = load(tmp_path / "tree", holdout=0.2)
    assert (len(first.train), len(first.validation)) == (16, 4)
    assert first.validation.batch(torch.arange(4))[1].tolist() == [0, 0, 1, 1]
    again = load(tmp_path / "tree", holdout=0.2, cache=str(tmp_path / "other"))
    for (inputs, _), (others, _) in zip(everything(first), everything(again), strict=True):
        assert torch.equal(inputs, others)


def test_a_class_may_be_called_train(tmp_path: Path, load: Callable[..., ImageClassification]) -> None:
    write(tmp_path / "tree", [f"{label}/{number}.png" for label in ("bus", "train") for number in range(10)])
    assert load(tmp_path / "tree").num_classes == 2


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("dot", ["", "./"])
def test_archive_gives_what_its_folder_gives(
    tmp_path: Path, load: Callable[..., ImageClassification], mode: str, dot: str
) -> None:
    write(tmp_path / "tree", names("set/train/", "set/test/"))
    archive = tmp_path / "tree.tar"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for name in reversed(names("set/train/", "set/test/")):
            tar.add(tmp_path / "tree" / name, arcname=dot + name)
    before = sorted(tmp_path.rglob("*.png"))
    for (inputs, targets), (others, labels) in zip(
        everything(load(tmp_path / "tree")), everything(load(archive)), strict=True
    ):
        assert torch.equal(inputs, others)
        assert torch.equal(targets, labels)
    assert sorted(tmp_path.rglob("*.png")) == before


def test_large_and_oblong_images_are_cut_to_the_middle_and_resized(
    tmp_path: Path, load: Callable[..., ImageClassification]
) -> None:
    folder = tmp_path / "tree"
    write(folder, names("train/", "test/"))
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 200  # the middle square
    for kind in ("png", "jpeg"):
        Image.fromarray(pixels).save(folder / f"train/cat/wide.{kind}")
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(folder / "train/cat/grey.png")
    splits = load(folder, mean=[0.0] * 3, std=[1.0 / 255] * 3)
    inputs, _ = splits.train.batch(torch.arange(8))
    # of cat: 0, 1, 2, grey, wide.jpeg, wide.png
    assert torch.equal(inputs[3].round(), torch.full((3, 16, 16), 77.0))
    assert (inputs[4:6, :, :, 1:-1] - 200).abs().max() < 12


@pytest.mark.parametrize("source", ["folder", "tar"])
def test_decoding_per_batch_gives_the_same_batches(
    tmp_path: Path, load: Callable[..., ImageClassification], source: str
) -> None:
    path = tmp_path / "tree"
    write(path, names("train/", "test/"))
    if source == "tar":
        path = tmp_path / "tree.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "tree", arcname="tree")
    whole, per_batch = load(path), load(path, in_memory_limit_gb=1e-6, cache=str(tmp_path / "other"))
    assert type(whole.train) is not type(per_batch.train)
    order = torch.tensor([5, 0, 3])
    for seed in (None, 1):
        results = [
            splits.train.batch(order, None if seed is None else torch.Generator().manual_seed(seed))
            for splits in (whole, per_batch)
        ]
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


def test_random_parts_depend_on_the_generator_alone_and_evaluation_sees_the_middle(
    tmp_path: Path, load: Callable[..., ImageClassification]
) -> None:
    folder = tmp_path / "tree"
    write(folder, names("train/", "test/"))
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    for name in names("train/", "test/"):
        Image.fromarray(ramp).save(folder / name)
    splits = load(folder, crop="resized", image_size=14, mean=[0.0] * 3, std=[1.0 / 255] * 3)
    order = torch.arange(6)
    one, two, other = (splits.train.batch(order, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert len({tuple(image[0, 0].tolist()) for image in one}) == 6
    middle = splits.validation.batch(order)[0][0, 0, 0]
    # resized to 16 by 16, each of 16 pixels, and the outer ones cut off: centres at 23.5, 39.5, ...
    torch.testing.assert_close(middle, torch.arange(14.0) * 16 + 23.5, atol=1.0, rtol=0)


WORKER = """
import hashlib, pathlib, sys
from sgp_core.tasks.images import decoded, source, tree
def make():
    with open(sys.argv[3], "a") as log:
        log.write("decoded\\n")
    folder = source.open_source(pathlib.Path(sys.argv[1]))
    return decoded.decode_tree(folder, tree.arrange(folder.names(), "tree", 0.1), 16)
print("ready", flush=True)
sys.stdin.readline()
made = decoded.load_or_decode(pathlib.Path(sys.argv[2]) / "entry", make)
print(hashlib.sha256(made.images.tobytes() + made.targets.tobytes()).hexdigest())
"""


def test_workers_that_start_together_decode_once(tmp_path: Path) -> None:
    write(tmp_path / "tree", names("train/", "test/"))
    command = [sys.executable, "-c", WORKER, tmp_path / "tree", tmp_path / "cache", tmp_path / "log"]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 4
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    results = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert len(set(results)) == 1
    assert (tmp_path / "log").read_text() == "decoded\n"


def test_cache_is_used_until_the_content_changes(
    tmp_path: Path, load: Callable[..., ImageClassification], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    work = decoded.decode_tree
    monkeypatch.setattr(decoded, "decode_tree", lambda *args: calls.append(args) or work(*args))
    folder = tmp_path / "tree"
    write(folder, names("train/", "test/"))
    first = everything(load(folder))
    assert torch.equal(everything(load(folder))[0][0], first[0][0])
    assert len(calls) == 1
    load(folder, image_size=8)
    assert len(calls) == 2
    (folder / "train/cat/0.png").write_bytes(image_bytes(99, (16, 17)))
    assert not torch.equal(everything(load(folder))[0][0][0], first[0][0][0])
    assert len(calls) == 3
    # damage to what was kept is noticed and repaired
    for file in (tmp_path / "cache").rglob("images.npy"):
        file.write_bytes(file.read_bytes()[:200])
    load(folder)
    load(folder)
    assert len(calls) == 4


def test_unwritable_cache_falls_back_to_memory(tmp_path: Path, load: Callable[..., ImageClassification]) -> None:
    write(tmp_path / "tree", names("train/", "test/"))
    (tmp_path / "file").write_text("not a folder")
    splits = load(tmp_path / "tree", cache=str(tmp_path / "file" / "below"))
    reference = load(tmp_path / "tree")
    assert torch.equal(everything(splits)[0][0], everything(reference)[0][0])


def refused(path: Path | None, **options: object) -> str:
    choice = DATASETS.build("image_folder", **{"path": str(path) if path else None, "image_size": 16, **options})

    def check_and_load() -> None:
        choice.check()
        choice.load()

    with pytest.raises(ConfigurationError) as error:
        check_and_load()
    message = str(error.value)
    assert "\n" not in message
    return message


def test_wrong_paths_are_refused_in_one_sentence(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert "dataset=image_folder needs dataset.path=FOLDER" in refused(None)
    with pytest.raises(ConfigurationError, match=r"^dataset=imagenet needs dataset.path=FOLDER"):
        DATASETS.build("imagenet").check()
    assert "does not exist" in refused(tmp_path / "nowhere")
    (tmp_path / "text.tar").write_text("text")
    assert "neither a folder nor a tar archive" in refused(tmp_path / "text.tar")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(tmp_path / "empty")
    write(tmp_path / "flat", ["a.png", "b.png"])
    assert "images outside class folders" in refused(tmp_path / "flat", cache=cache)
    write(tmp_path / "one", ["cat/1.png", "cat/2.png"])
    assert "only the class folder 'cat'" in refused(tmp_path / "one", cache=cache)
    write(tmp_path / "strange", [*names("train/"), *names("val/"), "val/emu/1.png"])
    assert "class 'emu' for validation but not for training" in refused(tmp_path / "strange", cache=cache)
    write(tmp_path / "few", names("", count=1))
    assert "leaves none to validate on" in refused(tmp_path / "few", cache=cache)
    write(tmp_path / "bad", names("train/", "test/"))
    (tmp_path / "bad" / "train/dog/1.png").write_bytes(image_bytes(0)[:100])
    assert "train/dog/1.png is not a readable image" in refused(tmp_path / "bad", cache=cache)


def test_damaged_and_compressed_archives_are_refused_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "tree", names("train/", "test/", count=20))
    archive = tmp_path / "tree.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "tree", arcname=".")
    cache = str(tmp_path / "cache")
    assert "unpack it" in refused(archive, crop="resized", cache=cache)
    assert "unpack it" in refused(archive, in_memory_limit_gb=1e-6, cache=cache)
    archive.write_bytes(archive.read_bytes()[:-5000])
    assert "cannot be read" in refused(archive, cache=cache)


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, compression: str) -> None:
    write(tmp_path / "tree", names("train/", "test/"))
    archive = tmp_path / "tree.tar"
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(tmp_path / "tree", arcname=".")
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        headers = [member.offset for member in tar]
    places = range(100, len(whole) - 200, 61) if compression else [*headers[1:], *(offset + 100 for offset in headers)]
    damaged = [whole[:place] for place in places]
    if not compression:
        damaged.append(whole[: headers[-1]] + b"x" * 512 + whole[headers[-1] + 512 :])
    for content in damaged:
        archive.write_bytes(content)
        message = refused(archive, cache=str(tmp_path / "cache"))
        assert "cannot be read" in message or "neither a folder nor a tar archive" in message


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("crop", "shift", "did you mean 'shifted'"),
        ("image_size", 0, "at least 1"),
        ("holdout", 1.0, "between 0 and 1"),
        ("mean", [0.5], "three numbers"),
        ("std", [0.0, 1.0, 1.0], "positive"),
    ],
)
def test_options_out_of_range_are_named(option: str, value: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as error:
        DATASETS.build("image_folder", **{option: value})
    assert option in str(error.value)
