"""What is said beside a result or instead of one: light, so that the command line can know of it before
anything is read.
"""

import warnings


class ReadNote(UserWarning):
    """What a reader left out or took for missing, without a row being lost; the command line prints it."""


class UsageError(ValueError):
    """What was asked for cannot be, which is known before any work: the command line ends with status 2."""


class ReadError(ValueError):
    """A crystal, or a whole file, that cannot be read; the message says why."""


def note(message: str) -> None:
    """Say what was left out."""
    warnings.warn(message, ReadNote, stacklevel=2)
