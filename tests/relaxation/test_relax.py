"""Relaxation against ASE's own loop, and against everything that can go wrong."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nasty_force_field
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty_force_field import KILLS, LIES, RAISES, SLEEPS, Constant

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.checks import shortest_distance, unfit
from crysjepa.relaxation.course import Outcome, RelaxRecord
from crysjepa.relaxation.force_fields.base import Prediction
from crysjepa.relaxation.force_fields.registry import AseForceField, get_force_field
from crysjepa.relaxation.job import chunks_of
from crysjepa.relaxation.relax import PAPER, RelaxSettings, default_workers, relax_crystals
from crysjepa.runtime.threads import default_processes
from crysjepa.runtime.worker_pool import WorkerPool

NASTY = "nasty_force_field:Nasty"
EMT_PATH = "ase.calculators.emt:EMT"


@pytest.fixture(autouse=True)
def _nasty_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))


def alloys() -> Crystals:
    """Rattled and strained metals for EMT, of one to eight atoms."""
    atoms = []
    for seed, (symbol, repeat) in enumerate([("Cu", 1), ("Al", 2), ("Ni", 2), ("Au", 4), ("Pt", 8)]):
        a = bulk(symbol) * ((1, 1, repeat) if repeat < 8 else (2, 2, 2))
        if len(a) > 2:
            a.numbers[1] = 29
        a.set_cell(
            a.cell @ (np.eye(3) + np.random.default_rng(seed).normal(0, 0.03, (3, 3))), scale_atoms=True
        )
        a.rattle(0.1, seed=seed)
        atoms.append(a)
    return Crystals.from_atoms(atoms, ["e", "d", "c", "b", "a"])


def one(numbers: list[int] | int, length: float = 3.0, id: str = "x") -> Crystals:
    numbers = [numbers] if isinstance(numbers, int) else numbers
    sites = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]][: len(numbers)]
    return Crystals.from_atoms(
        [Atoms(numbers=numbers, scaled_positions=sites, cell=[length] * 3, pbc=True)], [id]
    )


def relax_one(crystal: Crystals, calculator: Calculator, **options: Any) -> Outcome:
    chosen = RelaxSettings(**{"max_steps": 30, **options})
    return relax_together(crystal, AseForceField(calculator, name="test"), chosen)[0]


# -- lockstep against ASE ------------------------------------------------------------------


COMBINATIONS = [("fire", "frechet"), ("fire", "exp"), ("lbfgs", "frechet"), ("bfgs", "frechet")]


@pytest.fixture(scope="module")
def compared() -> dict[tuple[str, str], tuple[list[Outcome], list[dict[str, Any]]]]:
    """Ours and ASE's loop for every combination. In a worker, for its one-threaded linear algebra."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))
        with WorkerPool(
            nasty_force_field.set_up_comparison, (EMT_PATH,), 1, {"OPENBLAS_NUM_THREADS": "1"}
        ) as pool:
            for optimizer, cell_filter in COMBINATIONS:
                chosen = RelaxSettings(optimizer=optimizer, cell_filter=cell_filter, fmax=0.1, max_steps=10)
                pool.submit((optimizer, cell_filter), (alloys()[:3], chosen))
            return {key: done.value for key, done in pool.results()}


