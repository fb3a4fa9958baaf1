from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Species, Structure

from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import mp2020_corrections, oxidation_states

CASES = Path(__file__).parents[1] / "data" / "cases" / "energies"


def rocksalt(cation, anion, a):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5] * 3])


def test_corrections_are_the_published_ones():
    """Table of Wang et al. (2021): oxide −0.687, +U on Fe −2.256 (with O) and chloride −0.614 eV per atom."""
    crystals = Crystals.from_structures(
        [
            rocksalt("Mg", "O", 4.2),
            rocksalt("Fe", "O", 4.3),
            rocksalt("Na", "Cl", 5.6),
            rocksalt("Ti", "C", 4.3),
        ],
        ids=["MgO", "FeO", "NaCl", "TiC"],
    )
    found = mp2020_corrections(crystals)
    assert found == pytest.approx([-0.687 / 2, (-0.687 - 2.256) / 2, -0.614 / 2, 0.0], abs=1e-6)
    assert mp2020_corrections(crystals[:0]).shape == (0,)


def test_a_second_anion_in_a_formula_of_many_atoms():
    """Oxide and chloride in a formula unit of 51 atoms, for which pymatgen's scheme guesses no states."""
    crystals = Crystals.from_structures([Structure.from_file(CASES / "li10b14cl2o25.vasp")], ids=["boracite"])
    assert mp2020_corrections(crystals) == pytest.approx(-(25 * 0.687 + 2 * 0.614) / 51, abs=1e-6)


def apart(formula):
    """So many atoms, each far from the others, since corrections look for peroxides."""
    species = [e for e, n in Composition(formula).items() for _ in range(int(n))]
    side = int(np.ceil(len(species) ** (1 / 3)))
    places = np.stack(np.unravel_index(np.arange(len(species)), (side,) * 3), axis=1)
    crystal = Structure(Lattice.cubic(3.0 * side), species, places / side)
    return Crystals.from_structures([crystal], ids=[formula])


@pytest.mark.parametrize(
    "formula, total",
    [
        ("Ca10P6O24F2", -24 * 0.687 - 2 * 0.462),  # fluorapatite
        ("Na8Al6Si6O24Cl2", -24 * 0.687 - 2 * 0.614),  # sodalite
        ("Ca5P3O13H", -13 * 0.687),  # hydroxyapatite: its hydrogen is no anion
        ("Ba3Ti7O22Cl", -22 * 0.687),  # no states balance it: the most electronegative alone
    ],
)
def test_anions_of_minerals(formula, total):
    crystals = apart(formula)
    assert mp2020_corrections(crystals)[0] * crystals.num_atoms[0] == pytest.approx(total, abs=1e-6)


def test_a_formula_beyond_reason_has_no_correction():
    assert np.isnan(mp2020_corrections(apart("Na501Cl500")))[0]


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["Li", "Fe", "Mn", "S", "N", "O", "Cl", "H", "Xe"]), st.integers(1, 4),
                       min_size=1, max_size=4))  # fmt: skip
def test_oxidation_states_are_pymatgens_best(amounts):
    formula = Composition(amounts).reduced_composition
    found = oxidation_states(formula)
    states, by_atom = formula._get_oxi_state_guesses(False, -1, None, 0)
    if len(amounts) == 1 or not states:
        assert found == (dict.fromkeys(amounts, 0.0) if len(amounts) == 1 else {})
        return

    def score(own):
        return sum(Composition.oxi_prob.get(Species(e, q), 0) for e, qs in own.items() for q in qs)

    own = [score(b) for s, b in zip(states, by_atom, strict=True) if s == pytest.approx(found)]
    assert own and max(own) == pytest.approx(max(map(score, by_atom)))
