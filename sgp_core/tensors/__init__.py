"""Flat vectors, the storage that parameters live in, and how vectors are mixed."""
