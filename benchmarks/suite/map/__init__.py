"""The parts of ``benchmarks/map.py``: what is trained, its loss curves, the cells of the map, real workers."""
