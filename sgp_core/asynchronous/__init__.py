"""The networks of workers that wait for nobody, over memory that they share or over messages."""

from sgp_core.asynchronous.network import AsynchronousNetwork
from sgp_core.asynchronous.select import connect

__all__ = ["AsynchronousNetwork", "connect"]
