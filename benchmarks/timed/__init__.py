"""Rows of ``timings.py``."""
