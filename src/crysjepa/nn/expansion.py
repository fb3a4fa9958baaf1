"""What both ways to expand pairs agree on (:mod:`crysjepa.nn.geometry`, and on a GPU its twin in torch)."""

CUTOFF = 6.0
"""Å."""
NUM_RADIAL = (10, 6, 6, 4)
"""Radial functions for l = 0, 1, 2, 3."""
CLOSEST = 0.3
"""Å; two sites that are nearer are expanded as if they were this far apart, and the nearer they are, the less
does their direction count: at no distance there is none."""
MAX_IMAGES = 100_000
"""Periodic images of one pair that are looked at; a cell that has more is too small or too skewed."""
FAR = 1e6
"""Cells; what is farther away is lost, and so is what is not a number."""
