"""Judges by name: which there are beside the first, and the columns of each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from crysjepa.relaxation.force_fields.registry import (
    force_field_info,
    force_field_names,
    require_installed,
)

SECOND = "sevennet-l3i5"
"""The second judge, where it is installed. It shares neither architecture nor scale with CHGNet, but much of
what both learnt from: what they agree on is no independent proof."""


def parse_judges(text: str) -> tuple[str, ...]:
    """``"chgnet,sevennet-l3i5"`` as names of force fields, in that order.

    Raises
    ------
    ValueError
        For no name, an unknown one, or one that appears twice (or two that would share a column).
    FileNotFoundError
        For a checkpoint (``NAME@FILE``) that is not there.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("no judge: name force fields, such as chgnet,sevennet-l3i5")
    for name in names:
        force_field_info(name)
    if len({above_hull_column(n) for n in names}) < len(names):
        raise ValueError(f"a judge appears twice in {text!r}")
    return names


def further_judges(named: Sequence[str] | None, first: str) -> tuple[tuple[str, ...], str | None]:
    """The judges beside ``first``: those named, or :data:`SECOND` where it is installed; and a note, or None.

    No model is loaded. The note says what to install where the default judge is missing.

    Raises
    ------
    ImportError
        If a judge that was named needs a package that is absent.
    """
    if named is not None:
        others = tuple(n for n in named if n != first)
        for name in others:
            _check_installed(name)
        return others, None
    if first == SECOND:
        return (), None
    try:
        _check_installed(SECOND)
    except ImportError as error:
        return (), f"{first} is the only judge: {error}"
    return (SECOND,), None


def _check_installed(name: str) -> None:
    if name.partition("@")[0] in force_field_names():
        require_installed(name)


def above_hull_column(judge: str) -> str:
    """``e_above_hull_sevennet_l3i5`` of ``sevennet-l3i5``."""
    return f"e_above_hull_{slug(judge)}"


def energy_column(judge: str) -> str:
    """``energy_per_atom_sevennet_l3i5`` of ``sevennet-l3i5``."""
    return f"energy_per_atom_{slug(judge)}"


def slug(judge: str) -> str:
    """What is left of a name in columns and folders."""
    return re.sub(r"\W+", "_", judge).strip("_").lower()
