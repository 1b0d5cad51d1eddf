"""``sgp-train --help``: everything that can be chosen and set, or one choice, group, section or setting by itself."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config import hints
from launcher.config.hints import GROUPS
from launcher.config.launch_options import LaunchOptions
from launcher.config.make_plan import RunSettings
from launcher.config.manual import PRESETS, Manual, Option, docstring, is_choice_of_ours, sources
from launcher.config.option_types import annotation, describe, enum_of
from launcher.config.schema import LISTS, SECTIONS, AlgorithmOptions, choices, options_class
from sgp_core.errors import ConfigurationError

NARROW, WIDE = 80, 100
_FAMILY = 4
_KEEP = "\N{NO-BREAK SPACE}"  # a space at which no line ends
"""So many experiments whose names begin alike are shown as one family."""

USAGE = """\
sgp-train: decentralised data-parallel training by Stochastic Gradient Push

  sgp-train [GROUP=CHOICE ...] [SETTING=VALUE ...]     train
  sgp-train -m SETTING=VALUE,VALUE ...                 sweep: every combination
  sgp-train --help GROUP | GROUP=CHOICE | SETTING      explain these
  sgp-train ... --cfg job                              show settings, run none"""

EXAMPLES = """\
  sgp-train                                            four workers, digits
  sgp-train algorithm=dpsgd topology=ring              other choices
  sgp-train training.epochs=3 optimizer.lr=0.1         other settings
  sgp-train -m seed=0,1,2 algorithm=sgp,allreduce      a sweep of six runs
  sgp-train cluster=slurm cluster.nodes=4 dry_run=true what sbatch would get
  sgp-train --help algorithm=osgp                      what a choice is

  Run folders are runs/<run-id>/. The same command again resumes, or says the
  run is complete. sgp lists, follows, compares and draws runs: sgp --help.
  Exit codes: 0 every run ok, 1 a run failed, 2 bad configuration, 3 submission
  failed, 130 interrupted (143: by SIGTERM).
  Completion: eval "$(sgp-train -sc install=bash)\""""


def print_help(topics: Sequence[str], manual: Manual) -> None:
    """Print what there is to say about ``topics``, or about everything if there are none.

    Raises:
        ConfigurationError: there is no such group, choice or setting.
    """
    width = min(max(shutil.get_terminal_size((NARROW, 24)).columns, 60), WIDE)
    text = "\n\n".join(explain(topic, manual, width) for topic in topics) if topics else overview(manual, width)
    if sys.stdout.isatty():
        text = re.sub(r"^(\S.*)$", "\033[1m\\1\033[0m", text, flags=re.MULTILINE)
    print(text)


def overview(manual: Manual, width: int = NARROW) -> str:
    """Return the groups with their choices, and every setting of the usual choices."""
    groups = [row for group, words in manual.groups.items() for row in _group_rows(manual, group, words)]
    parts = [USAGE, "Choices, the usual one first\n" + _table(groups, 14, width)]
    parts.append("Settings with their defaults, as in training.epochs=3 optimizer.lr=0.1")
    for section, words in manual.sections.items():
        if section not in GROUPS:
            title = f"{section}.NAME: {words}" if section else "NAME, in no section"
            parts.append(f"{title}\n{_options(manual.section_options(section), width)}")
    for group in manual.groups:
        choice = manual.default(group)
        if group not in PRESETS and (options := [*manual.section_options(group), *manual.options(group, choice)]):
            parts.append(f"{group}.NAME, with {group}={choice}\n{_options(options, width)}")
    return "\n\n".join([*parts, f"Examples\n{EXAMPLES}"])


def explain(topic: str, manual: Manual, width: int = NARROW) -> str:
    """Return what there is to say about one word of the command line.

    Raises:
        ConfigurationError: there is no such group, choice or setting.
    """
    name, _, value = topic.lstrip("+~").partition("=")
    section, _, option = name.rpartition(".")
    if name in manual.groups:
        chosen = [choice for choice in value.split(",") if choice not in ("", "null")]
        if chosen:
            return "\n\n".join(explain_choice(name, choice, manual, width) for choice in chosen)
        beside = [explain_section(name, manual, width)] if name in SECTIONS else []
        return "\n\n".join([explain_group(name, manual, width), *beside])
    if name in SECTIONS:
        return explain_section(name, manual, width)
    if section in GROUPS:
        common = [one for one in manual.section_options(section) if one.name == option]
        if common:
            return f"{section}.{option}\n{_with_types(common, AlgorithmOptions, width)}"
        found = [(of, one) for of in _choices_with(section, option, manual) for one in manual.options(section, of)]
        parts = [
            f"{section}.{option} of {section}={of}\n{_with_types([one], options_class(section, of), width)}"
            for of, one in found
            if one.name == option
        ]
        if parts:
            return "\n\n".join(parts)
    elif section in manual.sections:
        cls = SECTIONS[section] if section else _AtTheTop
        options = [one for one in manual.section_options(section) if one.name == option]
        if options:
            return "\n\n".join([f"{name}\n{_with_types(options, cls, width)}", *_entries(name, manual, width)])
    raise ConfigurationError(hints.explain_setting(name, _known_settings(manual)))


def _entries(name: str, manual: Manual, width: int) -> Iterator[str]:
    """Yield what can stand in the list that a setting is, with its options."""
    group = LISTS.get(name, "")
    for entry in choices(group) if group else []:
        lines = [f"{name}=[{{name: {entry}, ...}}]", *_paragraph(manual.summary(group, entry), width)]
        yield "\n".join([*lines, _with_types(manual.options(group, entry), options_class(group, entry), width)])


