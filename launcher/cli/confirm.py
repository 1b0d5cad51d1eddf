"""Asking before something is gone for good."""

from __future__ import annotations

import sys

import typer

from sgp_core.errors import ConfigurationError


def make_sure(count: int, *, yes: bool) -> None:
    """Return if ``count`` things may be removed.

    Args:
        yes: it was said beforehand.

    Raises:
        ConfigurationError: nobody is there to be asked.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError("nothing was removed: where nobody can be asked, --yes is needed")
    typer.confirm(f"Remove {'it' if count == 1 else 'them'} for good?", abort=True)
