"""The sizes of networks by name: ``small``, ``paper``, and ``paper/64``, a 64th of the paper's parameters."""

from __future__ import annotations

import re

from crysjepa.runtime.notes import UsageError

LARGEST_PART = 1024


def paper_part(size: str) -> int | None:
    """What the paper's parameters are divided by: 1 for ``paper``, N for ``paper/N``; None for ``small``.

    Raises
    ------
    UsageError
        For another name, and for a part below a 1024th.
    """
    if size == "small":
        return None
    found = re.fullmatch(r"paper(?:/([1-9]\d*))?", size)
    if found is None or (part := int(found[1] or 1)) > LARGEST_PART:
        raise UsageError(
            f"no size {size!r}: choose small, paper, or a part of the paper's such as paper/64, down to "
            f"paper/{LARGEST_PART}"
        )
    return part