@pytest.mark.slow
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_lockstep_is_ases_loop_for_each_crystal(combination: tuple[str, str], compared: Any) -> None:
    crystals = alloys()[:3]
    outcomes, plain = compared[combination]
    assert [o.id for o in outcomes] == list(crystals.ids)
    for crystal, outcome, ase in zip(crystals, outcomes, plain, strict=True):
        record, final, n = outcome.record, outcome.crystal, len(crystal.atomic_numbers)
        assert record is not None and final is not None and outcome.reason is None
        assert (record.converged, record.steps) == (ase["converged"], ase["steps"])
        assert record.energy_per_atom_initial * n == pytest.approx(ase["before"], abs=1e-9)
        assert record.energy_per_atom * n == pytest.approx(ase["after"], abs=1e-9)
        assert record.max_force == pytest.approx(np.linalg.norm(ase["forces"], axis=1).max(), abs=1e-9)
        assert record.max_stress == pytest.approx(np.abs(ase["stress"]).max() * 160.21766, abs=1e-4)
        np.testing.assert_allclose(final.lattices[0], ase["cell"], atol=1e-9)
        np.testing.assert_allclose(final.frac_coords @ final.lattices[0], ase["positions"], atol=1e-9)
        moved = ase["positions"] @ np.linalg.inv(ase["cell"]) - crystal.frac_coords
        moved = (moved - moved.mean(axis=0)) @ ase["cell"]
        assert record.max_displacement == pytest.approx(np.linalg.norm(moved, axis=1).max(), abs=1e-9)
        assert record.volume_change == pytest.approx(final.volumes[0] / crystal.volumes[0] - 1, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
def test_lockstep_with_chgnet_ends_where_its_own_calculator_does(capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from chgnet.model.dynamics import CHGNetCalculator

    torch.set_num_threads(1)
    atoms = bulk("NaCl", "rocksalt", a=5.4)
    atoms.rattle(0.05, seed=2)
    chosen = RelaxSettings(optimizer="bfgs", fmax=0.01, max_steps=3)
    (outcome,) = relax_together(Crystals.from_atoms([atoms]), get_force_field("chgnet"), chosen)
    atoms.calc = CHGNetCalculator(use_device="cpu")
    capsys.readouterr()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=3)
    assert outcome.record is not None and outcome.record.steps == 3
    assert outcome.record.energy_per_atom * 2 == pytest.approx(atoms.get_potential_energy(), abs=5e-4)
    assert outcome.record.energy_per_atom < outcome.record.energy_per_atom_initial - 0.005


def test_no_steps_is_a_single_point() -> None:
    crystal = alloys()[3]
    outcome = relax_together(crystal, get_force_field(EMT_PATH), RelaxSettings(max_steps=0))[0]
    assert outcome.record is not None and outcome.crystal is not None
    assert outcome.record.steps == 0 and not outcome.record.converged
    assert outcome.record.energy_per_atom == outcome.record.energy_per_atom_initial
    np.testing.assert_allclose(outcome.crystal.frac_coords, crystal.frac_coords, atol=1e-12)


def test_paper_preset() -> None:
    assert (PAPER.optimizer, PAPER.cell_filter, PAPER.fmax, PAPER.max_steps) == ("fire", "exp", 0.05, 500)


# -- gone astray ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calculator", "reason", "sane_energy"),
    [
        (Constant(-3.0), "grew to more than 5 times", 0.0),
        (Constant(3.0), "shrank to less than 0.2", 0.0),
        (Constant(0.1, (0.0, -1.0, -51.5)), "fell by more than 50 eV/atom", -1.0),
        (Constant(-0.1, (0.0, -1.0, float("nan"))), "energy is not finite", -1.0),
        (Constant(float("inf")), "stress is not finite", None),
    ],
)
def test_astray_relaxations_stop_with_a_reason_in_their_last_sane_state(
    calculator: Constant, reason: str, sane_energy: float | None
) -> None:
    outcome = relax_one(one(29, 2.5), calculator, max_steps=400)
    assert outcome.reason is not None and reason in outcome.reason
    if sane_energy is None:
        assert outcome.record is None and outcome.crystal is None
        return
    assert outcome.record is not None and outcome.crystal is not None
    assert outcome.record.energy_per_atom == sane_energy and not outcome.record.converged
    assert 0.2 <= outcome.crystal.volumes[0] / 2.5**3 <= 5
    assert outcome.crystal.volumes[0] != pytest.approx(2.5**3)


def test_a_collapse_is_stopped() -> None:
    # two atoms 0.45 Å apart, in a cell that shrinks until they are below 0.4 Å
    crystal = Crystals.from_atoms(
        [Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.45]], cell=[3.0] * 3, pbc=True)]
    )
    outcome = relax_one(crystal, Constant(2.0), max_steps=400)
    assert outcome.reason is not None and "shortest distance fell to 0.3" in outcome.reason
    assert outcome.crystal is not None
    assert shortest_distance(outcome.crystal.frac_coords, outcome.crystal.lattices[0], 1.0) >= 0.4  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), skew=st.integers(0, 5))
