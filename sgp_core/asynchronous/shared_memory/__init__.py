"""Asynchronous gossip in memory that the workers of a host share."""
