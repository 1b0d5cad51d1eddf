"""A plug-in with a part of each kind, and the words that choose its parts."""

from pathlib import Path

PARTS = Path(__file__).parents[1] / "plugins" / "parts.py"
KINDS = ("model", "dataset", "partition", "topology", "algorithm", "outer", "pace", "optimizer", "schedule")
CHOSEN = [*(f"{kind}=own_{kind}" for kind in KINDS), "compression=own_codec"]
