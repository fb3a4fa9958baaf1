"""Formation energies, corrections, and the convex hull (Eq. 4 to 6)."""
