"""Rankers by name, the reference index that some look up, and ranked rows."""
