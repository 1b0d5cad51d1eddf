"""Asking for confirmation before something is removed for good."""

from __future__ import annotations

import sys

import typer

from sgp_core.errors import ConfigurationError


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
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError("nothing was removed: without a terminal to ask on, --yes is needed")
    typer.confirm(f"Remove {'it' if count == 1 else 'them'} for good?", abort=True)
