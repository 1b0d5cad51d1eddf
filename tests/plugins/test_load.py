"""Plug-ins are found, imported once, and refused in one sentence that names the file and the line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sgp_core.errors import ConfigurationError
from sgp_core.pacing import PACES
from sgp_core.plugins import (
    Plugin,
    PluginKind,
    load_plugins,
    load_recorded_plugins,
    loaded_plugins,
    registrations_of,
    source_files,
)
from sgp_core.training.schedules import SCHEDULES
from tests.support.plugins import install_package

PACE = """from dataclasses import dataclass

from sgp_core.pacing import PACES, Pace


@PACES.register("{name}")
@dataclass(frozen=True)
class Own(Pace):
    every: int = {default}
"""


def write(path: Path, name: str = "own_pace", default: int = 3) -> Path:
    """Write a plug-in that registers a pace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PACE.format(name=name, default=default))
    return path


def package(folder: Path, name: str) -> Path:
    """Write a package whose module ``parts`` registers a pace with a default from another of its modules."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "numbers.py").write_text("DEFAULT = 7\n")
    (folder / name / "notes.txt").write_text("not code\n")
    parts = write(folder / name / "parts.py", f"{name}_pace")
    text = parts.read_text().replace("= 3", "= DEFAULT")
    parts.write_text(f"from {name}.numbers import DEFAULT\n{text}")
    return folder / name


def default_of(name: str) -> object:
    return PACES.options(name)["every"].default


# -- finding ----------------------------------------------------------------------------------------------------------
def test_a_file_is_recorded_with_its_absolute_path_and_hash(here: Path) -> None:
    path = write(here / "my_pace.py")
    [plugin] = load_plugins(["./my_pace.py"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert plugin == Plugin("./my_pace.py", str(path), digest, PluginKind.file)
    assert Plugin.from_dict(plugin.to_dict()) == plugin
    assert default_of("own_pace") == 3
    assert not (here / "__pycache__").exists()


def test_a_package_in_the_current_directory_is_found_and_hidden_from_sys_path(here: Path) -> None:
    folder, path = package(here, "local_parts"), list(sys.path)
    [plugin] = load_plugins(["local_parts.parts"])
    assert (plugin.path, plugin.kind) == (str(folder), PluginKind.module)
    assert default_of("local_parts_pace") == 7
    assert sys.path == path


def test_a_folder_without_init_is_a_package_too(here: Path) -> None:
    write(here / "plain_folder" / "parts.py")
    load_plugins(["plain_folder.parts"])
    assert default_of("own_pace") == 3


def test_the_hash_of_a_package_covers_all_its_code(here: Path) -> None:
    folder = package(here, "hashed_parts")
    [before] = load_plugins(["hashed_parts.parts"])
    (folder / "notes.txt").write_text("still not code\n")
    assert load_plugins(["hashed_parts.parts"]) == [before]
    (folder / "numbers.py").write_text("DEFAULT = 8888\n")
    [after] = load_plugins(["hashed_parts.parts"])
    assert after.sha256 != before.sha256
    assert default_of("hashed_parts_pace") == 8888
    assert {file.name for file in source_files(folder)} == {"__init__.py", "numbers.py", "notes.txt", "parts.py"}


def test_installed_packages_are_loaded_by_their_entry_points(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install_package(here / "site", "installed_parts")
    monkeypatch.syspath_prepend(here / "site")
    [plugin] = load_plugins([])
    assert (plugin.name, plugin.path, plugin.kind) == ("installed_parts.parts", str(folder), PluginKind.entry_point)
    assert load_plugins(["installed_parts.parts"]) == [plugin]
    assert SCHEDULES.options("installed_parts_schedule")["slope"].default == 0.5


# -- loading ----------------------------------------------------------------------------------------------------------
def test_loading_twice_is_harmless(here: Path) -> None:
    write(here / "my_pace.py")
    first = load_plugins(["./my_pace.py"])
    cls = PACES.get("own_pace")
    (here / "copy").mkdir()
    (here / "copy" / "my_pace.py").write_text((here / "my_pace.py").read_text())
    assert load_plugins([here / "my_pace.py", "my_pace.py"])[0].path == first[0].path
    load_plugins(["copy/my_pace.py"])
    load_recorded_plugins(first)
    assert PACES.get("own_pace") is cls


def test_code_that_has_changed_is_loaded_anew(here: Path) -> None:
    path = write(here / "my_pace.py")
    [before] = load_plugins([path])
    write(path, default=5)
    [after] = load_recorded_plugins([before])
    assert (after.path, after.name) == (before.path, before.name)
    assert after.sha256 != before.sha256
    assert default_of("own_pace") == 5


def test_a_recorded_package_is_imported_from_its_path_wherever_the_process_is(here: Path) -> None:
    package(here, "recorded_parts")
    [plugin] = load_plugins(["recorded_parts.parts"])
    (here / "elsewhere").mkdir()
    program = """if True:
        import json, sys
        from sgp_core.pacing import PACES
        from sgp_core.plugins import Plugin, load_recorded_plugins

        load_recorded_plugins([Plugin.from_dict(json.loads(sys.argv[1]))])
        assert "recorded_parts_pace" in PACES.names()
        assert "torch" not in sys.modules
    """
    command = [sys.executable, "-c", program, json.dumps(plugin.to_dict())]
    subprocess.run(command, cwd=here / "elsewhere", check=True)


def test_what_a_plugin_registers_is_known_and_the_parts_of_this_package_are_not_among_it(here: Path) -> None:
    write(here / "my_pace.py")
    [plugin] = load_plugins(["./my_pace.py"])
    assert [(part.registry.kind, part.name) for part in registrations_of([plugin])] == [("pace", "own_pace")]


# -- mistakes ---------------------------------------------------------------------------------------------------------
NOT_A_DATACLASS = PACE.format(name="own_pace", default=1).replace("@dataclass(frozen=True)\n", "")
BROKEN = {
    "def f(:\n": r":1: SyntaxError: invalid syntax",
    "import math\n\nmath.pie\n": r":3: AttributeError: module 'math' has no attribute 'pie'",
    "import no_such_library\n": r":1: ModuleNotFoundError: No module named 'no_such_library'",
    "raise SystemExit(3)\n": r":1: SystemExit: 3",
    "raise ValueError('one\\ntwo')\n": r":1: ValueError: one",
    PACE.format(name="every", default=1): r":6: pace 'every' is registered already, by Every in /.*/every\.py",
    NOT_A_DATACLASS: r":6: pace 'own_pace': Own is not a dataclass; write @dataclass below the line that registers it",
}


@pytest.mark.parametrize("code", BROKEN, ids=lambda code: code.splitlines()[0])
def test_a_broken_plugin_is_one_sentence_with_file_and_line(code: str, here: Path) -> None:
    (here / "broken.py").write_text(code)
    with pytest.raises(ConfigurationError, match=rf"^plug-in broken\.py{BROKEN[code]}$"):
        load_plugins(["./broken.py"])
    assert not loaded_plugins()


def test_after_a_mistake_is_mended_the_plugin_loads(here: Path) -> None:
    path = write(here / "my_pace.py")
    whole = path.read_text()
    path.write_text(f"{whole}\n1 / 0\n")
    with pytest.raises(ConfigurationError, match=r"my_pace\.py:\d+: ZeroDivisionError"):
        load_plugins([path])
    path.write_text(whole)
    load_plugins([path])
    assert default_of("own_pace") == 3


def test_two_plugins_that_take_one_name_are_told_apart(here: Path) -> None:
    write(here / "one.py")
    write(here / "two.py", default=4)
    with pytest.raises(ConfigurationError, match=r"plug-in two\.py:6: .*already, by Own in .*/one\.py"):
        load_plugins(["one.py", "two.py"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./my_pase.py", r"plug-in \./my_pase\.py: there is no such file; did you mean 'my_pace\.py'\?"),
        (
            "no_such_package.models",
            r"plug-in 'no_such_package\.models': no module .* is installed or in /.*",
        ),
        ("my_pace/", r"plug-in 'my_pace/' is neither a module \(my_package\.models\) nor a file \(\./my_model\.py\)"),
        ("my_pace.missing", r"plug-in my_pace\.missing: ModuleNotFoundError: No module named 'my_pace\.missing'.*"),
    ],
)
def test_a_missing_plugin_is_one_sentence(name: str, message: str, here: Path) -> None:
    write(here / "my_pace.py")
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        load_plugins([name])


def test_a_recorded_plugin_that_is_gone_is_named(here: Path) -> None:
    path = write(here / "my_pace.py")
    [plugin] = load_plugins([path])
    path.unlink()
    with pytest.raises(ConfigurationError, match=r"plug-in .*my_pace\.py: /.*/my_pace\.py is gone"):
        load_recorded_plugins([plugin])
