"""Settings: composed by Hydra, checked, and made into a plan for each run."""
