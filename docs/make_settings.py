"""Write docs/settings.md, the reference of all settings, from the comments in conf/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.hints import GROUPS
from launcher.config.launch_options import LaunchOptions
from launcher.config.make_plan import RunSettings
from launcher.config.manual import PRESETS, Manual, Option
from launcher.config.option_types import annotation, describe
from launcher.config.schema import LISTS, SECTIONS, AlgorithmOptions, choices, options_class

PAGE = Path(__file__).with_name("settings.md")
TOP = """\
# Settings

Everything that `sgp-train` can be told. Write `training.epochs=3` for a setting, `topology=ring` for a choice in a
group, and `topology.weights=metropolis` for an option of that choice. `sgp-train --help` shows the same in a terminal,
`sgp-train --help algorithm=osgp` one choice. `python docs/make_settings.py` writes this page from the comments in
`conf/`.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page."""
    manual = Manual()
    parts = [TOP, "## Groups", _groups(manual)]
    for section, words in manual.sections.items():
        if section not in GROUPS:
            cls: list[type[Any]] = [SECTIONS[section]] if section else [RunSettings, LaunchOptions]
            said = _sentence(words) if section else "Settings outside of any section."
            parts += [f"## {section or 'At the top'}\n\n{said}", _table(section, manual.section_options(section), cls)]
    for group, words in manual.groups.items():
        if group not in PRESETS:
            parts += [f"## {group}\n\n{_sentence(words)}", *_group(manual, group)]
    for setting, kind in LISTS.items():
        parts.append(
            f"## {kind}\n\nWhat may stand in the list `{setting}`, as in `[{{name: {choices(kind)[0]}, ...}}]`."
        )
        parts += _group(manual, kind)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _groups(manual: Manual) -> str:
    rows = ["| group | | usual choice |", "|---|---|---|"]
    for group, words in manual.groups.items():
        name = group if group in PRESETS else f"[{group}](#{group})"
        default = manual.default(group)
        rows.append(f"| {name} | {_cell(words)} | {'' if default == 'null' else f'`{default}`'} |")
    return "\n".join(rows)


def _group(manual: Manual, group: str) -> list[str]:
    """Return the choices of a group in a table, then a table of options for each that has some."""
    names = manual.choices(group) or choices(group)  # those of lists have no files
    rows = [f"| `{name}` | {_cell(manual.summary(group, name))} |" for name in names]
    parts = ["\n".join(["| choice | |", "|---|---|", *rows])]
    if group in GROUPS and (common := manual.section_options(group)):
        parts += [f"Options of every {group}:", _table(group, common, [AlgorithmOptions])]
    for name in names:
        if options := manual.options(group, name):
            section, of = (group, f"{group}={name}") if group in GROUPS else ("", name)
            parts += [f"Options of `{of}`:", _table(section, options, [options_class(group, name)])]
    return parts


def _table(section: str, options: Sequence[Option], classes: Sequence[type[Any]]) -> str:
    rows = ["| setting | default | type | |", "|---|---|---|---|"]
    for option in options:
        kind = describe(_type(option.name, classes))
        name = f"{section}.{option.name}".lstrip(".")
        rows.append(f"| `{name}` | `{option.default}` | {_cell(kind)} | {_cell(option.words)} |")
    return "\n".join(rows)


def _type(option: str, classes: Sequence[type[Any]]) -> Any:
    for cls in classes:
        try:
            return annotation(cls, option)
        except AttributeError:
            continue
    raise AttributeError(option)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}.".replace("<", "&lt;")


if __name__ == "__main__":
    main()
