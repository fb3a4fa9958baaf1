"""crysjepa: find new inorganic crystals that are stable and novel."""

__version__ = "0.1.0"
