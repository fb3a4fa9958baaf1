"""Parts of ``benchmarks/generators.py``."""
