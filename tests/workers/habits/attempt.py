"""A habit, tried in a worker: what it returned, or the sentence that it ended with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def attempt(script: str, habit: str, folder: str) -> tuple[str, Any]:
    """Return ``works`` and what the habit returned, or the name of the error and its sentence."""
    function = getattr(importlib.import_module(f"tests.workers.habits.{script}"), habit)
    try:
        return "works", function(Path(folder))
    except Exception as error:
        return type(error).__name__, str(error)
