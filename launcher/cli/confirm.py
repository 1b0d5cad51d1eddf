"""Asking for confirmation before something is removed for good, or code of another's is run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from launcher.config.trust import is_made_here
from launcher.runs.find import Run
from launcher.runs.plain_text import clean
from sgp_core.errors import ConfigurationError


def on_terminal() -> bool:
    """Whether there is a terminal to ask on; the question goes to stderr, where ``--json`` does not meet it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(count: int, *, yes: bool) -> None:
    """Return if ``count`` things may be removed.

    Args:
        yes: the user has confirmed on the command line.

    Raises:
        ConfigurationError: there is no terminal to ask on.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not on_terminal():
        raise ConfigurationError("nothing was removed: without a terminal to ask on, --yes is needed")
    typer.confirm(f"Remove {'it' if count == 1 else 'them'} for good?", abort=True, err=True)


def confirm_code(run: Run, code: Sequence[str]) -> None:
    """Return if the code that a run names may be run: there is none, this user has made the folder, or says yes.

    Args:
        code: what would be run, in words.

    Raises:
        ConfigurationError: there is no terminal to ask on, or the answer is no.
    """
    if not code or is_made_here(run.spec, run.folder.path):
        return
    named = clean(", ".join(code))
    why = f"its folder was not made here by you, and resuming or exporting it uses what it names: {named}"
    if not on_terminal():
        raise ConfigurationError(f"{why}; look at that, then give --trust")
    if not typer.confirm(f"{run.run_id}: {why}. Use that?", err=True):
        raise ConfigurationError("it is not trusted")
