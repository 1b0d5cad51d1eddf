"""``sgp init``: a project to start from."""

from __future__ import annotations

import importlib.resources
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import JsonOption
from sgp_core.errors import ConfigurationError


def init(
    project: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to make.")],
    as_json: JsonOption = False,
) -> None:
    """Write a project with a model, a data set, an algorithm, an experiment and a test of your own."""
    if project.exists() and not (project.is_dir() and not any(project.iterdir())):
        raise ConfigurationError(f"{project} exists already, and nothing is overwritten; choose another name")
    with importlib.resources.as_file(importlib.resources.files("launcher.cli") / "template") as template:
        shutil.copytree(template, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    files = sorted(str(path.relative_to(project)) for path in project.rglob("*") if path.is_file())
    if as_json:
        print_json({"folder": str(project.absolute()), "files": files})
        return
    print(f"wrote {project}: {', '.join(files)}")
    print(f"train it: cd {shlex.quote(str(project))} && sgp-train --config-dir conf experiment=demo")
