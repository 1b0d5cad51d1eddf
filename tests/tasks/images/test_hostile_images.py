"""Files that are damaged, missing or no images: each is named in one sentence, and nothing hangs or is left out."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.classification import ImageClassification
from sgp_core.tasks.images.reading import reason_of

NAMES = [f"{split}/{label}/{number}.png" for split in ("train", "val") for label in ("cat", "dog") for number in (1, 2)]


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(256, size=(16, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def huge_png(side: int) -> bytes:
    """Return a black image that takes little space in its file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
    return tmp_path / "tree"


def load(path: Path, **options: object) -> ImageClassification:
    choice = DATASETS.build(
        "image_folder", **{"path": str(path), "image_size": 16, "cache": str(path.parent / "cache"), **options}
    )
    choice.check()
    task: ImageClassification = choice.load()
    return task


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(path, **options)
    assert "\n" not in str(error.value)
    str(error.value).encode()  # it can be printed and written to JSON
    return str(error.value)


def replace(tree: Path, content: bytes) -> None:
    (tree / "train/dog/1.png").write_bytes(content)


def loop(tree: Path) -> None:
    (tree / "train/cat/up").symlink_to("..")


def loop_to_itself(tree: Path) -> None:
    (tree / "train/emu").symlink_to("emu")


def dangle(tree: Path) -> None:
    (tree / "train/cat/3.png").symlink_to("/nowhere/3.png")


def unmounted(tree: Path) -> None:
    (tree / "train/emu").symlink_to("/nowhere/emu")


def pipe(tree: Path) -> None:
    os.mkfifo(tree / "train/cat/3.png")