def test_shortest_distance_is_that_of_a_brute_search(seed: int, skew: int) -> None:
    random = np.random.default_rng(seed)
    cell = np.diag(random.uniform(0.6, 3, 3)) + random.uniform(-0.2, 0.2, (3, 3))
    coords = random.uniform(-1, 2, (random.integers(1, 4), 3))
    images = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), axis=-1).reshape(-1, 3)
    gaps = (coords[:, None] - coords[None])[..., None, :] - images
    lengths = np.linalg.norm((gaps % 1.0 + np.floor(gaps)) @ cell, axis=-1)
    expected = lengths[lengths > 1e-12].min()
    shear = np.eye(3)  # another choice of cell for the same lattice
    shear[0, 1], shear[1, 2] = skew, -skew
    found = shortest_distance(coords @ np.linalg.inv(shear), shear @ cell, 1.0)
    assert found == pytest.approx(expected if expected < 1.0 else np.inf, abs=1e-9)


@pytest.mark.parametrize(
    ("crystal", "reason"),
    [
        (one(8, 30.0), "27000 Å³ per atom is above 500"),
        (one([8, 8], 80.0), "per atom is above 500"),
        (one(1, 0.3), "atoms overlap"),
        (one(1, 0.48), "shortest distance 0.48 Å is below 0.5 Å; not relaxed"),
        (one(100), "Z = 100"),
        (dataclasses.replace(one(8), frac_coords=[[np.nan, 0, 0]]), "not finite"),
        (dataclasses.replace(one(8), lattices=[[[np.inf, 0, 0], [0, 3, 0], [0, 0, 3]]]), "not finite"),
        (dataclasses.replace(one(8), lattices=[[[3, 0, 0], [3, 0, 0], [0, 0, 3]]]), "atoms overlap"),
        (dataclasses.replace(one([8, 8]), frac_coords=[[0.1, 0, 0], [1.1, 0, 0]]), "0.00 Å is below"),
        (one(8, 0.51), None),
    ],
)
def test_unfit_crystals_are_told_why(crystal: Crystals, reason: str | None) -> None:
    found = unfit(crystal, 94)
    assert found is None if reason is None else reason in (found or "")


# -- relax_crystals ------------------------------------------------------------------------


