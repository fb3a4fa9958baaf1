"""How alike two elements are in a crystal: what substitution swaps, and by what.

The cost of a swap a → b is made of what a chemist looks at: radii, electronegativities, the modified Pettifor
scale [Glawe, Sanna, Gross and Marques, New J. Phys. 18, 093011 (2016)], the group, whether an anion is
swapped, and the substitutions found in the ICSD [λ of Hautier, Fischer, Ehrlacher, Jain and Ceder, Inorg.
Chem. 50, 656 (2011), as smact ships it]. Its coefficients are rounded from logistic regressions on 12,700
single swaps in Materials Project crystals with static CHGNet energies (within 0.1 eV/atom of the hull or
not), so that exp(−cost) is about proportional to the odds that the swap gives a stable crystal.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import element_symbols
from crysjepa.core.validity import Formula

MAX_ATOMIC_NUMBER = 103
_RADIUS, _ELECTRONEGATIVITY, _PETTIFOR, _GROUP, _LAMBDA, _ANION = 4.0, 1.0, 0.9, 0.6, 0.1, 1.2
FRACTION_COST = 1.7
"""For the swapped element's atomic fraction: the more of a crystal is swapped, the less of it is left."""
_PETTIFOR_ORDER = (
    "He Ne Ar Kr Xe Rn Fr Cs Rb K Na Li Ra Ba Sr Ca Eu Yb Lu Tm Y Er Ho Dy Tb Gd Sm Pm Nd Pr Ce La Ac Th Pa "
    "U Np Pu Am Cm Bk Cf Es Fm Md No Lr Sc Zr Hf Ti Ta Nb V Cr Mo W Re Tc Os Ru Ir Rh Pt Pd Au Ag Cu Ni Co "
    "Fe Mn Mg Zn Cd Hg Be Al Ga In Tl Pb Sn Ge Si B C N P As Sb Bi Po Te Se S O At I Br Cl F H"
)
_RARE_STATE = 0.02
"""Oxidation states with less than this share of an element's ICSD occurrences are not assigned."""
_COMMON_STATE = 0.1
"""Nor is an element put where it would need a state with less than this. Of the labelled swaps between like
radii, 39 % gave a stable crystal where the share was 0.02 to 0.1, and 71 % where it was more."""
_NO_LAMBDA = -5.0
_LAMBDA_RANGE = (-2.0, 4.0)


