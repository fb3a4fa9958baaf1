"""What energies can be, and when one is within a limit."""

import numpy as np
import pytest

from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import known_hull
from crysjepa.energy.limits import HIGHEST, LOWEST, no_formation_energy, within


def test_a_tenth_is_within_a_tenth():
    hull = Hull.from_entries(["NaCl"], [-2.1], scale="x", source="s")
    above = hull.e_above_hull("NaCl", -2.0).e_above_hull
    assert above is not None and above > 0.1  # by the rounding of its terms
    assert within(above, 0.1) and not within(0.10001, 0.1) and not within(np.nan, 0.1)
    assert within([above, 0.2, np.nan], 0.1).tolist() == [True, False, False]


def test_every_known_compound_is_far_from_the_floor_and_the_ceiling():
    energies = np.array(list(known_hull().compounds.values()))
    assert energies.min() > LOWEST + 1.5 and energies.max() < HIGHEST - 15


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        (-4.5, None),
        (9.0, None),
        (-6.1, "below -6"),
        (-1e6, "below -6"),
        (21.0, "above 20"),
        (np.inf, "above 20"),
    ],
)
def test_what_is_no_formation_energy_is_told_why(energy, said):
    found = no_formation_energy(energy)
    assert found is None if said is None else said in found
