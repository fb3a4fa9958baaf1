"""Properties that a structure decides, against pymatgen and well-known crystals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_crystals import table_of
from pymatgen.core import Lattice, Structure

from crysjepa.core.crystals import Crystals
from crysjepa.properties import find_property
from crysjepa.properties.base import How

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
GRAPHITE = Structure(
    Lattice.hexagonal(2.46, 6.71),
    ["C"] * 4,
    [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
)
SKEWED = Structure(
    Lattice.from_parameters(4.1, 5.3, 6.2, 81, 97, 113),
    ["Li", "Ti", "O", "O"],
    [[0.02, 0.01, 0.03], [0.5, 0.48, 0.52], [0.1, 0.52, 0.44], [0.6, 0.05, 0.9]],
)


def values(name: str, *structures: Structure) -> list[float]:
    ids = [f"c-{i}" for i in range(len(structures))]
    found = find_property(name).measure(table_of(structures, ids), How())
    assert not found.reasons
    return [found.values[i] for i in ids]


def test_density_and_volume_are_those_of_pymatgen(salts: Crystals) -> None:
    structures = [*salts.to_structures(), ROCK_SALT, GRAPHITE, SKEWED]
    assert values("density", *structures) == pytest.approx([float(s.density) for s in structures], rel=1e-5)
    expected = [s.volume / len(s) for s in structures]
    assert values("volume_per_atom", *structures) == pytest.approx(expected, rel=1e-6)


def test_space_groups_of_well_known_crystals() -> None:
    found = values("space_group_number", ROCK_SALT, ROCK_SALT.get_primitive_structure(), GRAPHITE, SKEWED)
    assert found == [225, 225, 194, 1]


def test_graphite_has_layers_and_rock_salt_is_a_network() -> None:
    assert values("dimensionality", GRAPHITE, ROCK_SALT) == [2, 3]


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(1, 2)] * 3), st.sampled_from([ROCK_SALT, GRAPHITE, SKEWED]))
def test_supercells_are_the_same_crystal(sizes: tuple[int, int, int], structure: Structure) -> None:
    larger = structure.make_supercell(sizes, in_place=False)
    for name in ("density", "volume_per_atom", "space_group_number"):
        one, other = values(name, structure, larger)
        assert other == pytest.approx(one, rel=1e-6), name


def test_so_they_are_for_its_bonds() -> None:
    assert values("dimensionality", GRAPHITE.make_supercell([2, 2, 1], in_place=False)) == [2]


@settings(max_examples=15, deadline=None)
@given(st.floats(0.7, 1.4))
def test_density_falls_with_the_volume(scale: float) -> None:
    scaled = SKEWED.copy()
    scaled.scale_lattice(SKEWED.volume * scale)
    one, other = values("density", SKEWED, scaled)
    assert other == pytest.approx(one / scale, rel=1e-5)
    one, other = values("volume_per_atom", SKEWED, scaled)
    assert other == pytest.approx(one * scale, rel=1e-6)


def test_none_of_no_crystals() -> None:
    table = table_of([ROCK_SALT], ["x"])
    empty = type(table)(table.frame.iloc[:0].reset_index(drop=True))
    for name in ("density", "volume_per_atom", "space_group_number", "dimensionality", "price", "abundance"):
        found = find_property(name).measure(empty, How())
        assert not found.values and not found.reasons
    assert np.isfinite(values("density", ROCK_SALT)).all()
