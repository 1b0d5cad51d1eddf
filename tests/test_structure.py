"""The shape of the code: no circles between files, one class of a name, short files, documented and light modules.

The layers themselves are contracts in pyproject.toml, checked by ``lint-imports`` (``make lint``) and once more here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp
import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sgp_core", "launcher")
FILE_LINES = 350
FUNCTION_LINES = 70
"""Of code: a docstring may be as long as it has to."""

PRIVATE_ACCESSES = 16
"""How often tests still read private names of modules and objects. The number may only fall."""
_NOT_PRIVATE = re.compile(r"os\._exit|torch\.|torch$|dist\.distributed_c10d|.*\._replace$|.*\._asdict$")

LIGHT = (
    *("errors", "registry", "metrics", "plugins", "timeline", "compatibility"),
    *(
        "topology",
        "pacing",
        "compression",
        "algorithms",
        "clock",
        "transports.registry",
        "asynchronous.link_faults",
        "faults",
    ),
    *("tasks.kinds", "tasks.datasets", "tasks.models", "tasks.partitions", "tasks.sharding"),
    *("training.config", "training.optimizers", "training.schedules", "experiment"),
)
"""Modules that the launcher asks before there are workers. All their registries are filled for the test."""


@dataclass(frozen=True)
class Class:
    """A class as its file has it."""

    name: str
    file: str
    bases: tuple[str, ...]
    documented: dict[str, bool]
    """Its methods, and whether each has a docstring."""


@cache
def trees() -> dict[str, ast.Module]:
    """Return every file of the packages, parsed."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in files}


@cache
def classes() -> list[Class]:
    """Return every class of the packages."""
    found = []
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
                methods = (part for part in node.body if isinstance(part, ast.FunctionDef))
                documented: dict[str, bool] = {}
                for method in methods:  # a property's setter needs none
                    documented[method.name] = documented.get(method.name, False) or bool(ast.get_docstring(method))
                names = tuple(ast.unparse(base).rpartition(".")[2] for base in bases)
                found.append(Class(node.name, file, names, documented))
    return found


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every function below ``node`` with its name, which its class precedes."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.FunctionDef):
            yield f"{prefix}{part.name}", part
            yield from functions(part, f"{prefix}{part.name}.")
        else:
            yield from functions(part, f"{prefix}{part.name}." if isinstance(part, ast.ClassDef) else prefix)


def code_lines(function: ast.FunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


@cache
def import_graph() -> nx.DiGraph:
    """Return which module imports which, imports for type checking and inside functions included."""
    modules = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
    graph = nx.DiGraph()
    for module in modules.modules:
        graph.add_edges_from((module, other) for other in modules.find_modules_directly_imported_by(module))
    return graph


def test_no_circles_between_files() -> None:
    assert [sorted(group) for group in nx.strongly_connected_components(import_graph()) if len(group) > 1] == []


def test_layers() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_classes_of_one_name() -> None:
    files = defaultdict(set)
    for each in classes():
        files[each.name].add(each.file)
    assert {name: found for name, found in files.items() if len(found) > 1} == {}


def test_no_file_is_long() -> None:
    lengths = {file: len((ROOT / file).read_text().splitlines()) for file in trees()}
    assert {file: lines for file, lines in lengths.items() if lines > FILE_LINES} == {}


def test_no_function_is_long() -> None:
    lengths = {f"{file} {name}": code_lines(node) for file, tree in trees().items() for name, node in functions(tree)}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_public_methods_have_docstrings() -> None:
    """A method may leave it to the base class or the protocol that declares it. Ruff checks functions and classes."""
    by_name = {each.name: each for each in classes()}
    protocols = [each for each in classes() if "Protocol" in each.bases]
    declared = {method for each in protocols for method, documented in each.documented.items() if documented}

    def is_documented(name: str, method: str) -> bool:
        if name not in by_name:
            return name in _FOREIGN_BASES
        each = by_name[name]
        return each.documented.get(method, False) or any(is_documented(base, method) for base in each.bases)

    undocumented = {
        f"{each.name}.{method}"
        for each in classes()
        for method in each.documented
        if not each.name.startswith("_") and not method.startswith("_") and not is_documented(each.name, method)
    }
    assert {name for name in undocumented if name.partition(".")[2] not in declared} == set()


_FOREIGN_BASES = {"Dataset", "Module", "Optimizer", "Sampler"}
"""Classes of libraries whose documentation describes what the methods of a subclass do."""


def test_light_modules_import_without_torch() -> None:
    names = [f"sgp_core.{name}" for name in LIGHT if _exists(name)]
    script = f"""
import importlib, sys
from sgp_core.registry import Registry
for name in {names}:
    module = importlib.import_module(name)
    for value in list(vars(module).values()):
        if isinstance(value, Registry):
            value.names()
print(*sorted({{"torch", "torchvision", "sklearn", "hydra", "omegaconf", "submitit"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def _exists(name: str) -> bool:
    path = ROOT / "sgp_core" / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def private_accesses() -> list[str]:
    """Return where tests read a private name of a module or an object that is not their own."""
    found = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                text = ast.unparse(node)
                if not text.startswith(("self._", "cls._")) and not _NOT_PRIVATE.match(text):
                    found.append(f"{where} {text}")
            elif isinstance(node, ast.ImportFrom):
                found += [f"{where} {alias.name}" for alias in node.names if re.match(r"_[a-z]", alias.name)]
    return found


def test_tests_do_not_reach_into_private_names() -> None:
    found = private_accesses()
    assert len(found) <= PRIVATE_ACCESSES, "\n".join(found)


@pytest.mark.parametrize("text", ["x._y", "from a import _b"])
def test_private_names_are_recognised(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(f"{text}\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert len(private_accesses()) == 1
