"""Further judges, with EMT and Lennard-Jones for force fields."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition

from crysjepa.closed_hull.judged import lacking_competitor
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ScaleMismatch, load_references
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.judge_names import (
    SECOND,
    above_hull_column,
    energy_column,
    further_judges,
    parse_judges,
)
from crysjepa.evaluation.judges import How, JudgedByAll, agree, judge_by_all
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.relaxation.relax import RelaxSettings

pytestmark = pytest.mark.slow

EMT_PATH = "ase.calculators.emt:EMT"
LJ_PATH = "ase.calculators.lj:LennardJones"
SCALE = "materials_project"
ABOVE, TOTAL = above_hull_column(EMT_PATH), energy_column(EMT_PATH)


def alloy(gold: list[int], a: float = 3.8):
    """Copper's cubic cell with gold at these sites."""
    atoms = bulk("Cu", "fcc", a=a, cubic=True)
    atoms.numbers[gold] = 79
    return atoms


@pytest.fixture(scope="module")
def known() -> Known:
    """Alloys with formation energies."""
    crystals = Crystals.from_atoms([alloy([0]), alloy([0, 1]), alloy([0, 1, 2])], ["Cu3Au", "CuAu", "CuAu3"])
    energies = {"Cu3Au": -0.03, "CuAu": -0.05, "CuAu3": -0.02}
    table = CandidateTable.from_crystals(crystals)
    return Known(table.with_column("formation_energy_per_atom", energies, "Float64"), SCALE, "alloys")


@pytest.fixture(scope="module")
def hull() -> Hull:
    return Hull.from_entries(["CuAu"], [-0.05], scale=SCALE, source="CuAu")


@pytest.fixture(scope="module")
def judged() -> CandidateTable:
    """As a first judge leaves them: two alloys, salt that EMT does not know, one without a number, one that
    went astray, and one that was not read.
    """
    atoms = [alloy([0]), alloy([0, 1], 3.9), bulk("NaCl", "rocksalt", a=5.6), alloy([0, 1]), alloy([0, 1])]
    ids = ["Cu3Au", "CuAu", "salt", "no number", "astray"]
    table = CandidateTable.from_crystals(Crystals.from_atoms(atoms, ids), {"torn": "the file is empty"})
    table = table.decide("relax", {"astray": "the cell grew"}, Status.FAILED)
    table = table.decide("stability", {"CuAu": "unstable"}, Status.REJECTED)
    return table.with_column("e_above_hull", {"Cu3Au": 0.01, "CuAu": 0.3, "salt": 0.0}, "Float64")


@pytest.fixture
def protocol() -> Protocol:
    return Protocol()


@pytest.fixture(scope="module")
def by_emt_and_lj(judged, hull, known) -> JudgedByAll:
    return judge_by_all(
        judged, [EMT_PATH, LJ_PATH], hull=hull, known=known, protocol=Protocol(), how=How(processes=1)
    )


def emt_formation(atoms, hull: Hull, known: Known) -> float:
    references = find_references(Protocol(force_field=EMT_PATH), hull, known)
    energy = EMT().get_potential_energy(atoms) / len(atoms)
    found, _ = references.formation_energy_per_atom(atoms.symbols.formula.count(), energy)
    return found


def test_a_judge_has_its_own_energies_and_references(by_emt_and_lj, judged, hull, known):
    table = by_emt_and_lj.table
    assert table.ids == judged.ids
    assert table.column("status") == judged.column("status")
    expected = emt_formation(alloy([0]), hull, known) + 0.025  # on the line from Cu to CuAu
    assert table.column(ABOVE, ["Cu3Au"])[0] == pytest.approx(expected, abs=1e-6)
    total = EMT().get_potential_energy(alloy([0])) / 4
    assert table.column(TOTAL, ["Cu3Au"])[0] == pytest.approx(total, abs=1e-6)
    values = [table.column(c, ["Cu3Au"])[0] for c in ("e_above_hull", ABOVE, above_hull_column(LJ_PATH))]
    assert table.column("judge_spread", ["Cu3Au"])[0] == pytest.approx(max(values) - min(values))
    assert table.column("stable_by_all", ["Cu3Au", "CuAu"]) == [max(values) <= 0.1, False]
    told, _ = by_emt_and_lj.judges
    assert told["name"] == EMT_PATH and told["relaxation"]["max_steps"] == 0
    assert (told["num_judged"], told["num_without"]) == (2, 1)


def test_who_has_nothing_to_say_says_why(by_emt_and_lj):
    table, without = by_emt_and_lj.table, ["salt", "no number", "astray", "torn"]
    for column in ("judge_spread", "judges_agree", "stable_by_all"):
        assert table.column(column, without) == [None] * 4
    salt, number, astray, torn = table.column("judges_reason", without)
    assert (
        salt.startswith(f"{EMT_PATH}: ") and f"; {LJ_PATH}: no {LJ_PATH} reference energy for Cl, Na" in salt
    )
    assert number == "chgnet: no energy above hull"
    assert astray is None and torn is None  # they have a reason already
    assert table.column("judges_reason", ["Cu3Au", "CuAu"]) == [None, None]


