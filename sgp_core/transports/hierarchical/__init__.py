"""Shared memory inside hosts, messages between them."""
