"""Candidates out to density functional theory, and back (paper, appendix D.3)."""
