"""torch-sim as the engine of relaxations, beside ASE's optimisers, with SevenNet's published weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from force_field_checks import check_force_field, check_nasty_corpus

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.given import energy_metadata
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.course import Outcome
from crysjepa.relaxation.force_fields.registry import ForceFieldInfo, force_field_info, get_force_field
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.relaxation.torch_sim_engine import relax_by_torch_sim
from crysjepa.relaxation.torch_sim_model import TorchSimForceField, get_torch_sim_force_field

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("torch_sim") is None or importlib.util.find_spec("sevenn") is None,
        reason="needs torch-sim and SevenNet: pip install torch-sim-atomistic sevenn",
    ),
    # the tests use them themselves, where the engine does not keep these away
    pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:No tensor product accelerator:UserWarning"),
]


def salts() -> Crystals:
    """Rattled, strained, of two to eight atoms."""
    found = []
    for seed, (name, length, repeat) in enumerate([("NaCl", 5.9, 1), ("MgO", 4.4, 2), ("LiF", 4.2, 4)]):
        atoms = bulk(name, "rocksalt", a=length) * (1, 1, repeat)
        strain = np.random.default_rng(seed).normal(0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.rattle(0.08, seed=seed)
        found.append(atoms)
    return Crystals.from_atoms(found, ["a", "b", "c"])


@pytest.fixture(scope="module")
def field() -> TorchSimForceField:
    import torch

    torch.set_num_threads(1)
    return get_torch_sim_force_field("sevennet")


@pytest.fixture(scope="module")
def ours() -> list[Outcome]:
    return relax_together(salts(), get_force_field("sevennet"), RelaxSettings(max_steps=60))


def by_torch_sim(field: TorchSimForceField, crystals: Crystals, **options: float) -> list[Outcome]:
    return relax_by_torch_sim(crystals, field, RelaxSettings(engine="torch-sim", **options))  # type: ignore[arg-type]


def test_holds_what_every_force_field_must_hold(field: TorchSimForceField) -> None:
    check_force_field(field)


def test_says_what_the_calculator_says(field: TorchSimForceField) -> None:
    atoms = salts().to_atoms()
    for mine, its in zip(field.evaluate(atoms), get_force_field("sevennet").evaluate(atoms), strict=True):
        assert not isinstance(mine, str) and not isinstance(its, str)
        assert np.abs(its.forces).max() > 0.1 and np.abs(its.stress).max() > 1e-3
        assert mine.energy == pytest.approx(its.energy, abs=1e-4)
        np.testing.assert_allclose(mine.forces, its.forces, atol=1e-4)
        np.testing.assert_allclose(mine.stress, its.stress, atol=1e-5)


def test_ends_where_ases_optimisers_end(field: TorchSimForceField, ours: list[Outcome]) -> None:
    found = by_torch_sim(field, salts(), max_steps=60)
    assert [o.id for o in found] == ["a", "b", "c"]
    for mine, its in zip(found, ours, strict=True):
        assert mine.record is not None and its.record is not None and mine.reason is None
        assert mine.record.converged and its.record.converged
        assert mine.record.energy_per_atom_initial == pytest.approx(
            its.record.energy_per_atom_initial, abs=1e-4
        )
        assert mine.record.energy_per_atom == pytest.approx(its.record.energy_per_atom, abs=2e-3)
        assert mine.record.volume_change == pytest.approx(its.record.volume_change, abs=5e-3)
        assert mine.record.max_displacement == pytest.approx(its.record.max_displacement, abs=0.02)
        assert abs(mine.record.steps - its.record.steps) <= 5


def test_who_else_is_in_the_batch_changes_nothing(field: TorchSimForceField) -> None:
    together = by_torch_sim(field, salts(), max_steps=8)
    for sites in (1, 6):  # one by one; the small ones set out when the large one has arrived
        for a, b in zip(together, by_torch_sim(field, salts(), max_steps=8, chunk_sites=sites), strict=True):
            assert a.record is not None and b.record is not None
            assert (a.record.steps, a.record.converged) == (b.record.steps, b.record.converged)
            assert a.record.energy_per_atom == pytest.approx(b.record.energy_per_atom, abs=1e-4)


def test_no_steps_is_a_single_point(field: TorchSimForceField) -> None:
    for crystal, outcome in zip(salts(), by_torch_sim(field, salts(), max_steps=0), strict=True):
        assert outcome.record is not None and outcome.crystal is not None
        assert outcome.record.steps == 0 and not outcome.record.converged
        assert outcome.record.energy_per_atom == outcome.record.energy_per_atom_initial
        np.testing.assert_allclose(outcome.crystal.frac_coords, crystal.frac_coords, atol=1e-12)


def test_a_nasty_corpus_gets_the_same_reasons() -> None:
    assert check_nasty_corpus("sevennet", "torch-sim") == check_nasty_corpus("sevennet")


def test_the_table_is_the_same_and_says_which_torch_sim_it_was(tmp_path: Path) -> None:
    crystals = salts()
    chosen = RelaxSettings(max_steps=2, engine="torch-sim", chunk_size=2)
    first = relax_crystals(
        crystals, force_field="sevennet", settings=chosen, processes=1, shards=tmp_path / "shards"
    )
    table = first.apply_to(CandidateTable.from_crystals(crystals))
    plain = relax_crystals(
        crystals, force_field="sevennet", settings=RelaxSettings(max_steps=2, chunk_size=2), processes=1,
        shards=tmp_path / "shards",
    )  # fmt: skip
    assert len(list((tmp_path / "shards").glob("*.parquet"))) == 4, "another engine is another result"
    other = plain.apply_to(CandidateTable.from_crystals(crystals))
    assert list(table.frame.columns) == list(other.frame.columns)
    assert table.column("relax_steps") == other.column("relax_steps") == [2, 2, 2]
    again = relax_crystals(
        crystals, force_field="sevennet", settings=chosen, processes=1, shards=tmp_path / "shards"
    )
    assert again.crystals.content_hash() == first.crystals.content_hash()
    assert energy_metadata(first.force_field, chosen)["energies"]["engine"].startswith("torch-sim 0.")
    assert first.force_field == force_field_info("sevennet")


def test_each_nasty_crystal_fails_alone_in_its_last_sane_state() -> None:
    import nasty_torch_sim as nasty

    model = nasty.Nasty()
    field = TorchSimForceField(model, ForceFieldInfo("nasty", "1", "unknown", 118), cutoff=None)
    numbers = {
        "raises": nasty.RAISES, "grows": nasty.GROWS, "rests": 29, "shrinks": nasty.SHRINKS,
        "falls": nasty.FALLS, "lies": nasty.LIES,
    }  # fmt: skip
    crystals = Crystals.from_atoms(
        [Atoms(numbers=[z], cell=[2.5] * 3, pbc=True) for z in numbers.values()], list(numbers)
    )
    found = {o.id: o for o in by_torch_sim(field, crystals, max_steps=400)}
    assert list(found) == list(numbers)
    assert found["raises"].reason == "the force field failed: ArithmeticError: argon is not for me"
    assert "grew to more than 5 times" in str(found["grows"].reason)
    assert "shrank to less than 0.2" in str(found["shrinks"].reason)
    assert found["lies"].reason == "the force field's energy is not finite"
    assert found["rests"].reason is None and found["rests"].record is not None
    assert (found["rests"].record.steps, found["rests"].record.converged) == (0, True)
    for id_ in ("grows", "shrinks"):
        crystal, record = found[id_].crystal, found[id_].record
        assert crystal is not None and record is not None and not record.converged
        assert 0.2 <= crystal.volumes[0] / 2.5**3 <= 5
    assert found["raises"].crystal is None and found["lies"].crystal is None


def test_no_more_sites_move_together_than_there_is_room_for() -> None:
    import nasty_torch_sim as nasty

    model = nasty.Nasty()
    field = TorchSimForceField(model, ForceFieldInfo("nasty", "1", "unknown", 118), cutoff=None)
    crystals = Crystals.from_atoms(
        [bulk("Cu", cubic=True) * (1, 1, n) for n in (1, 1, 2, 3)], ["a", "b", "c", "d"]
    )
    by_torch_sim(field, crystals, max_steps=2, chunk_sites=8)
    assert max(model.sizes) == 12 and sorted(model.sizes) == [8, 8, 12]
