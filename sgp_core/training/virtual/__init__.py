"""Training of virtual workers: all workers of an experiment in one process, through the one training loop."""
