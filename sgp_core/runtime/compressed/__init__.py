"""Gossip of compressed differences."""
