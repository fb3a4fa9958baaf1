"""The pipeline's stages: each takes a table of crystals and returns one; one runner runs them all."""
