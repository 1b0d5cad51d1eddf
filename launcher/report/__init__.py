"""Reports of runs: an HTML page and figures with curves, times per step and a table of results."""
