"""Asynchronous gossip over messages."""
