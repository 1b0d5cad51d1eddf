"""The watchdog: a hang anywhere ends, in an error that names the worker that is missing, its step and phase."""

from sgp_core.watchdog.watchdog import Watchdog

__all__ = ["Watchdog"]
