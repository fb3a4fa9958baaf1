import pytest
from pymatgen.core import Lattice, Structure

from crysjepa.crystals import Crystals
from crysjepa.energy.corrections import mp2020_corrections


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
