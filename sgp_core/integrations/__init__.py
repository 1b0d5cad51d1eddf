"""Gossip inside the frameworks that people have: each file is imported by name and needs its framework installed."""
