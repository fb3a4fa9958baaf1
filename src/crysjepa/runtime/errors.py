"""Errors: what a run directory raises, and an exception in one line."""

from __future__ import annotations

from crysjepa.runtime.notes import UsageError


class RunError(UsageError):
    """The directory belongs to another run, or is no run."""


def describe_error(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
