"""Elements of a CIF: type symbols, site labels, and the formula that the file declares."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import gemmi

from crysjepa.io.cif.text import Items, ReadError, shown

_NO_ATOMS = ("va", "vac", "wat", "wa", "du", "dum", "lp", "bq", "ct", "cg", "cnt", "t")
"""Labels of vacancies, molecules, dummies, lone pairs and centroids; and T, a tetrahedral site."""
_WORDS = (
    "site", "oct", "tet", "trig", "cub", "sq", "pl", "ap", "apical", "eq", "ax", "bas", "basal", "br",
    "bridge", "term", "int", "inter", "vac",
)  # fmt: skip
"""What labels say of a site behind its element."""
_HYDROGENS = re.compile(r"[OC]H(?![a-z])|Oh(?![a-z])|O\d*[Ww](at)?(?![a-z])")
"""Labels of a hydroxyl, of water and the like: hydrogens may be without sites."""
_HEAVIEST_IN_CAPITALS = 101
_LONGEST_FORMULA = 1000
_MAX_READINGS = 256


@cache
def _numbers() -> dict[str, int]:
    return {gemmi.Element(z).name: z for z in range(1, 119)} | {"D": 1, "T": 1}


@lru_cache(maxsize=4096)
def atomic_number(text: str) -> int:
    """Atomic number of a type symbol: an element, perhaps with a charge, such as ``Fe3+``; D and T are 1.

    Raises
    ------
    ReadError
        If the whole of it is no element (a vacancy, a molecule, a mixture).
    """
    match = re.fullmatch(r"([A-Za-z]{1,2})(0|(\d(\.\d*)?)?[-+]+|[-+]+\d(\.\d*)?)?", text.strip())
    z = _numbers().get(match[1].capitalize(), 0) if match else 0
    if not match or not z or (match[1].isupper() and _is_molecule(match[1], match[2] or "", z)):
        raise ReadError(f"{shown(text)} is not an element")
    return z


def _is_molecule(capitals: str, charge: str, z: int) -> bool:
    """NO2- and NH4+ are; CO and CO2+ are cobalt where all symbols are in capitals."""
    doubtful = "-" in charge or z > _HEAVIEST_IN_CAPITALS or capitals == "HO"
    return len(_as_letters(capitals)) == 2 and doubtful


def _as_letters(pair: str) -> list[int]:
    return [_numbers()[letter] for letter in pair if letter in _numbers()]


@lru_cache(maxsize=4096)
def label_readings(label: str) -> tuple[int, ...]:
    """Atomic numbers that a site label such as ``Fe1A`` may mean, the likelier first.

    A label with a word in it, such as ``Osite1`` or ``Asite``, never tells for sure: with one element alone,
    zero stands for another.

    Raises
    ------
    ReadError
        If it begins with no element, or names two.
    """
    match = re.match(r"[A-Za-z]+", label)
    letters = match.group() if match else ""
    found = []
    if letters.lower() not in _NO_ATOMS and not re.search(r"[/,&]|\d\.\d*[A-Z]|^H[23]O", label):
        spellings = [letters[:2].capitalize()]
        if len(letters) <= 2 or letters[1].isupper() or _is_word(letters):
            spellings.append(letters[:1].upper())
        found = [z for s in dict.fromkeys(spellings) if s != "T" and (z := _numbers().get(s))]
        if len(found) == 1 and (_is_word(letters) or _HYDROGENS.match(label)):
            found.append(0)
    if not found:
        raise ReadError(f"{shown(label)} is not an element")
    return tuple(found)


def _is_word(letters: str) -> bool:
    """Whether a word stands behind the element, and may begin a letter earlier; not in Feoct."""
    if len(letters) < 3 or not letters[0].isupper() or not letters[1:].islower():
        return False
    return letters[1:] in _WORDS or (len(letters) > 3 and letters[2:] not in _WORDS)


class Declared(NamedTuple):
    """The formula of a CIF: counts by atomic number, and how many units of it the cell holds."""

    text: str
    counts: Mapping[int, float]
    roundings: Mapping[int, float]
    """By how much each count may be off, after its digits."""
    units: float | None

    @classmethod
    def of(cls, items: Items) -> Declared | None:
        """From ``_chemical_formula_sum`` and ``_cell_formula_units_Z``; None if no formula can be read."""
        text = " ".join((items.one("_chemical_formula_sum") or "").split())
        tokens = re.sub(r"\(\d+\)", "", text).split() if len(text) <= _LONGEST_FORMULA else []
        if not tokens or not all(re.fullmatch(r"([A-Z][a-z]?(\d+(\.\d*)?|\.\d+)?)+", t) for t in tokens):
            return None
        counts: dict[int, float] = {}
        roundings: dict[int, float] = {}
        for symbol, digits in re.findall(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?", " ".join(tokens)):
            z = _numbers().get(symbol)
            if z is None:
                return None
            counts[z] = counts.get(z, 0) + float(digits or 1)
            places = len(digits.partition(".")[2])
            roundings[z] = roundings.get(z, 0) + (0.6 * 10**-places if places else 0)
        units = items.one("_cell_formula_units_z")
        value = gemmi.cif.as_number(units) if units else 0.0
        counts = {z: count for z, count in counts.items() if count}
        return cls(text, counts, roundings, value if value > 0 else None) if counts else None

    def fits(self, cell: Mapping[int, int]) -> int:
        """Whether a cell with these counts is what is declared: 0 no, 1 yes, 2 yes and the units tell.

        pymatgen and ASE write the formula of the whole cell; the IUCr means that of one formula unit.
        """
        if set(cell) != set(self.counts):
            return 0
        # the units that each element allows, after the digits of its count
        least = max(n / (self.counts[z] + self.roundings[z]) for z, n in cell.items()) * (1 - 1e-6)
        most = min(n / max(self.counts[z] - self.roundings[z], 1e-9) for z, n in cell.items()) * (1 + 1e-6)
        if least > most:
            return 0
        if self.units is None:
            return int(most >= 1 - 1e-6 and math.floor(most) >= least)
        if least <= self.units <= most:
            return 2
        if least <= 1 <= most:
            return 2 if all((n / self.units).is_integer() for n in self.counts.values()) else 1
        return 0


def elements_of(
    readings: Sequence[tuple[int, ...]],
    labels: Sequence[str],
    weights: Sequence[int],
    declared: Declared | None,
    least: int = 1,
) -> list[int]:
    """An atomic number for each row of sites. ``weights`` counts the atoms of each row in the cell.

    Labels with the same letters are read alike. The declared formula decides between readings; ``least`` is
    how well it must fit (:meth:`Declared.fits`).

    Raises
    ------
    ReadError
        If the atoms are not those of the declared formula, or a label may mean two elements.
    """
    prefixes = [re.match(r"[A-Za-z]*", label).group() for label in labels]  # type: ignore[union-attr]
    choices = {p: r for p, r in zip(prefixes, readings, strict=True) if len(r) > 1}

    def chosen(choice: Mapping[str, int]) -> list[int]:
        return [r[0] if len(r) == 1 else choice[p] for p, r in zip(prefixes, readings, strict=True)]

    first = chosen({p: r[0] for p, r in choices.items()})
    if declared is None:
        _check_hydrogens(labels, readings)
        _check_capitals(choices, prefixes, first)
        return first
    if declared.fits(composition(first, weights)) >= least:
        return first
    sizes = 2 ** len(choices)
    options = itertools.product(*choices.values()) if choices and sizes <= _MAX_READINGS else []
    fitting = [
        numbers
        for option in options
        if declared.fits(composition(numbers := chosen(dict(zip(choices, option, strict=True))), weights))
        >= least
    ]
    if len(fitting) == 1:
        return fitting[0]
    units = f" (Z = {declared.units:g})" if declared.units else ""
    found = formula(composition(first, weights))
    raise ReadError(f"the file declares {declared.text[:80]}{units} but the cell has {found[:80]}")


def _check_hydrogens(labels: Sequence[str], readings: Sequence[tuple[int, ...]]) -> None:
    """Raise where a label speaks of hydrogens, nothing else tells what it is, and there are none."""
    if any(1 in numbers for numbers in readings):
        return
    for label, numbers in zip(labels, readings, strict=True):
        if len(numbers) > 1 and _HYDROGENS.match(label):
            raise ReadError(
                f"the label {label[:20]!r} speaks of hydrogens, of which there are none: "
                "give _atom_site_type_symbol or the formula"
            )


def _check_capitals(
    choices: Mapping[str, tuple[int, ...]], prefixes: Sequence[str], first: Sequence[int]
) -> None:
    """Raise where a label in capitals, such as HO1, may be one of two elements and nothing tells which."""
    certain = {z for p, z in zip(prefixes, first, strict=True) if p not in choices}
    proper = any(len(p) > 1 and p[1].islower() for p in prefixes)
    for prefix, readings in choices.items():
        if _is_word(prefix):
            raise ReadError(
                f"the label {prefix[:20]!r} has a word in it and may not mean "
                f"{gemmi.Element(readings[0]).name}: give _atom_site_type_symbol or the formula"
            )
        if 0 in readings or not (prefix[:2].isupper() or (len(prefix) > 1 and prefix[1].isupper())):
            continue
        others = certain & set(_as_letters(prefix[:2]))
        if proper or others or readings[1] == 1 or readings[0] > _HEAVIEST_IN_CAPITALS:
            raise ReadError(
                f"the label {prefix[:20]!r} may mean two elements: give _atom_site_type_symbol or the formula"
            )


def composition(numbers: Sequence[int], weights: Sequence[int]) -> dict[int, int]:
    """How many atoms of each element."""
    counts: dict[int, int] = {}
    for z, weight in zip(numbers, weights, strict=True):
        counts[z] = counts.get(z, 0) + weight
    return counts


def formula(counts: Mapping[int, int]) -> str:
    """``Na4 Cl4`` for {11: 4, 17: 4}."""
    return " ".join(f"{gemmi.Element(z).name}{n}" for z, n in counts.items())
