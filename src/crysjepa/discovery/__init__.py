"""The screening-and-refinement loop (section 4.2)."""
