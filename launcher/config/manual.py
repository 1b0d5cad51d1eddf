"""The manual of all settings: what the comments in the settings files say of every choice and option.

The files are the one source of ``--help`` and of docs/settings.md. Parts of plug-ins, which may have no file, are
explained by the docstrings of their dataclasses.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.resources
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from launcher.config.choice import option_fields
from launcher.config.schema import CONFIG_MODULE, choices, options_class
from sgp_core.registry import Registration
from sgp_core.training.settings import plain

PRESETS = ("experiment", "debug")
"""Folders of files that make several choices at once."""


@dataclass(frozen=True)
class Option:
    """An option as the manual has it."""

    name: str
    """Without its section."""
    default: str
    """As users write it."""
    words: str
    """What it does."""


@dataclass(frozen=True)
class SettingsFile:
    """The comments of a settings file."""

    summary: str
    """What the choice is."""
    words: dict[str, str]
    """The comment on every line that has one, by the key, sections joined by dots."""
    values: dict[str, str]
    """The value of every key that has no section below it, as users write it."""


def read_comments(text: str) -> SettingsFile:
    """Return what the comments of a settings file say."""
    lines = text.splitlines()
    heading = itertools.takewhile(lambda line: line.startswith("#"), lines)
    summary = " ".join(line.lstrip("# ") for line in heading if not line.startswith("# @package"))
    words: dict[str, str] = {}
    values: dict[str, str] = {}
    for name, key, value in _entries(yaml.compose(text)):
        in_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = key.end_mark if in_block else value.end_mark
        if comment := re.search(r"\s#\s(.*)$", lines[mark.line][mark.column :]):
            words[name] = comment[1].strip()
        if not (in_block and isinstance(value, yaml.MappingNode)):
            values[name] = _in_one_line(
                " " * value.start_mark.column + text[value.start_mark.index : value.end_mark.index]
            )
    return SettingsFile(summary or words.get("name", ""), words, values)


def _entries(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every key of a file with the nodes of key and value; entries of lists of choices are keys, too."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key, value
            if isinstance(value, yaml.CollectionNode) and not value.flow_style:
                yield from _entries(value, f"{name}.")
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _entries(item, prefix)


def _in_one_line(text: str) -> str:
    value = yaml.safe_load(text)
    if isinstance(value, list | dict):
        return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip()
    return text.strip()


@dataclass(frozen=True)
class Manual:
    """What there is to choose and to set, and what is said of it.

    Args:
        folders: of settings files, in the order in which a file is looked for.
        parts: what plug-ins have registered.
    """

    folders: Sequence[Traversable] = field(default_factory=lambda: [importlib.resources.files(CONFIG_MODULE)])
    parts: Sequence[Registration] = ()

    @cached_property
    def config(self) -> SettingsFile:
        """The file that lists all groups and sections."""
        file = self._file("config")
        assert file is not None
        return file

    @property
    def groups(self) -> dict[str, str]:
        """Every group, presets included, with what it decides."""
        names = [name for name in self.config.values if re.fullmatch(r"defaults\.[a-z]+", name)]
        return {name.partition(".")[2]: self.config.words.get(name, "") for name in names}

    def default(self, group: str) -> str:
        """Return the choice that is made where none is asked for; ``null`` for presets."""
        return self.config.values[f"defaults.{group}"]

    def choices(self, group: str) -> list[str]:
        """Return the names that can be chosen in a group, sorted."""
        places = [folder.joinpath(group) for folder in self.folders]
        files = [file for place in places if place.is_dir() for file in place.iterdir()]
        names = {file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")}
        return sorted(names | {part.name for part in self.parts if part.registry.kind == group})

    def summary(self, group: str, name: str) -> str:
        """Return what a choice is, in a few words."""
        file = self._file(f"{group}/{name}")
        if file is not None:
            return file.summary
        return next(iter(docstring(options_class(group, name)).split("\n\n")), "").replace("\n", " ")

    def options(self, group: str, name: str) -> list[Option]:
        """Return the options of a choice."""
        file = self._file(f"{group}/{name}")
        if file is not None:
            names = [option for option in file.values if option != "name" and "." not in option]
            return [Option(option, file.values[option], file.words.get(option, "")) for option in names]
        cls = options_class(group, name)
        words = field_docstrings(cls)
        return [
            Option(option, _written_default(entry), words.get(option, ""))
            for option, entry in option_fields(cls).items()
        ]

    def text(self, group: str, name: str) -> str:
        """Return the settings file of a preset, comments left out."""
        file = self._find(f"{group}/{name}")
        lines = file.read_text(encoding="utf-8").splitlines() if file is not None else []
        return "\n".join(line for line in lines if not line.startswith("#"))

    @property
    def sections(self) -> dict[str, str]:
        """Every section of fixed options, with what is said of it; the options at the top have the empty name."""
        names = {name.partition(".")[0] for name in self.config.values if "." in name}
        found = [name for name in dict.fromkeys(map(_section, self.config.values)) if name in {*names, ""}]
        return {name: self.config.words.get(name, "") for name in found if name not in ("defaults", "hydra")}

    def section_options(self, section: str) -> list[Option]:
        """Return the options of a section of fixed options; those at the top for the empty name."""
        prefix = f"{section}." if section else ""
        names = [name for name in self.config.values if _section(name) == section]
        return [
            Option(name.removeprefix(prefix), self.config.values[name], self.config.words.get(name, ""))
            for name in names
            if name not in ("defaults", "hydra")
        ]

    def _find(self, name: str) -> Traversable | None:
        files = (folder.joinpath(f"{name}.yaml") for folder in self.folders)
        return next((file for file in files if file.is_file()), None)

    def _file(self, name: str) -> SettingsFile | None:
        file = self._find(name)
        return read_comments(file.read_text(encoding="utf-8")) if file is not None else None


def _section(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""


def _written_default(entry: dataclasses.Field[Any]) -> str:
    if entry.default_factory is not dataclasses.MISSING:
        value = plain(entry.default_factory())
    else:
        value = "???" if entry.default is dataclasses.MISSING else plain(entry.default)
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def is_choice_of_ours(group: str, name: str) -> bool:
    """Return whether a name has a dataclass; a settings file of a user's may have another name."""
    return group not in PRESETS and name in choices(group)


# -- docstrings -------------------------------------------------------------------------------------------------------
def docstring(cls: type[Any]) -> str:
    """Return what a class says of itself, up to a list of arguments or errors; empty if it says nothing."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    if text.startswith(f"{cls.__name__}("):  # made by dataclass
        return ""
    return re.split(r"\n(?:Args|Raises|Attributes):\n", text)[0].replace("``", "").replace("::\n", ":\n").strip()


def sources(cls: type[Any]) -> list[str]:
    """Return the paragraphs of its file's docstring that name a publication."""
    text = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")
    return [paragraph for paragraph in text.split("\n\n") if re.search(r",\s\w+\s(?:19|20)\d\d\b", paragraph)]


def field_docstrings(cls: type[Any]) -> dict[str, str]:
    """Return the string below every field of a dataclass, its bases included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, SyntaxError, ValueError):  # its file is gone
            continue
        assert isinstance(definition, ast.ClassDef)
        for entry, below in itertools.pairwise(definition.body):
            if isinstance(entry, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(entry.target, ast.Name):
                text = ast.literal_eval(below.value) if isinstance(below.value, ast.Constant) else None
                if isinstance(text, str):
                    found[entry.target.id] = " ".join(text.replace("``", "").split())
    return found
