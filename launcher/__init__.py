"""From a command line to running workers."""
