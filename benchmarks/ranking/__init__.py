"""The parts of the benchmark of rankings: ``python benchmarks/screening.py``."""
