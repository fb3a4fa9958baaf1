"""DFT has the last word: the committed files make the committed table, and the arithmetic behind it."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from crysjepa.energy.hull import Hull

FOLDER = Path(__file__).parents[2] / "reproduce" / "dft"


@pytest.fixture
def experiment():
    names = ("keeping", "last_word", "planning", "tabling")
    return {name: importlib.import_module(name) for name in names}


def test_the_committed_calculations_make_the_committed_table(experiment, tmp_path):
    found = experiment["last_word"].table(FOLDER, tmp_path)
    for name in ("table.json", "table.md"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text()
    for group in ("short list", "control"):
        shares = found["groups"][group]
        states = ("judged", "failed", "hull_incomplete", "waiting")
        assert shares["asked"] == 24 == sum(shares[s] for s in states) == len(found["crystals"][group])
        assert shares["within_0.0"]["hits"] <= shares["within_0.1"]["hits"] <= shares["judged"]


def test_every_crystal_has_the_hash_that_names_its_calculation(experiment, tmp_path):
    keeping = experiment["keeping"]
    for name in (keeping.CRYSTALS, keeping.CALCULATIONS):
        shutil.copy(FOLDER / name, tmp_path / name)
    crystals = pq.read_table(FOLDER / keeping.CRYSTALS)
    assert not set(pq.read_table(FOLDER / keeping.CALCULATIONS)["key"].to_pylist()) - set(
        crystals["key"].to_pylist()
    )
    lattices = crystals["lattice"].to_pylist()
    lattices[0] = [x * 1.001 for x in lattices[0]]
    row = crystals.schema.get_field_index("lattice")
    moved = crystals.set_column(row, "lattice", pa.array(lattices, crystals.schema.field("lattice").type))
    pq.write_table(moved, tmp_path / keeping.CRYSTALS)
    with pytest.raises(ValueError, match="is not the crystal whose hash it has"):
        keeping.read(tmp_path)


def test_energies_do_not_mix_settings(experiment, tmp_path):
    keeping = experiment["keeping"]
    shutil.copy(FOLDER / keeping.CRYSTALS, tmp_path / keeping.CRYSTALS)
    rows = pq.read_table(FOLDER / keeping.CALCULATIONS).to_pylist()
    rows[0]["scale"] = "another"
    pq.write_table(pa.Table.from_pylist(rows, schema=keeping.SCHEMA), tmp_path / keeping.CALCULATIONS)
    with pytest.raises(ValueError, match="several settings"):
        keeping.read(tmp_path)


def test_the_hull_of_total_energies_is_pymatgens(experiment):
    above_hull = experiment["tabling"].above_hull
    others = [("Li", -1.9), ("O2", -4.9), ("Li2O", -4.75), ("Li2O2", -4.7), ("LiO2", -4.0), ("Na", -1.3)]
    diagram = PhaseDiagram(
        [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in others if f != "Na"]
    )
    for formula, energy in (("Li3O", -4.0), ("LiO3", -4.6), ("Li2O", -4.9)):
        above, below = above_hull(formula, energy, others)
        entry = PDEntry(Composition(formula), energy * Composition(formula).num_atoms)
        _, wanted = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)
        assert above == pytest.approx(wanted, abs=1e-6)
        assert sum(below.values()) == pytest.approx(1.0, abs=1e-3) and "Na" not in below
    assert above_hull("MgO", -5.0, others) == (None, {})


def test_what_a_hull_lacks_is_said_and_never_counted(experiment):
    tabling = experiment["tabling"]
    energies = {
        key: tabling.Energy(key, formula, energy, converged)
        for key, formula, energy, converged in (
            ("a", "Li", -1.9, True), ("b", "O2", -4.9, True), ("c", "Li2O", -4.75, True),
            ("d", "Li3O", -4.1, True), ("e", "LiO2", -4.4, False),
        )
    }  # fmt: skip
    sound = tabling.Candidate("1", "Li3O", "d", {"Li": "a", "Li2O": "c"}, {"chgnet": 0.3}, 0.7)
    lacking = tabling.Candidate("2", "Li3O", "d", {"Li": "a", "Li4O": None})
    unrelaxed = tabling.Candidate("3", "LiO2", "e", {})
    lost = tabling.Candidate("4", "LiO", "f", {}, trouble="exploded")
    late = tabling.Candidate("5", "LiO", "g", {})
    waiting = tabling.Candidate("6", "LiO", "h", {})
    verdicts = [
        tabling.judge(c, energies, {"g": "took too long"})
        for c in (sound, lacking, unrelaxed, lost, late, waiting)
    ]
    states = [v.state for v in verdicts]
    assert states == ["judged", "hull incomplete", "failed", "failed", "failed", "waiting"]
    assert verdicts[1].reason == "without Li4O" and verdicts[4].reason == "took too long"
    shares = tabling.shares(verdicts)
    assert shares["within_0.1"]["num"] == 4 and shares["within_0.1"]["hits"] == int(verdicts[0].above <= 0.1)
    agreed = tabling.agreement(verdicts, "chgnet")
    assert agreed["num"] == 1 and agreed["mean_difference"] == pytest.approx(0.3 - verdicts[0].above)
    chance = tabling.chance_agreement(verdicts)
    assert chance["num"] == 1 and chance["both_stable"] + chance["judge_alone"] == 1


def test_what_competes_comes_before_its_candidate_and_groups_in_turn(experiment):
    planning = experiment["planning"]
    hull = Hull.from_entries(["Li2O", "Li2O2"], [-2.0, -1.6], scale="s", source="t")
    found = {p.formula: p.amount for p in planning.decomposition(hull, Composition("Li3O2"))}
    assert found == pytest.approx({"Li2O": 0.6, "Li2O2": 0.4})
    poorer = planning.without(hull, ["Li2O2"])
    assert {p.formula for p in planning.decomposition(poorer, Composition("Li3O2"))} == {"Li2O", "O"}
    needs = {"a": ["x"], "b": ["x", "y"], "c": []}
    cost = {"a": 5.0, "b": 1.0, "c": 3.0, "x": 1.0, "y": 9.0}
    assert planning.order([["a", "b"], ["c"]], needs, cost) == ["x", "a", "c", "y", "b"]


def test_calculations_go_on_from_the_committed_files(experiment, tmp_path):
    """Seeded into an empty folder and kept again, they are the same."""
    keeping = experiment["keeping"]
    rows = pq.read_table(FOLDER / "calculations.parquet").to_pylist()
    scale = rows[0]["scale"]
    done = [r for r in rows if r["energy_per_atom"] is not None]
    assert keeping.seed(tmp_path / "work", scale) == len(done) > 0
    assert keeping.seed(tmp_path / "work", scale) == 0, "what is there stays"
    (tmp_path / "again").mkdir()
    assert keeping.keep(tmp_path / "work", scale, tmp_path / "again") == len(done)
    again = pq.read_table(tmp_path / "again" / "calculations.parquet").to_pylist()
    assert again == done
