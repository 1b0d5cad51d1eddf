"""Where workers run: one module a place, one interface."""
