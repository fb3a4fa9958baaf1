"""What every force field must hold, whatever library it comes from."""

from __future__ import annotations

import dataclasses

import numpy as np
from ase import Atoms
from ase.build import bulk

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.force_fields.base import static_energies
from crysjepa.relaxation.force_fields.registry import ForceField, Prediction, get_force_field
from crysjepa.relaxation.force_fields.self_test import probe
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals


def one(numbers: list[int], length: float, second: float = 0.5) -> Crystals:
    """One or two atoms in a cube."""
    sites = [[0.0] * 3, [second] * 3][: len(numbers)]
    return Crystals.from_atoms([Atoms(numbers=numbers, scaled_positions=sites, cell=[length] * 3, pbc=True)])


def nasty_corpus() -> tuple[Crystals, set[str]]:
    """Crystals that break force fields, with three that must not; and the ids of these three."""
    crystals = {
        "isolated atom": one([8], 30.0),
        "alone in 7.5 Å": one([8], 7.5),
        "cesium": Crystals.from_atoms([bulk("Cs", "bcc", a=6.1)]),
        "cell of 0.3 Å": one([1], 0.3),
        "cell of 80 Å": one([8, 8], 80.0),
        "atoms on one spot": one([8, 8], 3.0, second=0.0),
        "atoms 0.03 Å apart": one([8, 8], 3.0, second=0.006),
        "one atom": one([26], 2.4),
        "squeezed hydrogen": one([1], 1.2),
        "Z = 100": one([100], 3.0),
        "not a number": dataclasses.replace(one([8], 3.0), frac_coords=[[np.nan, 0, 0]]),
        "infinite cell": dataclasses.replace(one([8], 3.0), lattices=[np.diag([np.inf, 3, 3])]),
        "needle": Crystals.from_atoms(
            [Atoms("SiO", positions=[[0, 0, 0], [1.6, 0, 0]], cell=[2.4, 2.4, 70], pbc=True)]
        ),
        "good": Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.6)]),
    }
    batch = Crystals.concatenate([c.with_ids([name]) for name, c in crystals.items()])
    return batch, {"one atom", "good"}


def check_nasty_corpus(name: str, engine: str = "crysjepa") -> dict[str, str | None]:
    """The corpus through ``relax_crystals``; the reason that each crystal got."""
    crystals, good = nasty_corpus()
    settings = RelaxSettings(max_steps=3, engine=engine)
    relaxation = relax_crystals(crystals, force_field=name, settings=settings, processes=1)
    table = relaxation.apply_to(CandidateTable.from_crystals(crystals))
    reasons = dict(zip(table.ids, table.column("reason"), strict=True))
    assert list(reasons) == list(crystals.ids)
    for id_, reason in reasons.items():
        assert (reason is None) == (table.column("status", [id_])[0] == "ok")
        assert reason is None or id_ not in good, reason
        if reason is None:  # some force fields can do more of it than others: then with numbers
            assert np.isfinite(relaxation.records[id_].energy_per_atom)
    for id_ in ("cell of 0.3 Å", "cell of 80 Å", "atoms on one spot", "not a number", "infinite cell"):
        assert reasons[id_] is not None
    return reasons


def check_force_field(field: ForceField, *, conservative: bool = True, tolerance: float = 2e-2) -> None:
    """Finite; a batch as one by one; forces and stress are derivatives of its energy, in eV/Å."""
    assert probe(field) is None
    atoms, h = bulk("MgO", "rocksalt", a=4.3), 0.01
    atoms.rattle(0.05, seed=3)
    (here,) = field.evaluate([atoms])
    assert isinstance(here, Prediction)
    assert static_energies(field, [atoms]) == [here.energy]
    if not conservative:
        return
    moved = []
    for sign in (1, -1):
        shifted, sheared = atoms.copy(), atoms.copy()
        shifted.positions[1, 2] += sign * h
        strain = np.eye(3)
        strain[0, 1] = strain[1, 0] = sign * h / 2
        sheared.set_cell(atoms.cell @ strain, scale_atoms=True)
        moved += [shifted, sheared]
    energies = [p.energy for p in field.evaluate(moved) if isinstance(p, Prediction)]
    assert len(energies) == 4
    force = -(energies[0] - energies[2]) / (2 * h)
    slope = (energies[1] - energies[3]) / (2 * h)
    assert abs(here.forces[1, 2] - force) < tolerance
    assert abs(here.stress[5] * atoms.cell.volume - slope) < tolerance * atoms.cell.volume**0.5


def check_torch_sim_model(name: str, tolerance: float = 1e-4) -> None:
    """The library's model for torch-sim passes for a force field, and says what its calculator says."""
    from crysjepa.relaxation.torch_sim_model import get_torch_sim_force_field

    found = get_torch_sim_force_field(name)
    assert probe(found) is None
    atoms = [bulk("MgO", "rocksalt", a=4.3, cubic=True), bulk("NaCl", "rocksalt", a=5.5), bulk("Cu", a=3.5)]
    for seed, a in enumerate(atoms):
        a.rattle(0.05, seed=seed)
    for mine, its in zip(found.evaluate(atoms), get_force_field(name).evaluate(atoms), strict=True):
        assert isinstance(mine, Prediction) and isinstance(its, Prediction)
        assert abs(mine.energy - its.energy) < tolerance * len(its.forces)
        np.testing.assert_allclose(mine.forces, its.forces, atol=tolerance)
        np.testing.assert_allclose(mine.stress, its.stress, atol=tolerance)
