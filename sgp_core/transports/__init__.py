"""The ways vectors travel between workers, behind one small interface."""

from sgp_core.distributed.exchange import Exchange
from sgp_core.transports.base import Message, MessageContent, PostedMix, ReceivedMessage, Transport, concatenate

__all__ = ["Exchange", "Message", "MessageContent", "PostedMix", "ReceivedMessage", "Transport", "concatenate"]
