import json

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, ScaleMismatch
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.metrics import Rules, evaluate_table
from crysjepa.evaluation.run import Known, Protocol, evaluate_crystals, find_references
from crysjepa.runtime.errors import RunError

LENNARD_JONES = "ase.calculators.lj:LennardJones"


@pytest.fixture
def protocol(tiny):
    return Protocol.model_validate(tiny.protocol)


@pytest.fixture
def hull():
    return Hull.from_entries(["NaCl"], [-2.1], scale="scheme A", source="test")


def judged(out):
    table = CandidateTable.read(out / "crystals.parquet")
    return table, json.loads((out / "metrics.json").read_text())


def test_numbers_in_the_input_do_not_show_through(tiny, protocol, salts, tmp_path):
    """A cell that cannot be relaxed gets no energy, whatever energy its file claims for it."""
    wide = Crystals(
        salts.atomic_numbers[:2], salts.frac_coords[:2], 40 * np.eye(3)[None], np.array([2]), ("wide",)
    )
    table = CandidateTable.from_crystals(Crystals.concatenate([salts[1:3], wide]))
    claims = dict.fromkeys(table.ids, -99.0)
    table = table.with_column("energy_per_atom", claims, "Float64").with_column("stable", {}, "boolean")
    table = table.with_column("e_above_hull", claims, "Float64")
    table = table.decide("novelty", {"KCl": "known in another run"}, Status.REJECTED)
    out = tmp_path / "e"
    metrics = evaluate_crystals(
        table, reference=tiny.reference, hull=tiny.reference, out=out, protocol=protocol
    )
    rows, _ = judged(out)
    assert rows.column("status", ["wide"]) == ["failed"] and rows.column("stage", ["wide"]) == ["relax"]
    assert rows.column("e_above_hull", ["wide"]) == [None] and rows.column("stable", ["wide"]) == [None]
    assert all(e is None or e > -90 for e in rows.column("energy_per_atom"))
    assert rows.column("reason", ["KCl"]) != ["known in another run"], "decisions of another run do not count"
    assert metrics["num_crystals"] == 3


def test_the_same_folder_is_for_the_same_input(tiny, protocol, salts, tmp_path):
    arguments = {"reference": tiny.reference, "hull": None, "out": tmp_path / "e"}
    as_they_are = protocol.model_copy(update={"relax": False})
    evaluate_crystals(CandidateTable.from_crystals(salts), protocol=as_they_are, **arguments)
    more = CandidateTable.from_crystals(salts, {"torn": "the file is empty"})
    with pytest.raises(RunError, match="another crystals"):
        evaluate_crystals(more, protocol=as_they_are, **arguments)


def test_references_of_another_force_field_are_refused(tiny, hull, tmp_path):
    known = Known.load(tiny.reference)
    with pytest.raises(ScaleMismatch, match="chgnet"):
        find_references(Protocol(force_field="chgnet", elemental_references=str(tiny.elements)), hull, known)


def test_fitted_references_are_on_the_scale_of_their_labels(tiny, hull, salts):
    """Sodium alone, at −1 eV/atom by its labels: μ is the force field's energy plus one."""
    sodium = Crystals(
        np.full(3, 11), np.zeros((3, 3)), np.eye(3) * np.full((3, 1, 1), 2.9), np.ones(3), ("a", "b", "c")
    )
    table = CandidateTable.from_crystals(sodium)
    table = table.with_column("formation_energy_per_atom", dict.fromkeys(table.ids, -1.0), "Float64")
    with pytest.raises(ScaleMismatch, match="scheme A"):
        find_references(Protocol(force_field=LENNARD_JONES), hull, Known(table, "scheme B"))
    found = find_references(Protocol(force_field=LENNARD_JONES), hull, Known(table, "scheme A"))
    assert isinstance(found, ElementalReferences) and found.scale == "scheme A"
    assert found.force_field == LENNARD_JONES and found.num_fitted == 3
    atoms = sodium.to_atoms()[0]
    atoms.calc = LennardJones()
    assert found.energies == {"Na": pytest.approx(atoms.get_potential_energy() + 1.0)}
    unlabelled = CandidateTable.from_crystals(salts)
    with pytest.raises(FileNotFoundError, match="Lennard"):
        find_references(Protocol(force_field=LENNARD_JONES), hull, Known(unlabelled, "scheme A"))


