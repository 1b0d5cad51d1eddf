"""Which algorithm is worth its messages on a network: candidates, their predicted steps, and advice."""
