"""Properties of a crystal that its composition decides: price, abundance, supply, toxicity, capacity.

Tables of elements are those that pymatgen and smact bring; each property names its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import NUM_ELEMENTS, element_fractions, element_symbols
from crysjepa.properties.base import ByElement, How, Measured, Property, PropertyError

FARADAY = 26801.4814
"""mAh/mol: the charge of a mole of electrons."""
TOXIC = frozenset({4, 33, 48, 80, 81, 82}) | frozenset({43, 61, *range(84, 119)})
"""Be (IARC, group 1), As, Cd, Hg, Pb (class 1 of ICH Q3D(R2)), Tl (8 µg a day by mouth, there too), and
elements without a stable isotope."""


def price() -> Property:
    """What a kilogram's elements cost."""
    return _by_mass(
        "price", "USD/kg", "price of the elements in a kilogram", _prices(),
        "pymatgen's costdb_elements (2013; pure elements: fluorine as a gas)",
    )  # fmt: skip


def element_price() -> Property:
    """The dearest element's price."""
    return _extreme(
        "element_price", "USD/kg", "price of its dearest element", _prices(),
        "pymatgen's costdb_elements (2013; pure elements: fluorine as a gas)",
    )  # fmt: skip


def abundance() -> Property:
    """The rarest element's share of the earth's crust."""
    return _extreme(
        "abundance", "mg/kg", "share of its rarest element in the earth's crust",
        _of_smact("crustal_abundance"), "smact's table (CRC Handbook)", lowest=True,
    )  # fmt: skip


def supply_risk(kind: str) -> Property:
    """How few countries produce its elements, or hold their reserves."""
    column = {"production": "HHI_p", "reserve": "HHI_r"}[kind]
    return _by_mass(
        f"hhi_{kind}", "", f"Herfindahl–Hirschman index of {kind}, weighted by mass: above 2500 few "
        "countries hold most", _of_smact(column),
        "Gaultois et al., Chem. Mater. 25, 2911 (2013), as smact has it",
    )  # fmt: skip


def toxic_mass_fraction() -> Property:
    """The share of the mass that is of toxic or radioactive elements."""
    values = {z: float(z in TOXIC) for z in range(1, NUM_ELEMENTS + 1)}
    return _by_mass(
        "toxic_mass_fraction", "", "share of the mass that is Be, As, Cd, Hg, Tl, Pb or radioactive: "
        "of elements, whatever compound they are in", values, "ICH Q3D(R2), class 1, and IARC, group 1",
    )  # fmt: skip


def mass_fraction(symbol: str) -> Property:
    """The share of the mass that is of one element."""
    z = _number(symbol)
    return _by_mass(
        f"mass_fraction:{symbol}", "", f"share of the mass that is {symbol}",
        {n: float(n == z) for n in range(1, NUM_ELEMENTS + 1)}, "composition",
    )  # fmt: skip


def number_density(symbol: str) -> Property:
    """Atoms of one element in a volume."""
    z = _number(symbol)

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        atoms = element_fractions(crystals)[:, z] * crystals.num_atoms
        return Measured(dict(zip(crystals.ids, (1000 * atoms / crystals.volumes).tolist(), strict=True)))

    return Property(
        name=f"number_density:{symbol}", unit="nm⁻³", description=f"atoms of {symbol} in a cubic nanometre",
        source="structure", measure=measure,
    )  # fmt: skip


def capacity(symbol: str, *, volumetric: bool = False) -> Property:
    """The charge that leaves with all of one element, at its highest common oxidation state."""
    z, charge = _number(symbol), _charge(symbol)

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        fractions = element_fractions(crystals)
        moles = charge * fractions[:, z]
        if volumetric:  # mol/Å³ to mAh/cm³
            values = FARADAY * moles * crystals.num_atoms / crystals.volumes / 0.602214076
        else:
            values = FARADAY * moles / (fractions @ masses())
        return Measured(dict(zip(crystals.ids, values.tolist(), strict=True)))

    name, unit = ("volumetric_capacity", "mAh/cm³") if volumetric else ("capacity", "mAh/g")
    return Property(
        name=f"{name}:{symbol}", unit=unit,
        description=f"charge if all {symbol} leaves as an ion of charge {charge}: what is left need not hold",
        source="composition" if not volumetric else "structure", measure=measure,
    )  # fmt: skip


