"""Runs and sweeps as their folders describe them, damaged ones included. Nothing here starts a run."""
