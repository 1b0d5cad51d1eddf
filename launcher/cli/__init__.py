"""The commands ``sgp-train`` and ``sgp``."""
