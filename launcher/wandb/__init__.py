"""Weights & Biases: which rows are mirrored under which names, and uploads after the run."""
