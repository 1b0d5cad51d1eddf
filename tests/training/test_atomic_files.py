"""Files that are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgp_core.atomic_files import replace_file, write_json, write_text


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "note.json"
    write_json(path, {"step": 1}, durable=durable)
    with replace_file(path, durable=durable) as temporary:
        temporary.write_text('{"step": 2}')
        assert json.loads(path.read_text()) == {"step": 1}
    assert json.loads(path.read_text()) == {"step": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")

    def fail() -> None:
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.txt"]
