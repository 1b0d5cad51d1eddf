"""What the benchmarks share: worker processes, contenders, measured networks, tables."""
