"""The command ``sgp``: everything that is not training, a file a verb."""