@lru_cache(maxsize=1)
def swap_costs() -> NDArray[np.float64]:
    """(104, 104) cost of swapping the element of one atomic number for another, whatever their charges."""
    radius, electronegativity, group, anion = _element_data()
    order = np.full(MAX_ATOMIC_NUMBER + 1, np.nan)
    numbers = {symbol: place for place, symbol in enumerate(_PETTIFOR_ORDER.split())}
    symbols = element_symbols()
    for z in range(1, MAX_ATOMIC_NUMBER + 1):
        order[z] = numbers[symbols[z]]

    def gap(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(values[:, None] - values[None, :])

    lambdas = np.full((MAX_ATOMIC_NUMBER + 1,) * 2, _NO_LAMBDA)
    for (a, charge_a), others in _lambdas().items():
        for (b, charge_b), value in others.items():
            if charge_a == charge_b:
                lambdas[a, b] = max(lambdas[a, b], value)
    low, high = _LAMBDA_RANGE
    costs = (
        _RADIUS * gap(radius)
        + _ELECTRONEGATIVITY * gap(electronegativity)
        + _PETTIFOR * (1 - np.exp(-gap(order) / 8))
        + _GROUP * (group[:, None] != group[None, :])
        + _LAMBDA * (high - np.clip(lambdas, low, high))
        + _ANION * (anion[:, None] | anion[None, :])
    )
    np.fill_diagonal(costs, np.inf)
    return np.nan_to_num(costs, nan=np.inf, posinf=np.inf)


@lru_cache(maxsize=4096)
def isovalent(number: int, charge: int) -> NDArray[np.bool_]:
    """(104,) which other elements are common with that oxidation state."""
    found = np.zeros(MAX_ATOMIC_NUMBER + 1, dtype=bool)
    for z in _states():
        found[z] = z != number and charge in common_states(z)
    return found


def common_states(number: int) -> tuple[int, ...]:
    """The oxidation states that an element has in at least a tenth of its occurrences in the ICSD."""
    return tuple(state for state, share in _states().get(number, ()) if share >= _COMMON_STATE)


@lru_cache(maxsize=200_000)
def oxidation_states(formula: Formula) -> dict[int, int] | None:
    """The likeliest of :func:`balancing_states`; None where there are none."""
    best = max(balancing_states(formula), key=lambda found: found[0], default=None)
    return None if best is None else best[1]


def balancing_states(formula: Formula) -> Iterator[tuple[float, dict[int, int]]]:
    """Each way to give every element one oxidation state such that the charges sum to 0, and its likelihood.

    Of all such assignments those whose cations are less electronegative than their anions. The likelihood is
    the product of the states' frequencies in the ICSD (pymatgen's ``Composition.oxi_prob``), as in pymatgen's
    ``Composition.oxi_state_guesses``; mixed valence is not considered.
    """
    known = _states()
    if any(z not in known for z, _ in formula) or len(formula) > 6:
        return
    electronegativity = _element_data()[1]
    counts = [n for _, n in formula]
    for chosen in itertools.product(*(known[z] for z, _ in formula)):
        if sum(state * n for (state, _), n in zip(chosen, counts, strict=True)):
            continue
        signed = [(state, electronegativity[z]) for (state, _), (z, _) in zip(chosen, formula, strict=True)]
        cations, anions = [e for s, e in signed if s > 0], [e for s, e in signed if s < 0]
        if cations and anions and max(cations) <= min(anions):
            states = {z: state for (state, _), (z, _) in zip(chosen, formula, strict=True)}
            yield float(np.prod([share for _, share in chosen])), states


@lru_cache(maxsize=1)
def _states() -> dict[int, tuple[tuple[int, float], ...]]:
    """Whole oxidation states other than 0 by atomic number, with their share of ICSD occurrences."""
    from pymatgen.core import Composition

    Composition("NaCl").oxi_state_guesses()  # reads the table
    occurrences: dict[int, dict[int, float]] = {}
    for species, number in sorted((Composition.oxi_prob or {}).items(), key=lambda item: str(item[0])):
        state = float(species.oxi_state or 0)
        if state and state.is_integer():
            occurrences.setdefault(species.Z, {})[int(state)] = float(number)
    return {
        z: tuple(
            (state, number / sum(states.values()))
            for state, number in sorted(states.items())
            if number >= _RARE_STATE * sum(states.values())
        )
        for z, states in occurrences.items()
    }


@lru_cache(maxsize=1)
def _lambdas() -> dict[tuple[int, int], dict[tuple[int, int], float]]:
    """λ of pairs of species (atomic number, oxidation state), both ways."""
    import smact
    from pymatgen.core import Species

    table = Path(smact.data_directory) / "lambda.json"
    found: dict[tuple[int, int], dict[tuple[int, int], float]] = {}
    names: dict[str, tuple[int, int]] = {}
    for first, second, value in json.loads(table.read_text(encoding="utf-8")):
        for name in (first, second):
            if name not in names:
                species = Species.from_str(name)
                names[name] = (species.Z, round(float(species.oxi_state or 0)))
        a, b = names[first], names[second]
        found.setdefault(a, {})[b] = found.setdefault(b, {})[a] = float(value)
    return found


@lru_cache(maxsize=1)
def _element_data() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """(104,) each: atomic radius in Å, Pauling electronegativity, group, and whether it is a nonmetal."""
    from pymatgen.core import Element

    size = MAX_ATOMIC_NUMBER + 1
    radius, electronegativity = np.full(size, np.nan), np.full(size, np.nan)
    group, anion = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of each value that it does not know
        for z in range(1, size):
            element = Element.from_Z(z)
            radius[z] = float(element.atomic_radius or 1.5)
            electronegativity[z] = float(element.X)
            group[z] = 103 if element.is_lanthanoid or element.is_actinoid else element.group
            anion[z] = not (element.is_metal or element.is_metalloid)
    return radius, electronegativity, group, anion


def nonmetals() -> NDArray[np.bool_]:
    """(104,) which elements are neither metals nor metalloids."""
    return _element_data()[3]