def test_competitors_stand_at_each_judges_own_energies(by_emt_and_lj, judged, hull, known, protocol):
    """A dense CuAu at EMT's own energy, and salt, of which it has none; of one crystal alone."""
    other = bulk(
        "CuAu", "cesiumchloride", a=3.03
    )  # another structure: a crystal does not compete with itself
    salt = bulk("NaCl", "rocksalt", a=5.6)
    rivals = Crystals.from_atoms([other, alloy([0, 1], 3.9), salt], ["rival", "twin", "salt"])
    done = judge_by_all(
        judged, [EMT_PATH], hull=hull, known=known, protocol=protocol, first={"CuAu": 0.3},
        competitors=CandidateTable.from_crystals(rivals), how=How(processes=1),
    )  # fmt: skip
    fall = hull.energy("CuAu") - emt_formation(other, hull, known)
    assert fall > 0.001  # the comparison says something
    before, after = (t.column(ABOVE) for t in (by_emt_and_lj.table, done.table))
    assert after[1] - before[1] == pytest.approx(fall, abs=1e-6)
    assert [e is None for e in after] == [True, False, True, True, True, True]
    assert "2 hypothetical compounds" in done.judges[0]["hull"]


def test_a_competitor_that_a_judge_cannot_compute():
    unknown = {"rival": (Composition("NaCl"), "no energy")}
    assert lacking_competitor(Composition("CuAu"), unknown) is None
    reason = lacking_competitor(Composition("Na2ClO"), unknown)
    assert reason == "its hull lacks the competitor rival (NaCl): no energy"


def test_any_number_of_processes_and_a_second_time(judged, hull, known, protocol, tmp_path):
    def run(processes: int, shards):
        how = How(RelaxSettings(max_steps=2, chunk_size=1), processes=processes, shards=shards)
        return judge_by_all(judged, [EMT_PATH], hull=hull, known=known, protocol=protocol, how=how).table

    one = run(1, tmp_path)
    assert run(2, None).content_hash() == one.content_hash() == run(1, tmp_path).content_hash()
    assert len(list((tmp_path / "ase_calculators_emt_emt" / "crystals").glob("*.parquet"))) == 3
    assert one.column(ABOVE, ["CuAu"]) != judged.column("e_above_hull", ["CuAu"])


def test_without_judges_or_numbers(judged, hull, known, protocol):
    assert judge_by_all(judged, [], hull=hull, known=known, protocol=protocol).table is judged
    empty = CandidateTable.from_crystals(Crystals.empty()).with_column("e_above_hull", {}, "Float64")
    table = judge_by_all(empty, [EMT_PATH], hull=hull, known=known, protocol=protocol).table
    assert "stable_by_all" in table and len(table) == 0
    with pytest.raises(ValueError, match="column e_above_hull"):
        judge_by_all(
            CandidateTable.from_crystals(judged.crystals()), [EMT_PATH], hull=hull, known=known,
            protocol=protocol,
        )  # fmt: skip


def test_a_hull_of_another_force_fields_own_energies(judged, known, protocol):
    own = Hull.from_entries(
        ["CuAu"], [-0.05], scale="chgnet 0.3.0", source="own", references=load_references("chgnet", SCALE)
    )
    with pytest.raises(ScaleMismatch):
        judge_by_all(judged, [EMT_PATH], hull=own, known=known, protocol=protocol)


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=4))
def test_what_is_stable_by_all_is_agreed_on(above):
    if max(above) <= 0.1 or min(above) > 0.1:
        assert agree(above, 0.1)
    assert agree(above, 0.1) == agree(above[::-1], 0.1)


def test_near_the_limit_nobody_disagrees():
    assert agree([0.098, 0.104], 0.1) and agree([0.02, 0.104], 0.1) and agree([0.098, 0.4], 0.1)
    assert not agree([0.09, 0.11], 0.1)


def test_judges_by_name():
    assert parse_judges(" chgnet, sevennet-l3i5 ") == ("chgnet", "sevennet-l3i5")
    for text, says in (("chgnet,chgnet", "twice"), ("nonsense", "no force field"), (" ,", "no judge")):
        with pytest.raises(ValueError, match=says):
            parse_judges(text)
    assert above_hull_column("sevennet-l3i5") == "e_above_hull_sevennet_l3i5"


def test_the_second_judge_where_it_is_installed(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(f'the force field {name!r} needs a package: pip install "crysjepa[sevennet]"')

    assert further_judges(["chgnet", LJ_PATH], "chgnet") == ((LJ_PATH,), None)
    assert further_judges(None, SECOND) == ((), None)
    monkeypatch.setattr("crysjepa.evaluation.judge_names.require_installed", lambda name: None)
    assert further_judges(None, "chgnet") == ((SECOND,), None)
    monkeypatch.setattr("crysjepa.evaluation.judge_names.require_installed", absent)
    judges, note = further_judges(None, "chgnet")
    assert judges == () and "crysjepa[sevennet]" in note
    with pytest.raises(ImportError, match="sevennet"):
        further_judges([SECOND], "chgnet")