def test_corrections_are_added_where_the_references_ask_for_them(salts):
    """MgO: −0.687 eV for its oxygen by the scheme of 2020, −0.3435 for an atom."""
    oxide = Crystals.from_structures(
        [Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])],
        ids=["MgO"],
    )
    both = Crystals.concatenate([oxide, salts.select(["NaCl"])])
    table = CandidateTable.from_crystals(both).with_column(
        "energy_per_atom", {"MgO": -6.0, "NaCl": None}, "Float64"
    )
    hull = Hull.from_entries(["MgO"], [-3.0], scale="materials_project", source="test")
    elements = {"Mg": -1.5, "O": -5.0, "Na": -1.0, "Cl": -2.0}
    for corrections, added in ((None, 0.0), ("MP2020", -0.687 / 2)):
        references = ElementalReferences(
            elements, "mace", "materials_project", "test", corrections=corrections
        )
        assert ElementalReferences.from_json(references.to_json()) == references
        judged = evaluate_table(table, hull=hull, references=references)
        assert judged.column("formation_energy_per_atom", ["MgO"])[0] == pytest.approx(-2.75 + added)
        assert judged.column("e_above_hull", ["MgO"])[0] == pytest.approx(0.25 + added)
        assert ("energy_correction_per_atom" in judged) == (corrections is not None)
        assert judged.column("reason", ["NaCl"]) == ["no finite total energy"]
    with pytest.raises(ValueError, match="no corrections 'MIT'"):
        ElementalReferences(elements, "mace", "materials_project", "test", corrections="MIT")


def test_nothing_to_compare_with_is_no_stability(salts):
    """The hull knows NaCl alone: KCl seems stable for want of competitors; KBr is not."""
    hull = Hull.from_entries(["NaCl"], [-2.0], scale="s", source="test")
    table = CandidateTable.from_crystals(salts.select(["NaCl", "KCl", "KBr"]))
    energies = {"NaCl": -2.0, "KCl": -2.0, "KBr": 0.5}
    table = table.with_column("formation_energy_per_atom", energies, "Float64")
    lenient, strict = (evaluate_table(table, hull=hull, rules=Rules(min_hull_entries=n)) for n in (0, 1))
    assert lenient.column("stable") == [True, True, False]
    assert strict.column("stable") == [True, None, False]
    assert strict.column("e_above_hull") == [0.0, None, 0.5]
    assert strict.column("status") == ["ok", "failed", "rejected"]
    assert strict.column("reason", ["KCl"]) == ["the hull knows no compound in Cl-K"]


def test_a_fit_of_elemental_references_is_kept(tiny, hull, monkeypatch, tmp_path):
    """A second judgement of another force field's crystals does not wait for the fit again."""
    from crysjepa.evaluation import reference as module

    monkeypatch.setenv("CRYSJEPA_DATA", str(tmp_path))
    fits = []

    def fitted(name, known, device, progress):
        fits.append(name)
        return ElementalReferences({"Na": -1.0}, name, known.scale, "a fit", None, None)

    monkeypatch.setattr(module, "fitted_references", fitted)
    known = Known(CandidateTable.read(tiny.reference), "scheme A")
    first, second = (find_references(Protocol(force_field="chgnet"), hull, known) for _ in range(2))
    assert first == second and fits == ["chgnet"]
    for kept in (tmp_path / "references").iterdir():
        kept.write_text("{", encoding="utf-8")
    assert find_references(Protocol(force_field="chgnet"), hull, known) == first and len(fits) == 2


@pytest.mark.parametrize("matching", ["structure-matcher", "hash"])
@pytest.mark.parametrize("energies", [(-2.1, 0.0, None), (0.0, -2.1, None), (None, 0.0, -2.1)])
def test_a_stable_crystal_stands_for_its_duplicates(energies, matching, hull):
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    crystals = Crystals.from_structures([salt] * 3, ids=["c-1", "c-2", "c-3"])
    table = CandidateTable.from_crystals(crystals)
    given = dict(zip(table.ids, energies, strict=True))
    table = table.with_column("formation_energy_per_atom", given, "Float64")
    rows = evaluate_table(table, hull=hull, rules=Rules(matching=matching))
    stable = energies.index(-2.1)
    assert [i for i, s in enumerate(rows.column("status")) if s == "ok"] == [stable]
    assert sum(rows.column("unique")) == 1
    assert rows.column("e_above_hull")[stable] == pytest.approx(0)