@pytest.mark.slow
def test_same_bytes_whatever_the_processes_the_order_and_the_interruptions(tmp_path: Path) -> None:
    crystals = alloys()
    chosen = RelaxSettings(max_steps=4, chunk_size=2)
    seen: list[tuple[int, int]] = []
    first = relax_crystals(
        crystals,
        force_field=EMT_PATH,
        settings=chosen,
        processes=2,
        shards=tmp_path / "one",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (0, 5) and seen[-1] == (5, 5) and seen == sorted(seen)
    files = shards(tmp_path / "one")
    assert len(files) == 3
    contents = {f.name: f.read_bytes() for f in files}

    files[1].unlink()
    files[2].write_bytes(contents[files[2].name][:100])  # as if the disk had been full
    stamp = files[0].stat().st_mtime_ns
    backwards = crystals[[4, 3, 2, 1, 0]]
    resumed = relax_crystals(
        backwards, force_field=EMT_PATH, settings=chosen, processes=1, shards=tmp_path / "one"
    )
    assert {f.name: f.read_bytes() for f in shards(tmp_path / "one")} == contents
    assert files[0].stat().st_mtime_ns == stamp

    assert first.crystals.ids == crystals.ids and resumed.crystals.ids == backwards.ids
    assert resumed.crystals.select(crystals.ids).content_hash() == first.crystals.content_hash()
    assert untimed(resumed.records) == untimed(first.records)
    kept = [i for i, r in resumed.records.items() if r.seconds == round(first.records[i].seconds or 0, 3)]
    assert len(kept) >= 2, "times are kept beside the results"

    tables = [CandidateTable.from_crystals(crystals) for _ in range(2)]
    for table, relaxation, name in zip(tables, (first, resumed), "ab", strict=True):
        relaxation.apply_to(table).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    # other settings are another result
    relax_crystals(
        crystals[[0, 1]],
        force_field=EMT_PATH,
        settings=chosen.model_copy(update={"max_steps": 1}),
        processes=1,
        shards=tmp_path / "one",
    )
    assert len(shards(tmp_path / "one")) == 4


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def test_chunks_are_of_crystals_alike_in_size() -> None:
    crystals = alloys()
    assert sorted(crystals.num_atoms) == [1, 2, 2, 4, 8]
    chunks = chunks_of(crystals, RelaxSettings(chunk_size=2))
    assert [crystals.num_atoms[rows].tolist() for rows in chunks] == [[1, 2], [2, 4], [8]]
    assert sorted(row for rows in chunks for row in rows) == list(range(len(crystals)))


def test_a_gpu_has_chunks_of_its_own_unless_others_are_chosen() -> None:
    default, chosen = RelaxSettings(max_steps=3), RelaxSettings(max_steps=3, chunk_sites=100)
    assert default.on("cpu") is default and chosen.on("cuda") is chosen
    assert default.on("mps") is default
    assert default.on("cuda:0") == RelaxSettings(max_steps=3, chunk_size=200, chunk_sites=2000)
    assert (default_workers("mps"), default_workers("cpu")) == (1, default_processes("cpu"))


def test_so_many_move_together_as_have_at_most_so_many_sites() -> None:
    crystals, calls = alloys(), []

    class Watched(AseForceField):
        def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
            calls.append([len(a) for a in atoms])
            return super().evaluate(atoms)

    found = {}
    for most in (5, 100, 1):
        calls.clear()
        chosen = RelaxSettings(max_steps=7, chunk_sites=most)
        outcomes = relax_together(crystals, Watched(EMT(), name="emt"), chosen)
        assert all(sum(sizes) <= most or len(sizes) == 1 for sizes in calls)
        assert [o.id for o in outcomes] == list(crystals.ids)
        found[most] = untimed({o.id: o.record for o in outcomes if o.record is not None})
        assert sum(map(len, calls)) == sum(r.steps + 1 for r in found[most].values())
    assert found[5] == found[100] == found[1] and len(found[1]) == 5


def test_where_one_has_arrived_the_next_sets_out() -> None:
    """Two may move at once. Three of four are at rest: one by one they are seen beside the fourth."""
    atoms, calls = [bulk("Cu", a=a) for a in (3.59, 3.59, 3.59, 3.2)], []

    class Watched(AseForceField):
        def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
            calls.append(len(atoms))
            return super().evaluate(atoms)

    chosen = RelaxSettings(max_steps=2, chunk_sites=2, fmax=0.2)
    crystals = Crystals.from_atoms(atoms, ["a", "b", "c", "moves"])
    found = relax_together(crystals, Watched(EMT(), name="emt"), chosen)
    assert [o.record.steps for o in found if o.record is not None] == [0, 0, 0, 2]
    assert calls == [2, 2, 2]


def test_the_largest_crystals_are_relaxed_first() -> None:
    done = []
    relax_crystals(
        alloys(), force_field=EMT_PATH, settings=RelaxSettings(max_steps=1, chunk_size=2),
        processes=1, progress=lambda so_far, total: done.append(so_far),
    )  # fmt: skip
    assert done == [0, 1, 3, 5]  # chunks of 8, 2 + 4 and 1 + 2 sites


def untimed(records: dict[str, RelaxRecord]) -> dict[str, RelaxRecord]:
    return {i: dataclasses.replace(r, seconds=None) for i, r in records.items()}


@pytest.mark.slow
def test_each_nasty_crystal_fails_alone(tmp_path: Path) -> None:
    kinds = {29: "fine", KILLS: "kills", SLEEPS: "sleeps", RAISES: "raises", LIES: "lies"}
    crystals = Crystals.concatenate(
        [one(z, 2.6, id=name) for z, name in kinds.items()] + [one(30, 2.7, id="too")]
    )
    chosen = RelaxSettings(max_steps=2, time_limit=2.0)
    relaxation = relax_crystals(crystals, force_field=NASTY, settings=chosen, processes=2, shards=tmp_path)
    assert relaxation.failures == {
        "kills": "the force field's process died (signal 9) on this crystal",
        "sleeps": "took longer than 2 s",
        "raises": "the force field failed: ArithmeticError: argon is not for me",
        "lies": "the force field's energy is not finite",
    }
    assert set(relaxation.records) == {"fine", "too"} == set(relaxation.crystals.ids)
    again = relax_crystals(crystals, force_field=NASTY, settings=chosen, processes=1, shards=tmp_path)
    assert again.failures == relaxation.failures  # read back: nothing dies or sleeps a second time
    assert again.crystals.content_hash() == relaxation.crystals.content_hash()


def test_apply_to_keeps_what_was_decided_before() -> None:
    crystals = Crystals.concatenate([one(29, 2.6, id="good"), one(RAISES, id="bad"), one(30, 2.6, id="out")])
    table = CandidateTable.from_crystals(crystals, {"unread": "no file"})
    table = table.decide("novelty", {"out": "known"}, Status.REJECTED)
    relaxation = relax_crystals(
        table.crystals(["good", "bad"]), force_field=NASTY, settings=RelaxSettings(max_steps=2), processes=1
    )
    after = relaxation.apply_to(table)
    assert after.ids == table.ids
    assert after.column("status") == ["ok", "failed", "rejected", "failed"]
    assert after.column("stage") == [None, "relax", "novelty", "read"]
    record = relaxation.records["good"]
    assert after.column("energy_per_atom") == [record.energy_per_atom, None, None, None]
    assert after.column("relax_steps") == [2, None, None, None]
    assert after.column("converged") == [False, None, None, None]
    assert after.crystals(["good"]).content_hash() == relaxation.crystals.content_hash()
    assert after.crystals(["out"]).content_hash() == table.crystals(["out"]).content_hash()
    assert not any("second" in column for column in after.frame.columns)


def test_apply_to_leaves_no_energy_of_the_source() -> None:
    crystals = Crystals.concatenate([one(29, 2.6, id="good"), one(RAISES, id="bad"), one(30, 2.6, id="out")])
    table = CandidateTable.from_crystals(crystals).decide("novelty", {"out": "known"}, Status.REJECTED)
    table = table.with_column("energy_per_atom", dict.fromkeys(table.ids, -9.0), "Float64")
    table = table.with_column("converged", dict.fromkeys(table.ids, "yes"), "string")
    relaxation = relax_crystals(
        table.crystals(["good", "bad"]), force_field=NASTY, settings=RelaxSettings(max_steps=2), processes=1
    )
    after = relaxation.apply_to(table)
    assert after.column("energy_per_atom") == [relaxation.records["good"].energy_per_atom, None, None]
    assert after.column("converged") == [False, None, None]


def test_apply_to_leaves_no_formation_energy_of_the_structure_before() -> None:
    crystals = Crystals.concatenate([one(29, 2.6, id="good"), one(RAISES, id="bad"), one(30, 2.6, id="out")])
    table = CandidateTable.from_crystals(crystals).decide("novelty", {"out": "known"}, Status.REJECTED)
    names = ("formation_energy_per_atom", "e_above_hull", "Energy_above_hull", "band_gap")
    for name in names:
        table = table.with_column(name, dict.fromkeys(table.ids, 0.5), "Float64")
    relaxation = relax_crystals(
        table.crystals(["good", "bad"]), force_field=NASTY, settings=RelaxSettings(max_steps=2), processes=1
    )
    after = relaxation.apply_to(table)
    for name in names[:3]:
        assert after.column(name) == [None, 0.5, 0.5], name
    assert after.column("band_gap") == [0.5, 0.5, 0.5]


def test_nothing_to_relax() -> None:
    relaxation = relax_crystals(Crystals.empty(), force_field=EMT_PATH)
    assert len(relaxation.crystals) == 0 and relaxation.records == {} == relaxation.failures


def test_what_cannot_work_is_an_error_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    twice = alloys()[[0, 0]]
    with pytest.raises(ValueError, match="an id appears twice"):
        relax_crystals(twice, force_field=EMT_PATH)
    with pytest.raises(ValueError, match="no force field"):
        relax_crystals(alloys(), force_field="magic")
    with pytest.raises(RuntimeError, match=r"could not be set up.*Nowhere"):
        relax_crystals(alloys(), force_field="ase.calculators.emt:Nowhere", processes=1)
    assert signal.getsignal(signal.SIGINT) is before, "ignored while workers start, and then as it was"


def test_a_crystal_that_upsets_the_accelerator_costs_no_other() -> None:
    atoms = [bulk("Xe", "fcc", a=6.1), *(bulk("Cu", "fcc", a=3.5 + 0.1 * i) for i in range(3))]
    crystals = Crystals.from_atoms(atoms, ["xenon", "a", "b", "c"])
    done = relax_crystals(
        crystals, force_field=NASTY, settings=RelaxSettings(max_steps=1, chunk_size=4), processes=1
    )
    assert set(done.records) == {"a", "b", "c"} and set(done.failures) == {"xenon"}
    assert "CUDA error: device-side assert triggered" in done.failures["xenon"]
