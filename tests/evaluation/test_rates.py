"""Rates over the full denominator, and tables judged from end to end."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, ScaleMismatch
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.metrics import Rules, crystal_metrics, evaluate_table, load_hull

CSCL = [[0, 0, 0], [0.5, 0.5, 0.5]]
REFERENCES = ElementalReferences({"Na": -1.0, "Cl": -2.0, "K": -1.0}, "ff", "test", "test")
HULL = Hull.from_entries(["NaCl", "KCl"], [-1.0, -1.2], scale="test", source="test")


def crystal(id_: str, numbers: list[int], frac: object = CSCL, a: float = 4.0) -> Crystals:
    return Crystals(numbers, np.asarray(frac, dtype=float), np.eye(3) * a, [len(numbers)], (id_,))


def table(crystals: list[Crystals], energies: dict[str, float | None] | None = None) -> CandidateTable:
    made = CandidateTable.from_crystals(Crystals.concatenate(crystals), {"lost": "unreadable"})
    return made if energies is None else made.with_column("energy_per_atom", energies, "Float64")


def batch() -> CandidateTable:
    """One crystal for each end that a crystal can come to. NaCl on the hull has −2.5 eV/atom in all."""
    crystals = [
        crystal("good", [11, 17]),
        crystal("twin", [11, 17], a=4.1),
        crystal("known", [55, 17]),
        crystal("high", [19, 17]),
        crystal("fused", [11, 17], [[0, 0, 0], [0, 0, 0.01]]),
        crystal("charged", [11, 11], [[0, 0, 0], [0.5, 0.5, 0.1]]),
        crystal("odd", [11, 11, 17], [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]]),
        crystal("gone", [11, 11, 17, 17], [[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0.5]]),
        crystal("broken", [11, 17], [[0, 0, 0], [np.nan, 0, 0]]),
    ]
    energies = {
        "good": -2.46,
        "twin": -2.3,
        "known": -2.0,
        "high": -2.2,
        "fused": 70.0,
        "charged": -1.0,
        "odd": -2.0,
        "broken": -2.5,
    }
    return table(crystals, energies)


def judged() -> CandidateTable:
    return evaluate_table(
        batch(),
        reference=crystal("mp-1", [55, 17], a=4.2),
        hull=HULL,
        references=REFERENCES,
        rules=Rules(e_above_hull_max=0.1),
    )


def ends(judged_table: CandidateTable) -> dict[str, tuple[str, str | None]]:
    columns = (judged_table.column(c) for c in ("status", "stage"))
    return dict(zip(judged_table.ids, zip(*columns, strict=True), strict=True))


def values(judged_table: CandidateTable, column: str) -> dict[str, object]:
    return dict(zip(judged_table.ids, judged_table.column(column), strict=True))


def test_every_crystal_ends_where_it_should() -> None:
    assert ends(judged()) == {
        "good": ("ok", None),
        "twin": ("rejected", "uniqueness"),
        "known": ("rejected", "novelty"),
        "high": ("rejected", "stability"),
        "fused": ("rejected", "validity"),
        "charged": ("ok", None),  # a single element is a valid composition, and Na lies on the hull
        "odd": ("rejected", "validity"),
        "gone": ("failed", "stability"),
        "broken": ("rejected", "validity"),
        "lost": ("failed", "read"),
    }
    reasons = values(judged(), "reason")
    assert reasons["twin"] == "duplicate of good"
    assert reasons["known"] == "matches mp-1"
    assert reasons["high"] == "unstable: 0.500 eV/atom above the hull"
    assert "shortest distance 0.04 Å" in str(reasons["fused"])
    assert "cation" in str(reasons["odd"])
    assert reasons["gone"] == "no finite total energy"
    assert reasons["lost"] == "unreadable"


def test_every_column_is_filled_for_every_sound_structure_that_had_not_failed() -> None:
    table_ = judged()
    assert values(table_, "valid") == {
        **dict.fromkeys(["good", "twin", "known", "high", "charged", "gone"], True),
        **dict.fromkeys(["fused", "odd", "broken"], False),
        "lost": None,
    }
    sound = ["good", "known", "high", "charged", "odd", "gone"]
    none = dict.fromkeys(["fused", "broken", "lost"])
    assert values(table_, "unique") == {**dict.fromkeys(sound, True), "twin": False, **none}
    assert values(table_, "duplicate_of") == {**dict.fromkeys([*sound, *none]), "twin": "good"}
    assert values(table_, "novel") == {**dict.fromkeys([*sound, "twin"], True), "known": False, **none}
    assert values(table_, "matches") == {**dict.fromkeys([*sound, "twin", *none]), "known": "mp-1"}
    # E_f of NaCl is E_t + 1.5 and the hull −1; CsCl has no reference for Cs; Na2Cl mixes NaCl and Na.
    above = values(table_, "e_above_hull")
    assert above.pop("good") == pytest.approx(0.04)
    assert above.pop("twin") == pytest.approx(0.2)
    assert above.pop("high") == pytest.approx(0.5)
    assert above.pop("charged") == pytest.approx(0.0)
    assert above.pop("odd") == pytest.approx(-2.0 + 4 / 3 + 2 / 3)
    assert above == dict.fromkeys(["known", "gone", "fused", "broken", "lost"])
    assert values(table_, "hull_entries")["good"] == 1
    assert values(table_, "hull_entries")["known"] == 0
    assert values(table_, "stable")["twin"] is False
    assert values(table_, "stable")["known"] is None
    assert values(table_, "formula")["odd"] == "Na2Cl"
    assert values(table_, "formula")["fused"] == "NaCl"
    assert values(table_, "chemical_system")["known"] == "Cl-Cs"
    assert values(table_, "space_group")["good"] == "Pm-3m"
    assert values(table_, "space_group")["fused"] is None


def test_the_rows_order_changes_nothing() -> None:
    straight, frame = judged(), batch().frame
    turned = evaluate_table(
        CandidateTable(frame.iloc[::-1].reset_index(drop=True)),
        reference=crystal("mp-1", [55, 17], a=4.2),
        hull=HULL,
        references=REFERENCES,
    )
    assert ends(turned) == ends(straight)
    assert crystal_metrics(turned)["vsun"] == crystal_metrics(straight)["vsun"]


def test_rates_count_every_row() -> None:
    metrics = crystal_metrics(judged())
    assert metrics["num_crystals"] == 10
    assert metrics["valid"] == pytest.approx(0.6)
    assert metrics["unique"] == pytest.approx(0.6)
    assert metrics["novel"] == pytest.approx(0.6)
    assert metrics["stable"] == pytest.approx(0.3)  # good, charged, odd
    assert metrics["sun"] == pytest.approx(0.3)
    assert metrics["vsun"] == pytest.approx(0.2)
    assert metrics["stable_at_0"] == pytest.approx(0.2)  # charged, odd
    assert metrics["counts"]["failed: read"] == 1
    assert sum(metrics["counts"].values()) == 10
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(("hits", "rows"), [(0, 7), (3, 7), (7, 7), (480, 1000)])
def test_intervals_are_wilsons(hits: int, rows: int) -> None:
    flags = CandidateTable.from_crystals(Crystals.empty(), {f"c-{i}": "unreadable" for i in range(rows)})
    flags = flags.with_column(
        "valid", dict(zip(flags.ids, [True] * hits + [False] * (rows - hits), strict=True)), "boolean"
    )
    low, high = crystal_metrics(flags)["intervals"]["valid"]
    z, p = 1.959963984540054, hits / rows
    middle = (p + z * z / 2 / rows) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(p * (1 - p) / rows + z * z / 4 / rows**2)
    assert low == pytest.approx(middle - half, abs=1e-9)
    assert high == pytest.approx(middle + half, abs=1e-9)
    assert (low, high) == binomtest(hits, rows).proportion_ci(0.95, "wilson")  # to the last digit


def test_what_was_not_computed_is_null_and_what_failed_is_not() -> None:
    bare = crystal_metrics(table([crystal("a", [11, 17])]))
    assert bare["num_crystals"] == 2
    names = ("valid", "stable", "unique", "novel", "sun", "vsun", "converged", "stable_at_0")
    assert {bare[name] for name in names} == {None}
    assert {bare["intervals"][name] for name in names} == {None}
    assert bare["num_vsun_without_hull_entries"] is None
    without_hull = evaluate_table(table([crystal("a", [11, 17])]))
    assert crystal_metrics(without_hull)["valid"] == pytest.approx(0.5)
    assert crystal_metrics(without_hull)["stable"] is None
    assert crystal_metrics(without_hull)["sun"] is None
    assert crystal_metrics(without_hull)["num_vsun_without_hull_entries"] is None
    none = evaluate_table(table([crystal("a", [11, 17])], {"a": None}), hull=HULL, references=REFERENCES)
    assert crystal_metrics(none)["stable"] == 0.0


def test_tables_without_rows_or_structures() -> None:
    nothing = evaluate_table(CandidateTable.from_crystals(Crystals.empty()))
    assert crystal_metrics(nothing)["num_crystals"] == 0
    assert crystal_metrics(nothing)["valid"] is None
    unread = evaluate_table(CandidateTable.from_crystals(Crystals.empty(), {"a": "x", "b": "y"}))
    assert crystal_metrics(unread)["valid"] == 0.0
    assert unread.counts() == {"failed: read": 2}


def test_published_formation_energies_are_used_as_they_stand() -> None:
    published = table([crystal("a", [11, 17])]).with_column(
        "formation_energy_per_atom", {"a": -0.7}, "Float64"
    )
    assert values(evaluate_table(published, hull=HULL), "e_above_hull")["a"] == pytest.approx(0.3)
    assert (
        values(evaluate_table(published, hull=HULL, rules=Rules(e_above_hull_max=0.31)), "stable")["a"]
        is True
    )


def test_a_new_judgement_leaves_nothing_of_an_older_one() -> None:
    stale = table([crystal("a", [11, 17])], {"a": None})
    stale = stale.with_column("formation_energy_per_atom", {"a": -3.0, "lost": -3.0}, "Float64")
    found = evaluate_table(stale, hull=HULL, references=REFERENCES)
    assert values(found, "formation_energy_per_atom") == {"a": None, "lost": None}
    assert values(found, "stable") == {"a": None, "lost": None}


def twins() -> CandidateTable:
    """Two of a kind, both on the hull."""
    return table([crystal("a-1", [11, 17]), crystal("a-2", [11, 17])], {"a-1": -2.5, "a-2": -2.5})


def judge(entering: CandidateTable) -> CandidateTable:
    return evaluate_table(
        entering,
        reference=crystal("mp-1", [55, 17]),
        hull=HULL,
        references=REFERENCES,
        rules=Rules(e_above_hull_max=0.1),
    )


def test_a_rejection_stands_and_its_row_is_judged_all_the_same() -> None:
    found = judge(twins().decide("screen", {"a-1": "not chosen"}, Status.REJECTED))
    assert ends(found)["a-1"] == ("rejected", "screen")
    assert values(found, "unique") == {"a-1": True, "a-2": False, "lost": None}
    assert values(found, "stable") == {"a-1": True, "a-2": True, "lost": None}


def test_nothing_is_a_duplicate_of_a_crystal_that_failed() -> None:
    found = judge(twins().decide("relax", {"a-1": "it went astray"}, Status.FAILED))
    assert ends(found)["a-1"] == ("failed", "relax")
    assert ends(found)["a-2"] == ("ok", None)
    assert values(found, "unique") == {"a-1": None, "a-2": True, "lost": None}
    assert values(found, "duplicate_of") == dict.fromkeys(["a-1", "a-2", "lost"])
    assert crystal_metrics(found)["unique"] == pytest.approx(1 / 3)


def test_a_crystal_that_failed_has_no_stability() -> None:
    entering = twins().decide("relax", {"a-1": "it went astray"}, Status.FAILED)
    found = judge(entering)
    assert values(found, "stable") == {"a-1": None, "a-2": True, "lost": None}
    for column in ("formation_energy_per_atom", "e_above_hull", "hull_entries"):
        assert values(found, column)["a-1"] is None
        assert values(found, column)["a-2"] is not None
    assert values(found, "valid")["a-1"] is True
    assert values(found, "novel")["a-1"] is True
    metrics = crystal_metrics(found)
    for rate in ("stable", "stable_at_0", "sun", "vsun"):
        assert metrics[rate] == pytest.approx(1 / 3)
    published = entering.with_column("formation_energy_per_atom", {"a-1": -1.0, "a-2": -1.0}, "Float64")
    published = CandidateTable(published.frame.drop(columns="energy_per_atom"))
    found = evaluate_table(published, hull=HULL)
    assert values(found, "stable") == {"a-1": None, "a-2": True, "lost": None}
    assert values(found, "formation_energy_per_atom")["a-1"] == -1.0  # the source's own, not derived


def test_converged_is_a_fraction_of_all_rows() -> None:
    relaxed = twins().with_column("converged", {"a-1": True, "a-2": False}, "boolean")
    metrics = crystal_metrics(relaxed)
    assert metrics["converged"] == pytest.approx(1 / 3)
    low, high = metrics["intervals"]["converged"]
    assert 0 < low < 1 / 3 < high < 1


def test_vsun_that_the_hull_knows_no_compound_for_are_counted() -> None:
    entering = table(
        [crystal("salt", [11, 17]), crystal("alloy", [11, 19]), crystal("high", [11, 19], a=6.0)],
        {"salt": -2.5, "alloy": -1.5, "high": 2.0},
    )
    found = judge(entering)
    assert values(found, "hull_entries") == {"salt": 1, "alloy": 0, "high": 0, "lost": None}
    metrics = crystal_metrics(found)
    assert metrics["vsun"] == pytest.approx(0.5)
    assert metrics["num_vsun_without_hull_entries"] == 1
    json.dumps(metrics, allow_nan=False)


def test_scales_are_not_mixed_unless_asked() -> None:
    other = Hull.from_entries(["NaCl"], [-1.0], scale="other", source="test")
    with pytest.raises(ScaleMismatch, match="allow_mixed_scales"):
        evaluate_table(batch(), hull=other, references=REFERENCES)
    mixed = evaluate_table(batch(), hull=other, references=REFERENCES, rules=Rules(allow_mixed_scales=True))
    assert values(mixed, "e_above_hull")["good"] == pytest.approx(0.04)


def test_a_missing_energy_column_is_an_error() -> None:
    bare = table([crystal("a", [11, 17])])
    with pytest.raises(ValueError, match="no column energy_per_atom"):
        evaluate_table(bare, hull=HULL, references=REFERENCES)
    with pytest.raises(ValueError, match="energy_per_atom or formation_energy_per_atom"):
        evaluate_table(bare, hull=HULL)
    with pytest.raises(ValueError, match="needs elemental references"):
        evaluate_table(batch(), hull=HULL)


def test_progress_names_its_stage() -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate_table(
        batch(),
        reference=crystal("mp-1", [55, 17]),
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert {stage for stage, _, _ in seen} == {"structure", "composition", "uniqueness", "novelty"}
    assert all(done <= total for _, done, total in seen)


def test_load_hull(tmp_path) -> None:
    entries = pa.table({"composition": ["NaCl"], "formation_energy_per_atom": [-1.0]})
    pq.write_table(entries, tmp_path / "entries.parquet")
    assert load_hull(tmp_path / "entries.parquet").energy("NaCl") == pytest.approx(-1.0)
    crystals = Crystals.concatenate([crystal("a", [11, 17]), crystal("b", [19, 17])]).to_arrow()
    crystals = crystals.append_column("formation_energy_per_atom", pa.array([-1.1, -1.2]))
    pq.write_table(crystals, tmp_path / "crystals.parquet")
    hull = load_hull(tmp_path / "crystals.parquet", scale="test")
    assert (hull.scale, hull.scale_stated) == ("test", True)
    assert hull.energy("NaCl") == pytest.approx(-1.1)


def test_the_bundled_hull_and_its_references_are_on_one_scale() -> None:
    from crysjepa.energy.elemental_references import check_scales, load_references

    hull = load_hull("flla")
    check_scales(load_references("chgnet", "materials_project_2015").scale, hull.scale)
    assert len(hull) > 2000
    assert hull.scale_stated
    assert all(
        hull.energy(dict(fractions)) <= energy for fractions, energy in list(hull.compounds.items())[:20]
    )
