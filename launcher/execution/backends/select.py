"""The backend that runs a ``cluster`` choice."""

from __future__ import annotations

from launcher.execution.backends.base import Backend


def backend(cluster: str) -> Backend:
    """Return the backend of a ``cluster`` choice whose workers this process watches."""
    if cluster == "inline":
        from launcher.execution.backends.inline import InlineBackend

        return InlineBackend()
    from launcher.execution.backends.local import LocalBackend

    return LocalBackend()
