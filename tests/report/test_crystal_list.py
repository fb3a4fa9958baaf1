"""The list of crystals: its files, what can be filtered, where verdicts come from, hulls and chances."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure
from test_page import assert_references_resolve, assert_self_contained, candidates, columns, read, write_run

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.kept_hull import write_entries
from crysjepa.energy.known_hull import known_hull
from crysjepa.io import read_crystals
from crysjepa.report import write_report
from crysjepa.report.crystals import crystal_list
from crysjepa.report.evaluation import write_evaluation
from crysjepa.report.funnel import near_misses, shortlist
from crysjepa.report.html import known_id
from crysjepa.report.hulls import Phase, diagram, hull_pictures, on_hull, read_phases
from crysjepa.report.provenance import Verdict, sources, verdicts
from crysjepa.report.reliability import curves, reliability_figure
from crysjepa.report.results import Results, read_results
from crysjepa.report.scripts import VIEWER, shipped

PROTOCOL: dict[str, Any] = {
    "force_field": "chgnet", "e_above_hull_max": 0.1, "matcher": "StructureMatcher, default tolerances",
    "composition_rule": "paper", "novelty_set_name": "known", "novelty_set_size": 27708, "hull": "known",
    "hull_compounds": 40784, "batch_size": None, "symprec": 0.1,
}  # fmt: skip


def judged() -> CandidateTable:
    """A stable ternary, an unstable binary that is known, and one that could not be read."""
    lattice = Lattice.cubic(4.1)
    ternary = Structure(
        lattice, ["Na", "K", "Cl", "Cl"], [[0] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    )
    binary = Structure(lattice, ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    crystals = Crystals.from_structures([ternary, binary]).with_ids(["a", "b"])
    table = CandidateTable.from_crystals(crystals, {"c": "the file ends within a loop"})
    hull = known_hull()
    above = {"a": 0.03, "b": 0.25}
    heights = {"a": hull.energy("NaKCl2"), "b": hull.energy("NaCl")}
    table = columns(
        table,
        formula=("string", {"a": "NaKCl2", "b": "NaCl"}),
        valid=("boolean", {"a": True, "b": True}),
        unique=("boolean", {"a": True, "b": True}),
        novel=("boolean", {"a": True, "b": False}),
        stable=("boolean", {"a": True, "b": False}),
        matches=("string", {"b": "mp-22862"}),
        e_above_hull=("Float64", above),
        hull_entries=("Int64", {"a": 3, "b": 1}),
        formation_energy_per_atom=("Float64", {i: heights[i] + above[i] for i in above}),
        novelty_grade=("string", {"a": "new formula", "b": "known"}),
        p_stable=("Float64", {"a": 0.8}),
        p_on_hull=("Float64", {"a": 0.3}),
        space_group=("string", {"a": "Cmcm"}),
        known_structures=("string", {"b": "mp-22862, mp-1120767"}),
        known_compound=("string", {"b": "mp-22862"}),
        p_from=("string", {"a": "chgnet; hull supported"}),
    )
    return table.decide("novelty", {"b": "matches mp-22862"}, Status.REJECTED)


def results_of(table: CandidateTable) -> Results:
    metrics = {"protocol": PROTOCOL, "judge": "chgnet 0.3.0", "hull": "known", "novelty_set": "known"}
    return Results(table, (), metrics, {}, {}, None, {})


def held(link: str) -> bytes:
    return base64.b64decode(link.partition("base64,")[2])


def test_every_crystal_is_listed_and_comes_out_as_it_went_in(tmp_path: Path) -> None:
    results = results_of(judged())
    shown = near_misses(results, every=True)
    found = crystal_list(results, shown)
    assert [card.id for card in found.cards] == ["a", "b", "c"]  # fewest misses first; the unread one too
    assert found.cards[2].reason == "the file ends within a loop" and found.cards[2].no_picture
    assert found.scenes[2] is None and found.cards[2].data == ""
    table = pd.read_csv(io.BytesIO(held(found.table)))
    assert table["id"].tolist() == ["a", "b", "c"] and table["e_above_hull"].tolist()[:2] == [0.03, 0.25]
    assert not {"lattice", "frac_coords"} & set(table.columns)
    with zipfile.ZipFile(io.BytesIO(held(found.cifs))) as archive:
        archive.extractall(tmp_path)
    again = read_crystals(tmp_path).crystals()
    assert sorted(again.reduced_formulas()) == ["KNaCl2", "NaCl"]
    assert held(found.cards[0].data) == (tmp_path / "NaKCl2-a.cif").read_bytes()


def test_filters_are_those_that_tell_crystals_apart() -> None:
    results = results_of(judged())
    found = crystal_list(results, [(0, ()), (1, ())])
    assert found.filters == ("stable", "novel", "new formula")  # both are valid and unique
    assert found.cards[0].flags == ("valid", "stable", "unique", "novel", "new formula")
    assert found.cards[1].elements == ("Cl", "Na")


def test_a_scene_is_the_picture_in_three_dimensions() -> None:
    [card, *_] = crystal_list(results_of(judged()), [(1, ())]).cards
    assert card.picture is not None
    scene = json.loads(json.dumps(card.picture.scene))
    lengths = np.linalg.norm(scene["cell"], axis=1)
    np.testing.assert_allclose(lengths, 4.1, atol=2e-3)
    assert [symbol for symbol, _, _ in scene["elements"]] == ["Na", "Cl"]
    atoms = np.array(scene["atoms"])
    assert (atoms[:, 0] == 0).sum() == 8 and (atoms[:, 0] == 1).sum() == 1  # corners, and the middle
    np.testing.assert_allclose(atoms[atoms[:, 0] == 1, 1:][0], np.sum(scene["cell"], axis=0) / 2, atol=5e-3)


def test_scripts_are_there_for_what_there_is() -> None:
    results = results_of(judged())
    assert len(crystal_list(results, [(0, ())]).scripts) == 2
    unread = crystal_list(results, [(2, ())])
    assert len(unread.scripts) == 1 and unread.licence == ""  # nothing to look at: no viewer
    assert crystal_list(results, []).scripts == []


def test_the_viewer_is_the_file_that_was_published() -> None:
    digest = hashlib.sha256(shipped(VIEWER).encode()).hexdigest()
    assert digest == "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
    assert "University of Pittsburgh" in shipped("3Dmol-LICENSE.txt")


def test_each_verdict_says_by_whom_and_why() -> None:
    results = results_of(judged())
    told = dict(sources(results))
    assert (
        told["stable"] == "chgnet 0.3.0 above the hull known, 40,784 compounds; stable: at most 0.1 eV/atom"
    )
    assert told["space group"].startswith("moyo, within 0.1 Å; a CIF's header has the one within 0.01 Å")
    assert told["novel"] == "against known, 27,708 crystals" and "StructureMatcher" in told["unique"]
    first, second, third = (verdicts(results, row) for row in range(3))
    assert Verdict("stable", "yes", "0.030 eV/atom above the hull, of 3 entries") in first
    assert Verdict("novel", "no", "matches", "mp-22862") in second
    assert Verdict("in the end", "rejected", "novelty: matches mp-22862") in second
    assert Verdict("chance", "80.0 % that DFT agrees", "from chgnet; hull supported") in first
    assert Verdict("formula", "known", "compared with mp-22862, mp-1120767; known as", "mp-22862") in second
    assert Verdict("valid", "not judged") in third
    assert third[-1] == Verdict("in the end", "failed", "read: the file ends within a loop")


@pytest.mark.parametrize("text", ["mp-1<b>", "mp-", "javascript:alert(1)", "mp-1\n", "agm-12", ""])
def test_only_ids_of_the_materials_project_are_links(text: str) -> None:
    assert "<a" not in known_id(text) and "<b>" not in known_id(text)
    assert known_id("mp-22862").startswith('<a href="https://materialsproject.org/materials/mp-22862" rel=')


# -- hulls ---------------------------------------------------------------------------------------


def kept(folder: Path) -> list[Phase]:
    folder.mkdir(exist_ok=True)
    write_entries(known_hull(), ["Cl-K-Na"], folder / "hull.parquet")
    return read_phases(folder)


def test_the_hull_that_is_drawn_is_the_one_that_judged(tmp_path: Path) -> None:
    phases = kept(tmp_path)
    assert {p.id for p in phases if p.formula == "NaCl"} == {"mp-22862"}
    hull = diagram(["Cl", "K", "Na"], phases)
    for formula in ("NaKCl2", "NaCl", "KCl", "K2Cl"):
        height = hull.get_hull_energy_per_atom(Composition(formula))
        assert height == pytest.approx(known_hull().energy(formula), abs=1e-8)
    assert {p.formula for p in on_hull(hull)} <= {p.formula for p in phases}


def test_hypothetical_compounds_near_the_hull_are_drawn_with_the_known(tmp_path: Path) -> None:
    kept(tmp_path)
    rivals = CandidateTable.from_crystals(judged().crystals(["a", "b"]).with_ids(["x", "y"]))
    rivals = columns(
        rivals,
        formula=("string", {"x": "NaKCl2", "y": "NaCl"}),
        formation_energy_per_atom=("Float64", {"x": -3.0, "y": -1.0}),
        e_above_closed_hull=("Float64", {"x": 0.0, "y": 0.9}),
    )
    rivals.write(tmp_path / "competitors.parquet")
    phases = read_phases(tmp_path)
    assert [p for p in phases if not p.known] == [Phase("NaKCl2", -3.0, "x", False)]  # y lies too high
    results = results_of(judged())
    cards = crystal_list(results, [(0, ()), (1, ()), (2, ())]).cards
    first, second = hull_pictures(results, [0, 1, 2], cards, phases)  # the third has no structure
    assert (first.place, first.formula, second.formula) == (1, "NaKCl2", "NaCl")
    assert Phase("NaKCl2", -3.0, "x", False) in first.phases
    assert "mp-22862" in {p.id for p in second.phases} and "0.250 eV/atom above" in second.says
    assert "NaKCl₂" not in second.svg and "this crystal" in first.svg
    itself = [*phases, Phase("NaKCl2", -3.1, "a", False)]  # a competitor that is on the list
    assert hull_pictures(results, [0], cards[:1], itself)[0].phases == first.phases
    assert hull_pictures(results, [0, 1, 2], cards, []) == []


def test_a_file_that_is_no_hull_is_named(tmp_path: Path) -> None:
    (tmp_path / "hull.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"hull.parquet holds no compounds"):
        read_phases(tmp_path)
    nonsense = pd.DataFrame({"id": [None], "composition": ["<b>1"], "formation_energy_per_atom": [-1.0]})
    nonsense.to_parquet(tmp_path / "hull.parquet")
    with pytest.raises(ValueError, match=r"hull.parquet: '<b>1' is not a composition"):
        read_phases(tmp_path)
    (tmp_path / "hull.parquet").unlink()
    assert read_phases(tmp_path) == []


@pytest.mark.parametrize("elements", [["K", "Na"], ["K", "Na", "Xe"]])
def test_a_system_without_a_compound_is_drawn_too(elements: list[str]) -> None:
    hull = diagram(elements, [Phase("K2Na", 0.2, "", True)])
    assert on_hull(hull) == [] and len(hull.facets) == 1


@pytest.mark.parametrize("number", [0, 200])
def test_an_impossible_element_has_its_row_all_the_same(number: int) -> None:
    frame = judged().frame.copy()
    frame.at[0, "atomic_numbers"] = np.array([number] * 4)
    [card] = crystal_list(results_of(CandidateTable(frame)), [(0, ())]).cards
    assert card.data == "" and card.no_picture.startswith("no picture: an atomic number")


# -- chances -------------------------------------------------------------------------------------


def test_the_reliability_diagram_has_the_judges_that_spoke() -> None:
    bins = curves()["chgnet"]
    assert sum(b["num"] for b in bins) > 5000 and len(bins) == 10
    assert all(0 <= b["within"] <= b["num"] for b in bins)
    off = [abs(b["mean_chance"] - b["within"] / b["num"]) for b in bins]
    assert max(off) < 0.1  # as docs/results.md has it: calibrated
    figure = reliability_figure(judged().frame)
    assert figure is not None
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels == ["by chgnet"]
    assert sum(p.get_height() for p in figure.axes[1].patches) == 1
    assert reliability_figure(candidates().frame) is None


# -- whole pages ---------------------------------------------------------------------------------


def test_the_page_of_an_evaluation_lists_its_crystals(tmp_path: Path) -> None:
    kept(tmp_path)
    judged().write(tmp_path / "crystals.parquet")
    entry = {"num": 1, "effective": 1.0, "interval": None}
    share = {"share": 0.0, "interval": [0.0, 0.5]}
    metrics = {
        "num_crystals": 3, "vsun": 1 / 3, "sun": 1 / 3, "citation": "how", "protocol": PROTOCOL,
        "judge": "chgnet 0.3.0", "hull": "known", "novelty_set": "known",
        "diversity": {
            "chemical_systems": entry, "space_groups": entry,
            "rare": share, "toxic": share, "radioactive": share,
        },
    }  # fmt: skip
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = read(write_evaluation(tmp_path))
    assert_self_contained(page)
    assert_references_resolve(page)
    assert {"crystals", "hulls", "reliability", "sources", "crystal-3"} <= set(page.values("id"))
    words = page.words()
    assert "by DFT: at most 0.1 eV/atom above the hull (p_stable), and on it (p_on_hull)" in words
    assert "80.0 %" in words and "30.0 % on the hull" in words
    assert "the file ends within a loop" in words and "not novel" in words and "BSD-3-Clause" in words


def test_a_run_with_its_hull_shows_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_entries(known_hull(), ["Cl-Na"], run / "hull.parquet")
    results = read_results(run)
    assert len(shortlist(results)) == 6
    page = read(write_report(run))
    assert_self_contained(page)
    assert_references_resolve(page)
    assert page.values("class").count("plot") == 3 + 6  # a figure for each crystal of the list
