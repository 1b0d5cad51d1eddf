"""The networks of workers that wait for nobody, over memory that they share or over messages."""

from sgp_core.runtime.one_sided.choice import connect
from sgp_core.runtime.one_sided.network import WaitlessNetwork

__all__ = ["WaitlessNetwork", "connect"]
