"""A hull of a force field's own energies, with EMT for the alloys of copper and gold."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.datasets.importers.lemat import import_lemat_hull
from crysjepa.energy.elemental_references import ScaleMismatch
from crysjepa.energy.load_hull import load_hull
from crysjepa.evaluation.force_field_hull import elemental_crystals, force_field_hull
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.evaluation.run import evaluate_crystals
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals

EMT_PATH = "ase.calculators.emt:EMT"
RELAXED = RelaxSettings(max_steps=60, fmax=0.02)


def alloys() -> CandidateTable:
    """CuAu, Cu3Au and AuCu3 on the fcc lattice, salt that EMT does not know, and one that was not read."""
    atoms = []
    for gold in ([0, 1], [0], [0, 1, 2]):
        a = bulk("Cu", "fcc", a=3.8, cubic=True)
        a.numbers[gold] = 79
        atoms.append(a)
    crystals = Crystals.from_atoms(
        [*atoms, bulk("NaCl", "rocksalt", a=5.6)], ["CuAu", "Cu3Au", "CuAu3", "salt"]
    )
    return CandidateTable.from_crystals(crystals, {"torn": "the file is empty"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hull")
    rows = force_field_hull(
        alloys(), folder / "hull.parquet", force_field=EMT_PATH, settings=RELAXED, source="alloys",
        processes=1, shards=folder / "shards",
    )  # fmt: skip
    return folder / "hull.parquet", rows


def test_elemental_crystals_are_of_one_element_each():
    crystals = elemental_crystals()
    assert {i.split("-")[0] for i in elemental_crystals(alloys().crystals()).ids} == {"Cu", "Au", "Na", "Cl"}
    assert all(len(set(c.atomic_numbers.tolist())) == 1 for c in crystals)
    assert len({i.split("-")[0] for i in crystals.ids}) == 88
    for crystal, id_ in zip(crystals, crystals.ids, strict=True):
        assert crystal.chemical_systems() == [id_.split("-")[0]]


def test_formation_energies_are_between_the_force_fields_own_energies(made):
    path, rows = made
    assert rows.equals(pq.read_table(path))
    told = json.loads(rows.schema.metadata[b"crysjepa"])
    mu = told["elemental_references"]["energies"]
    assert told["scale"].startswith(EMT_PATH) and told["elemental_references"]["method"] == "computed"
    gold = bulk("Au", "fcc")  # EMT's zero is fcc at its own lattice constant
    gold.calc = EMT()
    assert mu["Au"] <= gold.get_potential_energy() + 1e-3
    assert "Na" in told["elemental_references"]["excluded"]
    found = dict(zip(rows["id"].to_pylist(), rows.to_pylist(), strict=True))
    relaxed = relax_crystals(alloys().crystals(["CuAu"]), force_field=EMT_PATH, settings=RELAXED, processes=1)
    energy = relaxed.records["CuAu"].energy_per_atom
    assert found["CuAu"]["energy_per_atom"] == energy
    assert found["CuAu"]["formation_energy_per_atom"] == pytest.approx(energy - (mu["Cu"] + mu["Au"]) / 2)
    assert found["torn"]["reason"] == "the file is empty"
    assert found["salt"]["formation_energy_per_atom"] is None and "failed" in found["salt"]["reason"]


@pytest.mark.filterwarnings("ignore::crysjepa.runtime.notes.ReadNote")  # two of its rows have no energy
def test_the_hull_brings_its_references_and_refuses_another_force_field(made, tiny, tmp_path):
    path, _ = made
    hull = load_hull(path)
    known = Known(alloys(), "unknown")
    found = find_references(Protocol(force_field=EMT_PATH), hull, known)
    assert found == hull.references and found.scale == hull.scale and found.method == "computed"
    with pytest.raises(ScaleMismatch, match=r"hull\.parquet is a hull of energies of the force field"):
        find_references(Protocol(force_field="chgnet"), hull, known)
    protocol = Protocol(force_field=EMT_PATH, relaxation=RELAXED)
    metrics = evaluate_crystals(
        alloys(), reference=tiny.reference, hull=path, out=tmp_path / "e", protocol=protocol
    )
    assert metrics["protocol"]["elemental_references_method"] == "computed"
    table = CandidateTable.read(tmp_path / "e" / "crystals.parquet")
    above = np.array(table.column("e_above_hull", ["CuAu", "Cu3Au", "CuAu3"]), dtype=float)
    assert above.min() >= 0 and (above < 1e-9).any(), "these alloys are all that their hull knows"
    assert table.column("e_above_hull", ["salt"]) == [None]


def test_nothing_to_make_a_hull_of(tmp_path):
    nothing = CandidateTable.from_crystals(Crystals.empty(), {"torn": "the file is empty"})
    with pytest.raises(ValueError, match="no readable crystals"):
        force_field_hull(nothing, tmp_path / "hull.parquet", force_field=EMT_PATH)


def test_total_energies_are_judged_by_a_published_hull_of_total_energies(tmp_path):
    """LeMat's form of a hull, with EMT in the place of its force fields; pymatgen's hull is the oracle."""
    emt = force_field_info(EMT_PATH)
    atoms = [bulk("Cu", "fcc"), bulk("Au", "fcc"), *alloys().crystals(["CuAu", "Cu3Au"]).to_atoms()]
    for one in atoms:
        one.calc = EMT()
    rows = [
        {
            "immutable_id": f"mp-{i}",
            "species_at_sites": a.get_chemical_symbols(),
            "energy": a.get_potential_energy(),
        }
        for i, a in enumerate(atoms)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "published.parquet")
    about = {"dataset": "published", "split": "emt", "scale": f"{emt.name} {emt.version}"}
    about["force_field"] = {"name": emt.name, "model": emt.version}
    import_lemat_hull([tmp_path / "published.parquet"], tmp_path / "hull.parquet", about)
    protocol = Protocol(force_field=EMT_PATH, relaxation=RelaxSettings(max_steps=0))
    judged = CandidateTable.from_crystals(alloys().crystals(["CuAu3"]))
    evaluate_crystals(judged, tmp_path / "out", hull=tmp_path / "hull.parquet", protocol=protocol)
    found = pq.read_table(tmp_path / "out" / "crystals.parquet").to_pylist()[0]
    diagram = PhaseDiagram([PDEntry("".join(r["species_at_sites"]), r["energy"]) for r in rows])
    entry = PDEntry("CuAu3", 4 * found["energy_per_atom"])
    _, expected = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)
    assert found["e_above_hull"] == pytest.approx(expected, abs=1e-9)
