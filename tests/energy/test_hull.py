"""The hull against pymatgen's phase diagram, and what it does with entries that are no good."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.energy.load_hull import load_hull, scale_of
from crysjepa.runtime.notes import ReadNote

ELEMENTS = ["Li", "Fe", "P", "O", "S"]


def hull_of(entries: dict[str, float], **kwargs: object) -> Hull:
    return Hull.from_entries(list(entries), list(entries.values()), scale="test", source="test", **kwargs)


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[Composition], list[float], Composition, float]:
    elements = draw(st.lists(st.sampled_from(ELEMENTS), min_size=2, max_size=5, unique=True))
    amounts = st.lists(st.integers(0, 4), min_size=len(elements), max_size=len(elements)).filter(any)
    compositions = st.builds(lambda n: Composition(dict(zip(elements, n, strict=True))), amounts)
    entries = draw(st.lists(compositions, min_size=1, max_size=25))
    entries = [c for c in entries if len(c.elements) > 1] or [Composition(dict.fromkeys(elements, 1))]
    energy = st.floats(-4, 1).map(lambda e: round(e, 4))
    energies = [draw(energy) for _ in entries]
    return entries, energies, draw(compositions), draw(energy)


@settings(max_examples=80, deadline=None)
@given(systems())
def test_agrees_with_the_phase_diagram_of_pymatgen(
    system: tuple[list[Composition], list[float], Composition, float],
) -> None:
    entries, energies, asked, energy = system
    hull = Hull.from_entries(entries, energies, scale="test", source="test")
    elements = {e for c in [*entries, asked] for e in c.elements}
    diagram = PhaseDiagram(
        [PDEntry(Composition(e.symbol), 0.0) for e in sorted(elements, key=lambda e: e.Z)]
        + [PDEntry(c, e * c.num_atoms) for c, e in zip(entries, energies, strict=True)]
    )
    expected = diagram.get_hull_energy_per_atom(asked)
    height = hull.energy(asked)
    assert height == pytest.approx(expected, abs=1e-6)
    assert hull.e_above_hull(asked, energy).e_above_hull == pytest.approx(energy - expected, abs=1e-6)


def test_a_tie_line_and_a_point_on_it() -> None:
    hull = hull_of({"LiFe": -1.0, "Li3Fe": -0.3})
    # Between Li (0) and LiFe (−1 at x = 1/2) the line passes −1/2 at Li3Fe, below its own −0.3.
    assert hull.energy("Li3Fe") == pytest.approx(-0.5)
    assert hull.e_above_hull("Li3Fe", -0.3).e_above_hull == pytest.approx(0.2)
    assert hull.e_above_hull("LiFe", -1.2).e_above_hull == pytest.approx(-0.2)
    assert hull.e_above_hull("LiFe", -1.0).e_above_hull == 0.0


def test_elements_lie_at_zero_whatever_the_entries_say() -> None:
    hull = hull_of({"Li": -0.7, "Fe": 0.4, "LiFe": -0.2, "O2": -1.0})
    assert hull.energy("Li") == 0.0
    assert hull.energy("Fe2") == 0.0
    assert hull.energy("LiFe") == pytest.approx(-0.2)


def test_judged_against_elements_alone_is_visible() -> None:
    hull = hull_of({"LiFe": -1.0, "LiO": 0.5, "LiFeO2": -2.0})
    assert hull.e_above_hull("PS", 0.1) == hull.e_above_hull("P2S2", 0.1)
    assert hull.e_above_hull("PS", 0.1).num_entries == 0
    assert hull.e_above_hull("PS", 0.1).e_above_hull == pytest.approx(0.1)
    assert hull.e_above_hull("LiFeO", 0.0).num_entries == 3
    assert hull.e_above_hull("Li2O", 0.0).num_entries == 1


def test_many_elements_take_the_same_answer_as_few() -> None:
    few = hull_of({"LiFe": -1.0, "PS": -0.5})
    every = {e.symbol: 1 for e in (Element.from_Z(z) for z in range(1, 61))}
    # 60 elements have 2^60 subsystems; only those that hold entries may be visited.
    assert few.energy(every) == pytest.approx((2 * -1.0 + 2 * -0.5) / 60, abs=1e-6)


def test_order_of_entries_and_duplicates_do_not_matter() -> None:
    one = hull_of({"LiFe": -1.0, "Li2Fe2": -0.8, "LiO": -0.4})
    two = hull_of({"LiO": -0.4, "Li2Fe2": -0.8, "LiFe": -1.0})
    assert one.content_hash == two.content_hash
    assert len(one) == 2
    assert one.content_hash != hull_of({"LiFe": -1.0}).content_hash


def test_entries_that_are_no_good_are_skipped_and_named() -> None:
    hull = hull_of(
        {"LiFe": -1.0, "LiO": math.nan, "Li3O": math.inf, "not a formula": -1.0, "": -2.0},
        ids=["a", "b", "c", "d", "e"],
    )
    assert set(hull.skipped) == {"b", "c", "d", "e"}
    assert len(hull) == 1
    assert "formation energy" in hull.skipped["b"]
    assert "'not a formula' is not a composition" in hull.skipped["d"]


@pytest.mark.parametrize("formula", ["CaSO4.2H2O", "MgO.5H2O", "Al2O3.2SiO2", "CoCl2.6NH3"])
def test_a_dot_between_two_formulas_is_no_decimal_point(formula: str) -> None:
    hull = hull_of({formula: -1.0, "NaCl": -2.0})
    assert list(hull.compounds) == [(("Cl", 0.5), ("Na", 0.5))]
    assert "dot between two formulas" in hull.skipped["entry-0"]


@pytest.mark.parametrize(
    "formula",
    ["Li0.5CoO2", "Al2O2.2(OH)1.8", "S1.5SrO2", "Na0.3CoO2(H2O)1.3", "La1.85Sr0.15CuO4"],
)
def test_decimal_amounts(formula: str) -> None:
    assert hull_of({formula: -1.0}).skipped == {}


@pytest.mark.parametrize("entries", [{}, {"Li": 0.0}, {"LiO": math.nan}])
def test_an_empty_hull_is_an_error(entries: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no compound"):
        hull_of(entries)


def test_bad_questions_get_a_reason() -> None:
    hull = hull_of({"LiFe": -1.0})
    assert hull.energy("not a formula") is None
    for composition, energy in [("LiFe", None), ("LiFe", math.nan), ("???", 0.0), ("", 0.0)]:
        result = hull.e_above_hull(composition, energy)
        assert result.e_above_hull is None
        assert result.reason


def table(rows: list[tuple[list[int], float | None, float | None]]) -> CandidateTable:
    crystals = Crystals.concatenate(
        [
            Crystals(
                np.array(z),
                np.arange(3 * len(z)) / (3 * len(z)),
                np.eye(3) * 5,
                np.array([len(z)]),
                (f"c-{i}",),
            )
            for i, (z, _, _) in enumerate(rows)
        ]
    )
    made = CandidateTable.from_crystals(crystals, {"lost": "unreadable"})
    for name, column in (("formation_energy_per_atom", 1), ("e_above_hull", 2)):
        values = {f"c-{i}": row[column] for i, row in enumerate(rows)}
        made = made.with_column(name, values, "Float64")
    return made


def test_a_table_with_e_above_hull_lends_its_publishers_hull() -> None:
    rows = [([3, 26], -0.5, 0.2), ([3, 3, 8], -1.0, None), ([26, 8], -1.5, -0.3), ([26, 26, 8], None, 0.1)]
    lent = Hull.from_table(table(rows), scale="test", source="test")
    assert lent.energy("LiFe") == pytest.approx(-0.7)
    assert lent.energy("Li2O") == pytest.approx(-1.0)
    assert lent.energy("FeO") == pytest.approx(-1.5)
    assert set(lent.skipped) == {"lost", "c-3"}
    own = Hull.from_table(table(rows), scale="test", source="test", use_e_above_hull=False)
    assert own.energy("LiFe") == pytest.approx(-0.5)


def test_a_table_without_energies_is_refused() -> None:
    bare = CandidateTable.from_crystals(table([([3, 26], 0.0, 0.0)]).crystals())
    with pytest.raises(ValueError, match="formation_energy_per_atom"):
        Hull.from_table(bare, scale="test", source="bare")
    near = bare.with_column("Formation_Energy_Per_Atom", dict.fromkeys(bare.ids, -1.0), "Float64")
    with pytest.raises(ValueError, match=r"is it Formation_Energy_Per_Atom\? Rename it"):
        Hull.from_table(near, scale="test", source="near")


def test_read(tmp_path) -> None:
    entries = pa.table(
        {"id": ["a", "b"], "composition": ["Li2Fe2", "Li??"], "formation_energy_per_atom": [-1.0, 0.0]}
    )
    pq.write_table(entries, tmp_path / "silent.parquet")
    silent = Hull.read(tmp_path / "silent.parquet")
    assert (silent.scale, silent.scale_stated) == ("materials_project", False)
    assert silent.energy("LiFe") == pytest.approx(-1.0)
    assert set(silent.skipped) == {"b"}

    stating = entries.replace_schema_metadata({"crysjepa": json.dumps({"scale": "other"})})
    pq.write_table(stating, tmp_path / "stating.parquet")
    assert (
        Hull.read(tmp_path / "stating.parquet").scale,
        Hull.read(tmp_path / "stating.parquet").scale_stated,
    ) == (
        "other",
        True,
    )
    assert Hull.read(tmp_path / "stating.parquet", scale="mine").scale == "mine"


def test_read_refuses_other_files(tmp_path) -> None:
    (tmp_path / "a.parquet").write_text("not parquet")
    with pytest.raises(ValueError, match="not a Parquet file"):
        Hull.read(tmp_path / "a.parquet")
    pq.write_table(pa.table({"composition": ["LiFe"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="no column formation_energy_per_atom"):
        Hull.read(tmp_path / "b.parquet")


def test_what_is_left_out_is_told_with_the_scale_that_was_taken(tmp_path) -> None:
    path = tmp_path / "own.parquet"
    formulas = ["NaCl", "Na{+}1Cl{-}1", "LiCl", "KCl", "MgO", "CaO", "BaO"]
    energies = [-2.1, -2.1, -2.1, None, -1e3, 1e6, float("inf")]
    pq.write_table(pa.table({"composition": formulas, "formation_energy_per_atom": energies}), path)
    with pytest.warns(ReadNote, match=r"the hull own.parquet: 5 of 7 entries left out \(entry-1: "):
        hull = load_hull(path)
    assert list(hull.skipped) == ["entry-1", "entry-3", "entry-4", "entry-5", "entry-6"] and len(hull) == 2
    assert hull.energy("MgO") == 0 and "below -6" in hull.skipped["entry-4"]
    assert hull.scale_description == "not stated, taken as materials_project"
    assert Hull.from_entries(["NaCl"], [-2.1], scale="x", source="s").left_out is None


def test_elements_with_energies_are_told() -> None:
    hull = hull_of({"NaCl": -2.1, "K": 0.1, "bad": -1.0, "Na": -1.3}, ids=["a", "b", "c", "d"])
    assert list(hull.skipped) == ["d", "c"] and "total energies" in hull.skipped["d"]
    assert "the element Na at -1.3 eV/atom" in str(hull.left_out)


def test_formulas_in_capitals_are_no_compounds() -> None:
    hull = hull_of({"NaCl": -2.1, "NACL": -2.5, "MGO": -3.0})
    assert len(hull) == 1 and list(hull.skipped) == ["entry-1", "entry-2"]
    assert "'NACL' is not a composition (A is no element" in hull.skipped["entry-1"]
    with pytest.raises(ValueError, match=r"1 of 1 entries left out \(entry-0: 'MGO' is not"):
        hull_of({"MGO": -3.0})


@pytest.mark.parametrize("name", ["e_above_hull", "energy_above_hull", "E_above_hull", "e_hull", "ehull"])
def test_heights_above_the_hull_go_by_many_names(name: str, tmp_path) -> None:
    made = table([([11, 17], -1.8, 0.3)])
    renamed = CandidateTable(made.frame.rename(columns={"e_above_hull": name}))
    renamed.write(tmp_path / "structures.parquet")
    rows = {"composition": ["NaCl"], "formation_energy_per_atom": [-1.8], name: [0.3]}
    pq.write_table(pa.table(rows), tmp_path / "compositions.parquet")
    rows = {"composition": ["NaCl"], "formation_energy_per_atom": ["-1.8"], name: ["0.3"]}
    pq.write_table(pa.table(rows), tmp_path / "text.parquet")
    for file in ("structures", "compositions", "text"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReadNote)  # of the row without a structure
            hull = load_hull(tmp_path / f"{file}.parquet")
            own = load_hull(tmp_path / f"{file}.parquet", use_e_above_hull=False)
        assert hull.energy("NaCl") == pytest.approx(-2.1) and own.energy("NaCl") == pytest.approx(-1.8)


def test_a_height_that_is_no_number_is_told(tmp_path) -> None:
    rows = {"composition": ["NaCl"], "formation_energy_per_atom": [-1.8], "e_above_hull": ["low"]}
    pq.write_table(pa.table(rows), tmp_path / "h.parquet")
    with pytest.warns(ReadNote, match="1 cells of e_above_hull, such as 'low', are no numbers"):
        assert Hull.read(tmp_path / "h.parquet").energy("NaCl") == pytest.approx(-1.8)


def test_the_scale_of_a_folder_is_that_of_its_files(tmp_path) -> None:
    made = table([([11, 17], -1.8, 0.3)])
    made.write(tmp_path / "one" / "a.parquet", {"scale": "oqmd"})
    assert scale_of(tmp_path / "one") == scale_of(tmp_path / "one" / "a.parquet") == "oqmd"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadNote)
        assert load_hull(tmp_path / "one").scale == "oqmd"
    made.write(tmp_path / "one" / "b.parquet", {"scale": "materials_project"})
    with pytest.raises(ValueError, match=r"different energy scales \(a\.parquet: oqmd, b\."):
        scale_of(tmp_path / "one")
    made.write(tmp_path / "silent" / "a.parquet")
    assert scale_of(tmp_path / "silent") is None


def with_columns(tmp_path, **columns: list) -> list:
    """The same hull twice: a file of compositions, and one of structures."""
    rows = {"composition": ["NaCl", "MgO"], "formation_energy_per_atom": [-1.8, -2.9], **columns}
    pq.write_table(pa.table(rows), tmp_path / "compositions.parquet")
    made = CandidateTable.from_crystals(table([([11, 17], -1.8, 0.3), ([12, 8], -2.9, 0.0)]).crystals())
    frame = made.frame.assign(formation_energy_per_atom=[-1.8, -2.9], **columns)
    CandidateTable(frame).write(tmp_path / "structures.parquet")
    return [tmp_path / "compositions.parquet", tmp_path / "structures.parquet"]


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"e_above_hull": [0.1, 0.0], "energy_above_hull": [0.3, 0.0]}, "e_above_hull and energy_above_hull"),
        ({"unit": ["eV/atom", "kJ/mol"]}, "unit of .* says 'kJ/mol'"),
        ({"Units": ["meV/atom", None]}, "Units of .* says 'meV/atom'"),
        ({"scale": ["materials_project", "oqmd"]}, "several scales"),
    ],
)
def test_columns_that_contradict(columns: dict, reason: str, tmp_path) -> None:
    for path in with_columns(tmp_path, **columns):
        with pytest.raises(ValueError, match=reason):
            load_hull(path)


def test_columns_that_agree(tmp_path) -> None:
    columns = {
        "e_above_hull": [0.1, None], "energy_above_hull": [0.1, 0.2], "unit": ["eV/atom", "eV per atom"],
        "scale": ["oqmd", "oqmd"],
    }  # fmt: skip
    for path in with_columns(tmp_path, **columns):
        hull = load_hull(path)
        assert hull.scale == "oqmd" and hull.scale_stated and hull.energy("NaCl") == pytest.approx(-1.9)
        with pytest.raises(ValueError, match="stated is mine"):
            load_hull(path, scale="mine")


def test_capitals_that_may_be_other_elements() -> None:
    hull = hull_of({"HFO2": -3.0, "PBO": -1.0, "CO2": -1.4, "H2O": -1.0}, elements_alone=True)
    assert (
        list(hull.skipped) == ["entry-0", "entry-1"] and "'PBO' is PbO in capitals" in hull.skipped["entry-1"]
    )
    assert not hull_of({"PBO": -1.0, "NaCl": -2.1}).skipped


@pytest.mark.parametrize(
    "types", [["GGA_GGA+U", "R2SCAN"], ["pbe", "pbesol"], ["SCAN", "r2SCAN"], ["PBE", "PBE-D3"]]
)
def test_two_functionals_make_no_hull(types, tmp_path):
    for path in with_columns(tmp_path, functional=types):
        with pytest.raises(ValueError, match="energies of two functionals make no hull"):
            load_hull(path)


@pytest.mark.parametrize(
    "text, scale",
    [("R2SCAN", "r2scan"), ("r2-SCAN", "r2scan"), ("PBEsol", "pbesol"), ("OptB88vdW", "optb88vdw"),
     ("LDA", "lda"), ("GGA_GGA+U_R2SCAN", "gga_gga+u_r2scan"), ("HSE06", "hse06"), ("GGA", None),
     ("PBE+U", None), ("GGA_GGA+U", None), ("PBE_54", None), ("VASP", None)],
)  # fmt: skip
def test_energies_of_another_functional_are_on_another_scale(text, scale, tmp_path):
    for path in with_columns(tmp_path, thermo_type=[text, text]):
        hull = load_hull(path)
        assert (hull.scale, hull.scale_stated) == (scale or "materials_project", scale is not None)
        assert load_hull(path, scale="mine").scale == "mine"
        if scale is not None:
            with pytest.raises(ValueError, match="is one of PBE: which one holds"):
                load_hull(path, scale="materials_project")


def test_what_holds_no_hull_is_told_what_one_is(tmp_path):
    (tmp_path / "pd.json").write_text('{"all_entries": [{"composition": {"Na": 1}, "energy": -1.3}]}')
    pq.write_table(
        pa.table({"Composition": ["NaCl"], "Formation Energy Per Atom": [-2.1]}), tmp_path / "g.parquet"
    )
    for name in ("pd.json", "g.parquet"):
        with pytest.raises(ValueError, match="A hull is a Parquet file with the columns composition and"):
            load_hull(tmp_path / name)
