"""Force fields against the libraries they come from, finite differences and symmetries."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import warnings
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nasty_force_field import LIES, RAISES, Constant, Nasty
from scipy.spatial.transform import Rotation

from crysjepa.relaxation.force_fields.base import Prediction, evaluate_batch
from crysjepa.relaxation.force_fields.chgnet import (
    MAX_ANGLES,
    ChgnetForceField,
    Graph,
    batches_within,
    crystal_graph,
)
from crysjepa.relaxation.force_fields.registry import (
    AseForceField,
    force_field_info,
    force_field_names,
    get_force_field,
)
from crysjepa.relaxation.force_fields.self_test import probe
from crysjepa.relaxation.force_fields.status import force_field_status


@pytest.fixture(scope="module")
def chgnet() -> ChgnetForceField:
    import torch

    torch.set_num_threads(1)
    return ChgnetForceField()


def crystals() -> dict[str, Atoms]:
    """Small crystals away from their equilibrium."""
    nacl = bulk("NaCl", "rocksalt", a=5.5)
    nacl.rattle(0.1, seed=1)
    strained = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    strained.set_cell(
        strained.cell @ (np.eye(3) + [[0.03, 0.02, 0], [0, -0.04, 0.01], [0, 0, 0.02]]), scale_atoms=True
    )
    cscl = Atoms("CsCl", scaled_positions=[[0, 0, 0], [0.52, 0.5, 0.47]], cell=[4.1, 4.0, 4.3], pbc=True)
    return {
        "nacl": nacl,
        "strained": strained,
        "cscl": cscl,
        "one atom": bulk("Fe", "bcc", a=2.9),
        "no angles": bulk("Cs", "bcc", a=6.2),
    }


def sparse() -> Atoms:
    return Atoms("O", cell=[30.0] * 3, pbc=True)


@pytest.fixture(scope="module")
def reference() -> object:
    from chgnet.model.dynamics import CHGNetCalculator

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNetCalculator(use_device="cpu")


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
@pytest.mark.parametrize("name", list(crystals()))
def test_chgnet_agrees_with_its_own_calculator(
    chgnet: ChgnetForceField, reference: object, name: str
) -> None:
    atoms = crystals()[name]
    (found,) = chgnet.evaluate([atoms])
    assert isinstance(found, Prediction)
    atoms.calc = reference
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=2e-5 * len(atoms))
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-4)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), atol=1e-5)


def test_left_handed_cell_has_the_stress_of_its_mirror_image(chgnet: ChgnetForceField) -> None:
    right = crystals()["strained"]
    left = right.copy()
    mirror = np.diag([1.0, 1.0, -1.0])
    left.set_cell(right.cell @ mirror, scale_atoms=True)
    assert np.linalg.det(left.cell) < 0 < np.linalg.det(right.cell)
    one, two = chgnet.evaluate([right, left])
    assert isinstance(one, Prediction) and isinstance(two, Prediction)
    assert two.energy == pytest.approx(one.energy, abs=1e-4)
    np.testing.assert_allclose(two.stress, one.stress * [1, 1, 1, -1, -1, 1], atol=1e-5)
    np.testing.assert_allclose(two.forces, one.forces @ mirror, atol=1e-4)


def test_chgnet_forces_and_stress_are_derivatives_of_its_energy(chgnet: ChgnetForceField) -> None:
    atoms, h = crystals()["nacl"], 0.01
    moved = []
    for sign in (1, -1):
        shifted = atoms.copy()
        shifted.positions[1, 2] += sign * h
        sheared = atoms.copy()
        strain = np.eye(3) + sign * h / 2 * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
        sheared.set_cell(atoms.cell @ strain, scale_atoms=True)
        moved += [shifted, sheared]
    here, *there = chgnet.evaluate([atoms, *moved])
    assert isinstance(here, Prediction)
    energies = [p.energy for p in there if isinstance(p, Prediction)]
    assert here.forces[1, 2] == pytest.approx(-(energies[0] - energies[2]) / (2 * h), abs=3e-3)
    assert here.stress[5] * atoms.cell.volume == pytest.approx(
        (energies[1] - energies[3]) / (2 * h), abs=3e-3
    )


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_chgnet_sees_neither_rotation_nor_origin_nor_order(chgnet: ChgnetForceField, seed: int) -> None:
    random = np.random.default_rng(seed)
    atoms = crystals()["strained"]
    turn, order = Rotation.random(random_state=random).as_matrix(), random.permutation(len(atoms))
    other = atoms[order]
    other.set_cell(atoms.cell @ turn.T, scale_atoms=True)
    other.set_scaled_positions(other.get_scaled_positions(wrap=False) + random.uniform(-2, 2, 3))
    one, two = chgnet.evaluate([atoms, other])
    assert isinstance(one, Prediction) and isinstance(two, Prediction)
    assert two.energy == pytest.approx(one.energy, abs=1e-4)
    np.testing.assert_allclose(two.forces, one.forces[order] @ turn.T, atol=1e-3)


@pytest.mark.parametrize("name", list(crystals()))
def test_graph_is_the_one_of_chgnets_converter(name: str) -> None:
    from chgnet.graph import CrystalGraphConverter
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms = crystals()[name]
    ours = crystal_graph(atoms)
    assert isinstance(ours, Graph)
    theirs = CrystalGraphConverter()(AseAtomsAdaptor.get_structure(atoms))

    def describe(
        edges: np.ndarray, images: np.ndarray, undirected: np.ndarray, first: np.ndarray, angles: np.ndarray
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        edges = np.column_stack([edges, images])
        assert np.array_equal(undirected[angles[:, [2, 4]]], angles[:, [1, 3]])
        assert np.array_equal(undirected[first], np.arange(len(first)))
        for u in range(len(first)):  # the two directed edges of an undirected one are each other's reverse
            a, b = edges[undirected == u]
            assert np.array_equal(a, np.concatenate([b[[1, 0]], -b[2:]]))
        rows = np.column_stack([angles[:, 0], edges[angles[:, 2]], edges[angles[:, 4]]])
        return sorted(map(tuple, edges.tolist())), sorted(map(tuple, rows.tolist()))

    assert describe(ours.edges, ours.images, ours.undirected, ours.directed, ours.angles) == describe(
        theirs.atom_graph.numpy(),
        np.rint(theirs.neighbor_image.numpy()).astype(int),
        theirs.directed2undirected.numpy(),
        theirs.undirected2directed.numpy(),
        theirs.bond_graph.numpy().reshape(-1, 5),
    )


def test_a_bad_crystal_gets_a_reason_and_the_others_what_they_get_alone(chgnet: ChgnetForceField) -> None:
    good = list(crystals().values())
    broken = bulk("Cu")
    broken.positions[0, 0] = np.nan
    bad = {
        "have no neighbour within 6": sparse(),
        "not Z = 100": Atoms("Fm", cell=[3.0] * 3, pbc=True),
        "is not finite": broken,
        "too dense": Atoms("H", cell=[0.3] * 3, pbc=True),
        "too small or too skewed": Atoms("H", cell=[1e-4] * 3, pbc=True),
        "no volume": Atoms("H", cell=[[1, 0, 0], [1, 0, 0], [0, 0, 1]], pbc=True),
    }
    mixed = chgnet.evaluate([good[0], *bad.values(), *good[1:]])
    for reason, found in zip(bad, mixed[1:7], strict=True):
        assert isinstance(found, str) and reason in found
    for atoms, found in zip(good, [mixed[0], *mixed[7:]], strict=True):
        (alone,) = chgnet.evaluate([atoms])
        assert isinstance(found, Prediction) and isinstance(alone, Prediction)
        assert found.energy == pytest.approx(alone.energy, abs=1e-4)
        np.testing.assert_allclose(found.forces, alone.forces, atol=1e-4)


def test_chgnet_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    get_force_field("chgnet").evaluate([crystals()["nacl"], sparse()])
    assert capfd.readouterr() == ("", "")


@given(st.lists(st.tuples(st.integers(1, 120), st.integers(0, MAX_ANGLES)), max_size=30), st.integers(1, 100))
def test_batches_are_bounded_and_lose_nothing(sizes: list[tuple[int, int]], limit: int) -> None:
    graphs = {i: SimpleNamespace(num_sites=n, angles=range(a)) for i, (n, a) in enumerate(sizes)}
    batches = list(batches_within(graphs, limit))
    assert [i for batch in batches for i in batch] == list(graphs)
    for batch in batches:
        sites, angles = sum(sizes[i][0] for i in batch), sum(sizes[i][1] for i in batch)
        assert len(batch) == 1 or (sites <= limit and angles <= MAX_ANGLES)


def test_a_batch_that_raises_is_done_in_halves() -> None:
    sizes = []

    def evaluate(batch: Sequence[int]) -> list[Prediction]:
        sizes.append(len(batch))
        if 3 in batch:
            raise FloatingPointError("three\nis too many")
        return [Prediction(float(i), np.zeros((1, 3)), np.zeros(6)) for i in batch]

    found = evaluate_batch([1, 2, 3, 4, 5, 6, 7, 8], evaluate)
    assert [f.energy if isinstance(f, Prediction) else f for f in found] == [
        *(1.0, 2.0),
        "the force field failed: FloatingPointError: three",
        *(4.0, 5.0, 6.0, 7.0, 8.0),
    ]
    assert sizes == [8, 4, 2, 2, 1, 1, 4]


def test_a_batch_too_large_for_the_memory_is_done_in_smaller_ones() -> None:
    def evaluate(batch: Sequence[int]) -> list[Prediction]:
        if len(batch) > 3:
            raise MemoryError
        return [Prediction(float(i), np.zeros((1, 3)), np.zeros(6)) for i in batch]

    found = evaluate_batch(range(20), evaluate)
    assert [f.energy for f in found if isinstance(f, Prediction)] == list(range(20))


@pytest.mark.parametrize("part", ["energy", "force", "stress"])
def test_numbers_that_are_not_finite_become_a_reason(part: str) -> None:
    bad = {
        "energy": Prediction(np.nan, np.zeros((1, 3)), np.zeros(6)),
        "force": Prediction(0.0, np.full((1, 3), np.inf), np.zeros(6)),
        "stress": Prediction(0.0, np.zeros((1, 3)), np.array([0, 0, np.nan, 0, 0, 0])),
    }[part]
    assert evaluate_batch([0], lambda _: [bad]) == [f"the force field's {part} is not finite"]


def test_any_ase_calculator_by_its_import_path() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=3)
    field = get_force_field("ase.calculators.emt:EMT")
    assert (field.name, field.scale) == ("ase.calculators.emt:EMT", "unknown")
    assert field.version[0].isdigit()
    (found,) = field.evaluate([atoms])
    assert isinstance(found, Prediction)
    atoms.calc = EMT()
    assert found.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(found.forces, atoms.get_forces())
    np.testing.assert_array_equal(found.stress, atoms.get_stress())


def test_an_ase_calculator_that_raises_or_lies_costs_one_crystal() -> None:
    field = AseForceField(Nasty(), name="nasty")
    batch = [Atoms(numbers=[z], cell=[3.0] * 3, pbc=True) for z in (29, RAISES, LIES, 30)]
    first, raised, lied, last = field.evaluate(batch)
    assert isinstance(first, Prediction) and isinstance(last, Prediction)
    assert raised == "the force field failed: ArithmeticError: argon is not for me"
    assert lied == "the force field's energy is not finite"


@pytest.mark.parametrize(
    "name", ["chgnett", "", "module:", ":attribute", "mace@", "magic@file", "chgnet@file"]
)
def test_an_unknown_name_is_told_which_are_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"chgnet, sevennet.*module:attribute"):
        get_force_field(name)


def test_a_checkpoint_of_ones_own_is_somebody_elses_scale(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"weights")
    (tmp_path / "mattersim-v1.0.0-5M.pth").write_bytes(b"weights")
    mine = force_field_info(f"mattersim-5m@{tmp_path}/mine.pth")
    assert mine.scale == mine.functional == "unknown" and mine.version.startswith("mine.pth ")
    known = force_field_info(f"mattersim@{tmp_path}/mattersim-v1.0.0-5M.pth")
    assert known.scale == force_field_info("mattersim-5m").scale
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        force_field_info(f"mattersim@{tmp_path}/nothing.pth")


def test_a_path_that_leads_nowhere_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="nothing callable named Nowhere"):
        get_force_field("ase.calculators.emt:Nowhere")
    with pytest.raises(ImportError):
        get_force_field("ase.calculators.nowhere:EMT")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("sevennet", "sevenn", "sevennet"),
        ("sevennet-l3i5", "sevenn", "sevennet"),
        ("mattersim", "mattersim", "mattersim"),
        ("mace", "mace", "mace"),
        ("orb", "orb_models", "orb"),
        ("fairchem", "fairchem", "fairchem"),
    ],
)
def test_an_absent_package_is_named(name: str, module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    assert extra in distribution("crysjepa").metadata.get_all("Provides-Extra", [])
    with pytest.raises(ImportError, match=rf'pip install "crysjepa\[{extra}\]"'):
        get_force_field(name)


@pytest.mark.slow
def test_status_speaks_of_every_name() -> None:
    status = force_field_status()
    assert [name for name, _, _ in status] == force_field_names()
    assert status[0] == ("chgnet", True, "0.3.0")
    if importlib.util.find_spec("mattersim") is None:
        assert ("mattersim", False) in [(name, works) for name, works, _ in status]


def test_info_needs_no_loading() -> None:
    info = force_field_info("chgnet")
    loaded = ChgnetForceField
    assert (info.name, info.version, info.scale, info.max_atomic_number) == (
        loaded.name,
        loaded.version,
        loaded.scale,
        loaded.max_atomic_number,
    )


class Flawed(AseForceField):
    """EMT, but for one flaw."""

    def __init__(self, flaw: str) -> None:
        super().__init__(EMT(), name="flawed")
        self.flaw = flaw

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        found = super().evaluate(atoms)
        if self.flaw == "short":
            return found[1:] if len(found) > 1 else found
        if self.flaw == "knows nothing":
            return ["never heard of it"] * len(atoms)
        if self.flaw == "batch" and len(atoms) > 1:
            return [
                dataclasses.replace(f, energy=f.energy + 1) if isinstance(f, Prediction) else f for f in found
            ]
        if self.flaw == "NaN":
            return ["the force field's energy is not finite"] * len(atoms)
        if self.flaw == "alone" and len(atoms) == 1:
            return ["no"]
        if self.flaw == "an atom":  # all of it divided alike: derivatives fit
            return [
                Prediction(f.energy / len(a), f.forces / len(a), f.stress / len(a))
                if isinstance(f, Prediction)
                else f
                for a, f in zip(atoms, found, strict=True)
            ]
        return found


@pytest.mark.parametrize(
    ("flaw", "said"),
    [
        ("none", None),
        ("short", "2 predictions for 3 crystals"),
        ("knows nothing", "none of Cu, MgO, Si2: never heard of it"),
        ("NaN", "energy is not finite in Cu"),
        ("batch", "the energy of Cu changes by 1 eV/atom"),
        ("alone", "can do Cu only in a batch"),
        ("an atom", "its energies do not grow with the cell: 0.1"),
    ],
)
def test_probe_finds_what_is_wrong(flaw: str, said: str | None) -> None:
    found = probe(Flawed(flaw))
    assert found is None if said is None else said in (found or "")


def test_atoms_that_see_nothing_are_told_so_by_every_force_field() -> None:
    far, salt = bulk("NaCl", "rocksalt", a=11.0), bulk("NaCl", "rocksalt", a=5.64)
    seen = AseForceField(Constant(0.1), name="own", cutoff=5.0)
    found, prediction = seen.evaluate([far, salt])
    assert found == "2 of 2 atoms have no neighbour within 5 Å" and isinstance(prediction, Prediction)
    one_off = salt.repeat((3, 1, 1)) + Atoms("He", positions=[[0, 0, 60.0]])
    one_off.set_cell([[40, 0, 0], [0, 40, 0], [0, 0, 90]])
    assert seen.evaluate([one_off]) == ["1 of 7 atoms have no neighbour within 5 Å"]
    (found,) = AseForceField(Constant(0.0), name="own").evaluate([far])
    assert isinstance(found, str) and "no atom has a neighbour" in found


def test_the_cutoff_of_a_library_is_known() -> None:
    if importlib.util.find_spec("sevenn") is None:
        pytest.skip("needs SevenNet: pip install sevenn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        field = get_force_field("sevennet")
        (found,) = field.evaluate([bulk("NaCl", "rocksalt", a=11.0)])
    assert found == "2 of 2 atoms have no neighbour within 5 Å"


class Scaled(AseForceField):
    """EMT with its energy, forces and stress times so much."""

    def __init__(self, energy: float, force: float, stress: float) -> None:
        super().__init__(EMT(), name="scaled")
        self.by = energy, force, stress

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        e, f, s = self.by
        return [
            Prediction(e * p.energy, f * p.forces, s * p.stress) if isinstance(p, Prediction) else p
            for p in super().evaluate(atoms)
        ]


@pytest.mark.parametrize(
    ("energy", "force", "stress", "said"),
    [
        (1, 1, 1, None),
        (1, 1, -1, "its stress in Cu2 has the wrong sign: -0.99"),
        (1, 1, 160.2, "its stress in Cu2 is in GPa, not eV/Å³: 159.5 times"),
        (1, 1, -1602.2, "its stress in Cu2 has the wrong sign and is in kbar, not eV/Å³: -159"),
        (1, -1, 1, "the force in Cu2 has the wrong sign"),
        (0.25, 1, 1, "the force in Cu2 is 4.0"),
    ],
)
def test_probe_compares_with_finite_differences(
    energy: float, force: float, stress: float, said: str | None
) -> None:
    found = probe(Scaled(energy, force, stress))
    assert found is None if said is None else said in (found or "")
