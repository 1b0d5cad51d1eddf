"""Reports of runs: what is drawn, how it looks, and the page and figures it becomes."""