def explain_group(group: str, manual: Manual, width: int = NARROW) -> str:
    """Return every choice of a group with a few words."""
    names = [name.partition(" ")[0] for name in _listed(manual, group)] if group != "experiment" else []
    rows = [(name, manual.summary(group, name)) for name in names] or list(_experiments(manual))
    return (
        f"{group}: {manual.groups[group]}\n{_table(rows, 26, width)}\n\n"
        f"  sgp-train --help {group}={rows[-1][0].removesuffix('[_small]')} tells more of one."
    )


def explain_section(name: str, manual: Manual, width: int = NARROW) -> str:
    """Return every option of a section with what it does, its type and default."""
    return f"{name}.NAME: {manual.sections[name]}\n{_with_types(manual.section_options(name), SECTIONS[name], width)}"


def explain_choice(group: str, name: str, manual: Manual, width: int = NARROW) -> str:
    """Return what a choice is, and its options with what they do, their types and defaults.

    Raises:
        ConfigurationError: there is no such choice.
    """
    if name not in manual.choices(group):
        raise ConfigurationError(hints.explain_choice(group, name, manual.choices(group)))
    lines = [f"{group}={name}", *_paragraph(manual.summary(group, name), width)]
    if group in PRESETS:
        return "\n".join([*lines, "", textwrap.indent(manual.text(group, name).strip(), "    ")])
    options = manual.options(group, name)
    cls = options_class(group, name) if is_choice_of_ours(group, name) else None
    for paragraph in [*docstring(cls).split("\n\n"), *sources(cls)] if cls is not None else []:
        lines += ["", *_paragraph(paragraph, width)] if paragraph else []
    if options:
        lines += ["", _with_types(options, cls, width)]
    if common := manual.section_options(group):
        lines += ["", f"  as every {group}:", _with_types(common, AlgorithmOptions, width)]
    return "\n".join(lines)


def _group_rows(manual: Manual, group: str, words: str) -> list[tuple[str, str]]:
    return [(group, words), ("", ", ".join(_listed(manual, group)))]


def _listed(manual: Manual, group: str) -> list[str]:
    """Return the choices of a group, its default first; experiments by families."""
    names = manual.choices(group)
    if group == "experiment":
        return [item.replace(" ", _KEEP) for item in fold_families(names)]
    default = manual.default(group)
    return [default, *(name for name in names if name != default)] if default in names else names


def fold_families(names: Sequence[str]) -> Iterator[str]:
    """Yield experiments by name, and many whose names begin alike as one: ``cifar10_... (20)``."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("_")[0], []).append(name)
    large = {begin: members for begin, members in families.items() if len(members) >= _FAMILY}
    yield from (name for begin, members in families.items() if begin not in large for name in members)
    yield from (f"{begin}_... ({len(members)})" for begin, members in large.items())


def _experiments(manual: Manual) -> Iterator[tuple[str, str]]:
    """Yield every experiment with the first sentence of its file, its small twin in brackets."""
    names = manual.choices("experiment")
    for name in names:
        if name.removesuffix("_small") not in names or not name.endswith("_small"):
            twin = "[_small]" if f"{name}_small" in names else ""
            yield f"{name}{twin}", re.split(r"(?<! al)\. ", manual.summary("experiment", name))[0].rstrip(".")


def _choices_with(group: str, option: str, manual: Manual) -> list[str]:
    """Return the usual choice if it has an option of that name, else all choices that have it."""
    names = [name for name in manual.choices(group) if option in {one.name for one in manual.options(group, name)}]
    return [manual.default(group)] if manual.default(group) in names else names


def _known_settings(manual: Manual) -> hints.KnownSettings:
    """Return the settings that exist under the usual choices."""
    values: dict[str, str] = dict.fromkeys(manual.groups, "")
    for section in manual.sections:
        values |= {f"{section}.{one.name}".lstrip("."): one.default for one in manual.section_options(section)}
    chosen = {group: manual.default(group) for group in manual.groups}
    for group in GROUPS:
        values |= {f"{group}.{one.name}": one.default for one in manual.options(group, chosen[group])}
    return hints.KnownSettings(values, chosen)


@dataclass(frozen=True)
class _AtTheTop(RunSettings, LaunchOptions):
    """The types of all settings that stand outside of any section."""


def _with_types(options: Iterable[Option], cls: type[Any] | None, width: int) -> str:
    rows = []
    for option in options:
        kind = _describe_type(option, cls) if cls is not None else ""
        rows.append((f"{option.name}={option.default}", f"{option.words}{kind}".strip()))
    return _table(rows, 28, width)


def _describe_type(option: Option, cls: type[Any]) -> str:
    """Return the type of an option in brackets, unless its default and the words say it already."""
    kind = annotation(cls, option.name)
    enum = enum_of(kind)
    if kind is bool or (enum is not None and all(str(one.value) in option.words for one in enum)):
        return ""
    return f" [{describe(kind)}]"


def _paragraph(text: str, width: int) -> list[str]:
    """Return a paragraph in lines; formulas and code, which are indented, stay as they are."""
    if text.startswith("  "):
        return [f"  {line}" for line in text.splitlines()]
    return textwrap.wrap(text, width - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _options(options: Iterable[Option], width: int) -> str:
    return _table([(f"{option.name}={option.default}", option.words) for option in options], 28, width)


def _table(rows: Iterable[tuple[str, str]], left: int, width: int) -> str:
    """Return two columns; what is too long for the left one stands on a line of its own."""
    lines = []
    for name, words in rows:
        wrapped = textwrap.wrap(words, width - left - 2, break_on_hyphens=False) or [""]
        if len(name) >= left:
            lines.append(f"  {name}")
            name = ""
        for number, text in enumerate(wrapped):
            lines.append(f"  {'' if number else name:{left}}{text.replace(_KEEP, ' ')}".rstrip())
    return "\n".join(lines)
