"""The ways vectors travel between workers, behind one small interface."""

from sgp_core.distributed.exchange import Exchange
from sgp_core.transports.base import Arrived, Content, Message, Posted, Transport, joined

__all__ = ["Arrived", "Content", "Exchange", "Message", "Posted", "Transport", "joined"]
