"""Novelty in grades, hull support in columns, and the rates and lists that are made of them."""

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.grades import Grade, KnownFormulas
from crysjepa.evaluation.metrics import crystal_metrics, evaluate_table
from crysjepa.ranking.selection import with_shortlist
from crysjepa.report.evaluation import trust_tables


def swapped(crystals: Crystals, id_: str, numbers: dict[int, int]) -> Crystals:
    one = crystals.select([id_])
    atoms = [numbers.get(z, z) for z in one.atomic_numbers.tolist()]
    return Crystals(
        atoms, one.frac_coords, one.lattices, one.num_atoms, ("-".join(map(str, sorted(set(atoms)))),)
    )


def test_three_grades(salts):
    reference = salts.select(["NaCl"])
    inverted = swapped(salts, "SrTiO3", {38: 56})  # BaTiO3 is in the bundled list, not in the reference
    new = swapped(salts, "SrTiO3", {38: 79, 22: 11})  # AuNaO3
    table = CandidateTable.from_crystals(Crystals.concatenate([reference, inverted, new]))
    judged = evaluate_table(table, reference=reference)
    assert judged.column("novelty_grade") == [Grade.KNOWN, Grade.KNOWN_FORMULA, Grade.NEW_FORMULA]
    assert judged.column("novel") == [False, True, True]
    known = judged.column("known_compound")
    assert known[1].startswith("mp-") and known[2] is None
    assert judged.column("known_structures") == ["NaCl", None, None]


def test_known_crystals_of_a_formula_are_named_and_the_known_compound_first(salts):
    nacl = salts.select(["NaCl"])
    named = nacl.with_ids(["mp-22862"])
    others = [nacl.with_ids([f"other-{k}"]) for k in range(6)]
    table = CandidateTable.from_crystals(salts.select(["NaCl", "KCl"]))
    judged = evaluate_table(table, reference=Crystals.concatenate([*others, named]))
    assert judged.column("known_compound")[0] == "mp-22862"
    assert judged.column("known_structures") == [
        "mp-22862, other-0, other-1, other-2, other-3 and 2 more", None,
    ]  # fmt: skip


def test_a_formula_of_the_hull_or_of_the_reference_is_known(salts):
    new = swapped(salts, "SrTiO3", {38: 79, 22: 11})
    [formula] = reduced_formulas(new)
    hull = Hull.from_entries(["Au2Na2O6"], [-1.0], scale="s", source="theirs")
    assert KnownFormulas.of().compound(formula) is None
    assert KnownFormulas.of(hull=hull).compound(formula) == "theirs"
    assert KnownFormulas.of(new).compound(formula) == new.ids[0]


def test_what_failed_has_no_grade(salts):
    table = CandidateTable.from_crystals(salts[:1], {"torn": "the file is empty"})
    assert evaluate_table(table, reference=salts).column("novelty_grade")[1] is None


def test_support_and_warning_stand_beside_the_energy(salts):
    table = CandidateTable.from_crystals(salts.select(["NaCl", "MgO"]))
    energies = {"NaCl": -2.1, "MgO": -3.0}
    table = table.with_column("formation_energy_per_atom", energies, "Float64")
    hull = Hull.from_entries(["NaCl", "Na3Cl", "NaCl3"], [-2.1, -0.1, -0.1], scale="s", source="h")
    judged = evaluate_table(table, hull=hull)
    assert judged.column("hull_support") == ["supported", "blind"]
    assert judged.column("hull_gaps") == [None, "Mg-O"]
    assert judged.column("hull_systems")[1] == "Mg-O: 0 here, 1 in LeMat-Bulk"
    assert judged.column("hull_warning")[0] is None
    assert "3.00 eV/atom below the hull" in judged.column("hull_warning")[1]


def rows(*values):
    """Judged crystals: (support, warning, grade, energy above hull, entries)."""
    names = ("hull_support", "hull_warning", "novelty_grade", "e_above_hull", "hull_entries")
    kinds = ("string", "string", "string", "Float64", "Int64")
    lone = Crystals([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], [[[4, 0, 0], [0, 4, 0], [0, 0, 4]]], [2], ("x",))
    many = Crystals.concatenate([lone.with_ids([f"c-{i}"]) for i in range(len(values))])
    table = CandidateTable.from_crystals(many)
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        table = table.with_column(name, {i: v[k] for i, v in zip(table.ids, values, strict=True)}, kind)
    for name in ("valid", "stable", "unique", "novel"):
        table = table.with_column(name, dict.fromkeys(table.ids, True), "boolean")
    return table


def test_a_short_list_is_ordered_by_what_missing_competitors_cannot_inflate():
    table = rows(
        ("blind", "too low", "new formula", -2.6, 1),
        ("supported", None, "known formula", -0.05, 9),
        ("supported", None, "new formula", 0.04, 9),
        ("supported", None, "new formula", -0.09, 3),
        ("supported", None, "new formula", -0.01, 8),
        ("thin", None, "new formula", -0.08, 30),
    )
    ranks = with_shortlist(table, 50).column("shortlist_rank")
    order = [i for _, i in sorted((r, i) for i, r in enumerate(ranks) if r is not None)]
    assert order == [4, 3, 2, 1, 5, 0], "depth below the hull counts for nothing, entries do"


def test_warnings_are_never_in_the_first_half_of_a_short_list():
    table = rows(
        *[("supported", "too low", "new formula", -0.4, 5)] * 7,
        *[("thin", None, "new formula", 0.05, 5)] * 2,
    )
    ranks = with_shortlist(table, 50).column("shortlist_rank")
    assert sorted(r for r in ranks if r is not None) == [1, 2, 3, 4]
    assert ranks[7:] == [1, 2]
    only = with_shortlist(rows(("blind", "too low", "new formula", -3.0, 0)), 50)
    assert only.column("shortlist_rank") == [None]


def test_rates_with_a_new_formula_and_a_supported_hull():
    table = rows(
        ("supported", None, "new formula", 0.0, 5),
        ("supported", "too low", "new formula", -0.5, 5),
        ("blind", None, "new formula", 0.0, 0),
        ("supported", None, "known formula", 0.0, 5),
    )
    metrics = crystal_metrics(table)
    assert (metrics["vsun"], metrics["vsun_new_formula"], metrics["vsun_supported"]) == (1.0, 0.75, 0.25)
    assert metrics["novelty_grades"] == {"known formula": 1, "new formula": 3}
    assert metrics["hull_support"] == {"blind": 1, "supported": 3} and metrics["num_hull_warnings"] == 1
    [counted] = trust_tables(table.frame)
    assert counted.rows == [("new formula", "2", "0", "1", "1"), ("known formula", "1", "0", "0", "0")]
    assert (
        crystal_metrics(CandidateTable(table.frame.drop(columns="novelty_grade")))["vsun_new_formula"] is None
    )
