"""The provenance of a run: code, packages, machine, command. No environment variables: they may hold secrets."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.redact import redact, redact_code
from launcher.config.run_plan import RunPlan
from launcher.console.summary import relative
from launcher.runs.json_fields import items
from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json, write_text
from sgp_core.plugins import Plugin, changed_sources
from sgp_core.training.experiment import build_parts
from sgp_core.training.inputs import GRAPH, describe_changed_inputs, inputs_of, kept_inputs

NAMED = ("torch", "torchvision", "numpy", "hydra-core", "submitit", "wandb", "stochastic-gradient-push")

_HEADER_LINE = re.compile(r"^(Name|Version): *(.*?) *$", re.MULTILINE)


def record(folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """Return the provenance for ``spec.json``; write its long parts to ``packages.txt`` and ``uncommitted.diff``."""
    packages = _packages()
    write_text(
        folder / "packages.txt", "".join(f"{name}=={packages[name]}\n" for name in sorted(packages, key=str.lower))
    )
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(map(redact, command)),
        "directory": os.getcwd(),
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "versions": {name: packages[name] for name in NAMED if name in packages},
        "git": _git(folder),
    }


def code_changes(folder: RunFolder, plan: RunPlan, attempt: int) -> list[str]:
    """Return a sentence for each plug-in that has changed since the attempt before, if the run goes on from it."""
    if not any(folder.path.glob("checkpoints/step-*/manifest.json")):
        return []
    before = read_json(folder.attempt(attempt - 1) / "spec.json") or {}
    try:
        recorded = [Plugin.from_dict(values) for values in items(before.get("plugins"))]
    except (KeyError, TypeError, ValueError):  # damaged
        return []
    return [
        f"{relative(Path(path))} has changed since run {plan.run_id} began; the run goes on with the new code"
        for path in changed_sources(recorded, plan.plugins)
    ]


def input_changes(folder: RunFolder, plan: RunPlan) -> list[str]:
    """Return a sentence if the graph that the plan reads is not the one that the run used; data the workers compare."""
    if GRAPH not in kept_inputs(folder.path):
        return []
    graph = build_parts(plan.experiment).topology.content()
    return describe_changed_inputs(folder.path, inputs_of({}, graph))


def _packages() -> dict[str, str]:
    """Return the versions of all installed packages. Of a package installed twice, the one that is imported counts.

    Only the header is read: ``distribution.metadata`` parses every package's whole description, which is slow.
    """
    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        text = next(filter(None, map(distribution.read_text, ("METADATA", "PKG-INFO", ""))), "")
        header = dict(_HEADER_LINE.findall(text.partition("\n\n")[0]))
        if "Name" in header:
            packages.setdefault(header["Name"], header.get("Version", "unknown"))
    return packages


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the commit and state of the repository that holds this code, else of that of the working directory."""
    home = Path(__file__).resolve().parent
    place = Path.cwd() if "site-packages" in home.parts else home
    head = _ask_git(place, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:
        return None
    sha, branch = head.split()
    diff = _ask_git(place, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    difference = folder / "uncommitted.diff"
    if diff:
        write_text(difference, redact_code(diff) + "\n")
    else:
        difference.unlink(missing_ok=True)
    return {
        "sha": sha,
        "branch": branch,
        "uncommitted": difference.name if diff else None,
    }


def _ask_git(place: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(place), *words], capture_output=True, text=True, timeout=10, errors="replace", check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
