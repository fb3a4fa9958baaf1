"""Space groups by number, Hermann–Mauguin symbol or crystal system.

Light, so that the command line can look at them before anything is read.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import gemmi

SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")


@lru_cache(maxsize=1)
def crystal_systems() -> dict[str, tuple[int, ...]]:
    """The numbers of each crystal system's space groups, rising."""
    found: dict[str, list[int]] = {name: [] for name in SYSTEMS}
    for number in range(1, 231):
        found[gemmi.find_spacegroup_by_number(number).crystal_system_str()].append(number)
    return {name: tuple(numbers) for name, numbers in found.items()}


def parse_space_groups(text: str | int) -> frozenset[int]:
    """Numbers of space groups from a comma list of numbers, symbols (gemmi's, any setting) and systems.

    Raises ValueError for what is none of these.
    """
    names = [name.strip() for name in str(text).split(",")]
    if not any(names):
        raise ValueError(f"{text!r} names no space group: {_HOW}")
    return frozenset(number for name in names if name for number in _parsed(name))


_HOW = (
    f"give a number (225), a symbol (Fm-3m), a crystal system ({', '.join(SYSTEMS)}), or several, by commas"
)


def _parsed(name: str) -> tuple[int, ...]:
    if name.lower() in SYSTEMS:
        return crystal_systems()[name.lower()]
    if name.lstrip("-").isdigit():
        if not 1 <= int(name) <= 230:
            raise ValueError(f"{name} is no space group: their numbers are 1 to 230")
        return (int(name),)
    found = gemmi.find_spacegroup_by_name(name.replace("_", ""))
    if found is None:
        raise ValueError(f"{name!r} is no space group: {_HOW}")
    return (int(found.number),)


def spelled(numbers: Collection[int]) -> str:
    """Whole crystal systems by name, other groups by number and symbol; different sets differ."""
    from crysjepa.core.symmetry import symbol

    left, parts = set(numbers), []
    for name, members in crystal_systems().items():
        if left.issuperset(members):
            parts.append(name)
            left.difference_update(members)
    return ", ".join([*parts, *(f"{n} ({symbol(n)})" for n in sorted(left))])
