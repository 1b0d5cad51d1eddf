"""Where workers run: one module a place, one interface."""

from launcher.execution.backends.base import Attempt, Backend, Outcome, SubmissionFailed, backend

__all__ = ["Attempt", "Backend", "Outcome", "SubmissionFailed", "backend"]
