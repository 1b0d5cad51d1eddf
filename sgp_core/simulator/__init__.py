"""Virtual workers in one process."""
