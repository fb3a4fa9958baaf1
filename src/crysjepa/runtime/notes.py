"""What is said beside a result: light, so that the command line can know of it before anything is read."""

import warnings


class ReadNote(UserWarning):
    """What a reader left out or took for missing, without a row being lost; the command line prints it."""


def note(message: str) -> None:
    """Say what was left out."""
    warnings.warn(message, ReadNote, stacklevel=2)
