"""Generators: what they are, by name, and the three that ship."""
