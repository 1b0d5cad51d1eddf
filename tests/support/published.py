"""Figures that more than one test holds the product to."""

CONSENSUS_RMS = [
    ("ring", [2.428454]),
    ("directed_ring", [1.699489]),
    ("hypercube", [0.601275]),
    ("exponential", [0.285437]),
    ("star", [2.509980]),
    ("complete", [0.0]),
    ("one_peer_exponential", [0.533873, 0.724404, 0.672979, 0.307344]),
]
"""Spread, phase by phase, of 16 workers on f_i(x) = (x - b_i)^2 / 2, b = 0..15, step 0.1, once it has settled."""