def _by_mass(name: str, unit: str, description: str, values: Mapping[int, float], source: str) -> Property:
    """A mean over elements, weighted by mass."""
    table_of = _vector(values)

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        mass = element_fractions(crystals) * masses()
        shares = mass / mass.sum(axis=1, keepdims=True)
        there = np.where(shares > 0, shares * table_of, 0.0).sum(axis=1)
        return _without_gaps(crystals.ids, shares > 0, table_of, there, name)

    return Property(name=name, unit=unit, description=description, source=source, measure=measure)


def _extreme(
    name: str, unit: str, description: str, values: Mapping[int, float], source: str, *, lowest: bool = False
) -> Property:
    """The largest of the elements' values, or the lowest."""
    sign = -1.0 if lowest else 1.0
    table_of = _vector(values)

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        held = element_fractions(crystals) > 0
        found = sign * np.where(held, sign * table_of, -np.inf).max(axis=1)
        return _without_gaps(crystals.ids, held, table_of, found, name)

    return Property(
        name=name, unit=unit, description=description, source=source, measure=measure,
        by_element=ByElement(values, lowest),
    )  # fmt: skip


def _without_gaps(
    ids: tuple[str, ...], held: NDArray[np.bool_], table_of: NDArray[np.float64],
    values: NDArray[np.float64], name: str,
) -> Measured:  # fmt: skip
    """The values, but for crystals with an element that the table does not have."""
    gaps = held & np.isnan(table_of)
    symbols = element_symbols()
    reasons = {
        ids[row]: f"{name} of {symbols[z]} is not known" for row, z in np.argwhere(gaps)[::-1].tolist()
    }
    return Measured({i: float(v) for i, v in zip(ids, values, strict=True) if i not in reasons}, reasons)


def _vector(values: Mapping[int, float]) -> NDArray[np.float64]:
    found = np.full(NUM_ELEMENTS + 1, np.nan)
    for z, value in values.items():
        found[z] = value
    return found


@lru_cache(maxsize=1)
def masses() -> NDArray[np.float64]:
    """(119,) g/mol by atomic number."""
    from pymatgen.core import Element

    return np.array([0.0] + [float(Element.from_Z(z).atomic_mass) for z in range(1, NUM_ELEMENTS + 1)])


@lru_cache(maxsize=1)
def _prices() -> dict[int, float]:
    from pymatgen.analysis.cost import CostDBElements
    from pymatgen.core import Element

    found = dict[int, float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen sorts elements by what noble gases do not have
        costs = CostDBElements()
        for z in range(1, NUM_ELEMENTS + 1):
            element = Element.from_Z(z)
            if entries := costs.get_entries([element]):  # USD/mol to USD/kg
                found[z] = min(e.energy_per_atom for e in entries) / (float(element.atomic_mass) * 1e-3)
    return found


@lru_cache(maxsize=8)
def _of_smact(attribute: str) -> dict[int, float]:
    import smact

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smact warns of elements that it has no data of
        for z in range(1, 104):
            value = getattr(smact.Element(element_symbols()[z]), attribute)
            if value is not None:
                found[z] = float(value)
    return found


def _number(symbol: str) -> int:
    from pymatgen.core import Element

    if not Element.is_valid_symbol(symbol):
        raise PropertyError(f"no element {symbol!r}")
    return int(Element(symbol).Z)


def _charge(symbol: str) -> int:
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = [s for s in Element(symbol).common_oxidation_states if s > 0]
    if not states:
        raise PropertyError(f"{symbol} leaves no crystal as a cation: there is no capacity of it")
    return int(max(states))


ELEMENT_PROPERTIES: dict[str, Callable[[str], Property]] = {
    "mass_fraction": mass_fraction,
    "number_density": number_density,
    "capacity": capacity,
    "volumetric_capacity": lambda symbol: capacity(symbol, volumetric=True),
}
"""Properties with an element, as in ``capacity:Li``."""
