"""Relaxation with force fields: batched, in processes that may die, and the same bytes every time."""
