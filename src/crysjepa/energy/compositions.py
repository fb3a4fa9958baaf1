"""What a hull knows a composition by: its elements' atomic fractions."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Composition

_COMMON = 94
"""Heavier elements, such as No, are in no compound of a hull."""

Fractions = tuple[tuple[str, float], ...]
"""A composition as sorted (element, atomic fraction) pairs: equal for Li2O and Li4O2."""


def fractions_of(composition: Composition) -> Fractions:
    """What a hull knows a composition by."""
    amounts = composition.get_el_amt_dict()
    total = sum(amounts.values())
    return tuple(sorted((e, round(n / total, 12)) for e, n in amounts.items() if n > 0))


def read_composition(composition: Any) -> tuple[Fractions | None, str]:
    """Of whatever pymatgen reads as a composition; None and the reason for anything else."""
    from pymatgen.core import Composition, Element

    try:
        found = Composition(composition)
    except Exception as error:  # noqa: BLE001 - pymatgen's formula parser; the reason is handed back
        return None, f"{composition!r} is not a composition ({error})"
    if isinstance(composition, str) and (dotted := _dotted(composition)):
        return None, (
            f"{composition!r} is not a composition ({dotted} may be a number or a dot between two formulas: "
            "write it as one formula)"
        )
    unknown = [e.symbol for e in found.elements if not Element.is_valid_symbol(e.symbol)]
    if unknown:
        why = f"{unknown[0]} is no element; upper and lower case count"
        return None, f"{composition!r} is not a composition ({why})"
    total = sum(found.get_el_amt_dict().values())
    if not is_finite(total) or total <= 0:
        return None, f"{composition!r} is not a composition (no atoms)"
    return fractions_of(found), ""


def _dotted(formula: str) -> str | None:
    """``4.2`` of ``CaSO4.2H2O`` or ``3.2`` of ``Al2O3.2SiO2``, which pymatgen reads as amounts."""
    for amount in re.finditer(r"([A-Z][a-z]?)((?:[1-9]\d*)?\.\d+)(?=[A-Z(])", formula):
        behind = re.sub(r"\([^()]*\)", "", formula[amount.end() :])
        if re.match(r"(H2O|NH3)(?!\d)", behind) or re.search(rf"{amount[1]}(?![a-z])", behind):
            return amount[2]
    return None


def other_reading(formula: str) -> str:
    """The compound that a formula in capitals may mean: ``PbO`` for ``PBO``; nothing where there is none."""
    from pymatgen.core import Element

    def with_two_letters(found: re.Match[str]) -> str:
        symbol = found[0].capitalize()
        known = Element.is_valid_symbol(symbol) and Element(symbol).Z <= _COMMON
        return symbol if known else found[0]

    other = re.sub("[A-Z][A-Z]", with_two_letters, formula)
    elements = set(re.findall("[A-Z][a-z]?", other))
    return other if other != formula and len(elements) > 1 else ""


def is_finite(value: float | None) -> bool:
    """Whether it is a number, and a finite one."""
    return isinstance(value, int | float | np.number) and math.isfinite(value)