def wrong_checksum(tree: Path) -> None:
    content = bytearray(png())
    content[content.index(b"IDAT") + 20] ^= 1
    replace(tree, bytes(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (loop, "train/cat/up is a link to a folder that it lies in: remove it"),
        (loop_to_itself, "train/emu is a link to emu, which is not there"),
        (dangle, "train/cat/3.png is a link to /nowhere/3.png, which is not there"),
        (unmounted, "train/emu is a link to /nowhere/emu, which is not there"),
        (pipe, "train/cat/3.png is not a file"),
        (lambda tree: replace(tree, b"no image"), "dog/1.png is not a readable image: it begins like none"),
        (lambda tree: replace(tree, b""), "dog/1.png is not a readable image: it begins like none"),
        (lambda tree: replace(tree, png()[:-20]), "dog/1.png is not a readable image: its end is missing"),
        (wrong_checksum, "dog/1.png is not a readable image: damaged at byte 33 of"),
        (lambda tree: replace(tree, huge_png(13_000)), "1.png has 13000 x 13000 pixels, more than 89 million"),
        (lambda tree: replace(tree, huge_png(60_000)), "dog/1.png is not a readable image: Image size"),
    ],
)
@pytest.mark.parametrize("crop", ["shifted", "resized"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_named(tree: Path, spoil: Callable[[Path], None], message: str, crop: str) -> None:
    spoil(tree)
    try:
        task = load(tree, crop=crop)
    except ConfigurationError:
        assert message in refusal(tree, crop=crop)
    else:  # files are read batch by batch
        with pytest.raises(ConfigurationError) as error:
            task.train.batch(torch.arange(len(task.train)), torch.Generator())
        assert message in str(error.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_large_image_is_refused_before_it_is_decoded(tree: Path) -> None:
    replace(tree, huge_png(13_000))
    tracemalloc.start()
    refusal(tree)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6


def test_a_pipe_in_place_of_a_listed_file_does_not_hang(tree: Path) -> None:
    task = load(tree, crop="resized")
    (tree / "train/dog/1.png").unlink()
    os.mkfifo(tree / "train/dog/1.png")
    with pytest.raises(ConfigurationError, match=r"dog/1.png is not a file"):
        task.train.batch(torch.arange(len(task.train)))


@pytest.mark.parametrize("crop", ["shifted", "resized"])
def test_names_need_not_be_text(tree: Path, crop: str) -> None:
    os.rename(tree / "train/dog/1.png", os.fsencode(tree / "train/dog") + b"/\xff\n1.png")
    task = load(tree, crop=crop)
    task.train.batch(torch.arange(4))
    assert len(task.train) == 4
    with open(os.fsencode(tree / "train/dog") + b"/\xff\n1.png", "wb") as file:
        file.write(b"no image")
    if crop == "shifted":
        assert r"train/dog/\xff\n1.png is not a readable image" in refusal(tree)


def test_a_class_need_not_be_text(tree: Path) -> None:
    os.rename(tree / "val/dog", os.fsencode(tree) + b"/val/\xff")
    assert r"has the class '\xff' for validation but not for training" in refusal(tree)


def test_links_to_folders_and_other_files_do_no_harm(tree: Path) -> None:
    (tree / "train/bird").symlink_to("../val/dog")
    (tree / "val/bird").symlink_to("../val/dog")
    (tree / "train/notes.txt").symlink_to("/nowhere")
    os.mkfifo(tree / "train/cat/pipe")
    assert (len(load(tree).train), load(tree).num_classes) == (6, 3)


def test_reasons_fit_into_a_line() -> None:
    assert reason_of(ValueError("no float: 'J\0\ud800\xff'\n")) == r"no float: 'J\x00\ud800ÿ'"
    assert reason_of(PermissionError(13, "Permission denied", "/secret")) == "Permission denied"
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(ValueError("x" * 10_000))) == 150


def pack(tree: Path, mode: str = "w") -> Path:
    archive = tree.with_suffix(".tar")
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for name in NAMES:
            tar.add(tree / name, arcname=name)
    return archive


def offsets(archive: Path) -> list[int]:
    with tarfile.open(archive) as tar:
        return [member.offset for member in tar]


def test_an_archive_without_its_end_is_refused(tree: Path) -> None:
    archive = pack(tree)
    whole = archive.read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512
    for length in (*offsets(archive)[1:], end, end + 512):
        archive.write_bytes(whole[:length])
        assert "damaged or incomplete" in (said := refusal(archive)) or "its end is missing" in said
    archive.write_bytes(whole[: end + 1024])
    assert len(load(archive).train) == 4


def test_an_archive_that_seems_to_end_in_the_middle_is_refused(tree: Path) -> None:
    archive = pack(tree)
    whole = archive.read_bytes()
    for offset in offsets(archive)[1:]:
        archive.write_bytes(whole[:offset] + bytes(512) + whole[offset + 512 :])
        assert f"it goes on after its end at {offset} bytes" in refusal(archive)
    archive.write_bytes(whole + whole)
    assert "two archives in one file" in refusal(archive)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_the_checksums_of_a_compressed_archive_are_checked(tree: Path, mode: str) -> None:
    archive = pack(tree, mode)
    whole = archive.read_bytes()
    for place in range(8, len(whole), len(whole) // 40):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert len(load(archive).train) == 4  # the bit meant nothing, such as the name in a gzip header
        except ConfigurationError:
            assert "cannot be read" in (said := refusal(archive)) or "neither a folder nor" in said
    for length in range(len(whole) - 12, len(whole)):
        archive.write_bytes(whole[:length])
        assert "cannot be read" in (said := refusal(archive)) or "neither a folder nor" in said


def test_a_published_checksum_is_compared(tree: Path) -> None:
    archive = pack(tree)
    published = tree.with_suffix(".tar.sha256")
    published.write_text(hashlib.sha256(archive.read_bytes()).hexdigest().upper() + "  tree.tar\n")
    assert len(load(archive).train) == 4
    published.write_text("0" * 64)
    os.utime(archive, ns=(1, 1))  # other times: what is in the cache no longer counts
    assert "tree.tar is not the archive that tree.tar.sha256 was made for: its SHA-256 begins" in refusal(archive)
    published.write_text("none")
    assert "tree.tar.sha256 does not begin with 64 hexadecimal digits" in refusal(archive)


def test_links_in_an_archive_are_not_left_out(tree: Path) -> None:
    os.link(tree / "train/cat/1.png", tree / "train/cat/9.png")
    archive = tree.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(tree, arcname=".")
    assert "9.png in" in (said := refusal(archive)) or "1.png in" in said
    assert "is a link: unpack the archive" in said


def test_only_archives_that_fit_are_kept_in_memory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tree, "w:gz")
    monkeypatch.setattr("sgp_core.tasks.images.archive._REMEMBERED", archive.stat().st_size + 2000)
    few = load(archive, cache=str(tree.parent / "one"))
    whole = load(tree)
    assert torch.equal(few.train.batch(torch.arange(4))[0], whole.train.batch(torch.arange(4))[0])


def test_a_bomb_is_refused_by_its_size(tree: Path) -> None:
    archive = pack(tree)
    member = tarfile.TarInfo("train/cat/3.png")
    member.size = 2**31
    content = archive.read_bytes()[: offsets(archive)[-1]] + member.tobuf() + bytes(2**20)
    archive.write_bytes(content)
    assert "3.png in" in (said := refusal(archive))
    assert "has 2147483648 bytes: too many for an image" in said
