"""CrystalNN's fingerprints, and Eq. 11 with them in place of the embedding."""
