"""Constraints as they are written: elements, groups of them, formula units."""

from __future__ import annotations

import gemmi

from crysjepa.core.formula_patterns import FormulaPattern

SYMBOLS = {z: str(gemmi.Element(z).name) for z in range(1, 119)}
"""Of each atomic number."""
_NUMBERS = {symbol: z for z, symbol in SYMBOLS.items()}
ANIONS = frozenset(_NUMBERS[s] for s in ("N", "O", "F", "P", "S", "Cl", "Se", "Br", "Te", "I"))
"""What ``anions`` stands for: F, Cl, Br, I; O, S, Se, Te; N, P. It is said of the element alone: whether it
is an anion in a crystal is not looked at."""


def elements_of(text: str | None) -> frozenset[int] | None:
    """Atomic numbers of symbols parted by commas, hyphens or blanks. Raises ValueError for other text."""
    if text is None:
        return None
    given = _words(text)
    unknown = [n for n in given if n not in _NUMBERS]
    if unknown or not given:
        parts = f"{unknown[0]!r} is no element" if unknown else f"{text!r} names no element"
        raise ValueError(f"{parts}: give symbols such as Li,Mg,O")
    return frozenset(_NUMBERS[n] for n in given)


def one_of(text: str | None) -> frozenset[int] | None:
    """The same, where ``anions`` stands for :data:`ANIONS`."""
    if text is None:
        return None
    given = _words(text)
    named = [n for n in given if n.lower() != "anions"]
    group = ANIONS if len(named) < len(given) else frozenset()
    return group | (elements_of(",".join(named)) or frozenset()) if named or not group else group


def units_of(text: str | int | None, formula: FormulaPattern | None) -> tuple[int, int] | None:
    """The fewest and the most formula units of ``4`` or ``1-4``. Raises ValueError for other text."""
    if text is None:
        return None
    if formula is not None and formula.factor > 1:
        raise ValueError(
            f"--formula-units of a formula that is not reduced could be {formula.name}'s or not: give "
            f"--formula {formula.name}"
        )
    ends = [end.strip() for end in str(text).split("-")]
    if len(ends) > 2 or not all(end.isdecimal() for end in ends):
        raise ValueError(f"--formula-units {text}: give a number (4), or the fewest and the most (1-4)")
    return int(ends[0]), int(ends[-1])


def _words(text: str) -> list[str]:
    return text.replace(",", " ").replace("-", " ").split()
