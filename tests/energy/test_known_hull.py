"""The bundled data set ``known``: what it holds, and that being compact cost nothing."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.energy.known_hull import (
    NAME,
    SCALE,
    bundled_file,
    known_formulas,
    known_hull,
    lemat_systems,
)
from crysjepa.energy.load_hull import hull_or_default, load_hull, scale_of
from crysjepa.matching.reduction import reduce_crystal
from crysjepa.matching.uniqueness import novel

LIMIT = 9_000_000


def test_the_bundle_is_small_and_says_what_it_holds():
    files = list(bundled_file("known.parquet").parent.glob("*.parquet"))
    assert sum(f.stat().st_size for f in files) <= LIMIT
    lines = datasets.contents(NAME)
    assert len(lines) == 3
    assert "27,708 rows" in lines[0] and "of mpts52" in lines[0] and "scale materials_project" in lines[1]
    assert datasets.available()[0].name == NAME


def test_every_crystal_has_a_formula_in_the_list_and_a_name():
    table = datasets.load(NAME)
    assert len(table.ok_ids) == len(table) == datasets.info(NAME).num_rows
    assert all(i.startswith(("mp-", "mvc-")) for i in table.ids)
    formulas = known_formulas()
    assert set(reduced_formulas(table.crystals())) <= set(formulas)


def test_the_hull_is_the_lowest_of_what_the_file_has():
    table = pq.read_table(bundled_file("known_hull.parquet"))
    hull = known_hull()
    assert hull.scale == SCALE == scale_of(NAME)
    assert load_hull(NAME) is hull
    energies = table["formation_energy_per_atom"].to_numpy()
    heights = table["hull_energy_per_atom"].to_numpy()
    both = np.isfinite(energies) & np.isfinite(heights)
    assert (heights[both] <= energies[both] + 1e-6).all()
    assert (np.isfinite(heights) == np.isfinite(energies)).all()
    assert 40_000 < len(hull) < int(both.sum())  # elements are no compounds
    assert len(hull) == 40_784, "as README, the card and the registry say"


@pytest.mark.parametrize("system", [("Ba", "O", "Ti"), ("F", "Hf", "Sr"), ("Li", "O", "P", "Fe")])
def test_heights_are_those_of_a_phase_diagram(system):
    hull = known_hull()
    entries = [PDEntry(Composition(dict(c)), e) for c, e in hull.entries(system).items()]
    entries += [PDEntry(Composition(e), 0.0) for e in system]
    diagram = PhaseDiagram(entries)
    rng = np.random.default_rng(0)
    for _ in range(5):
        amounts = Composition(dict(zip(system, rng.integers(1, 6, len(system)).tolist(), strict=True)))
        expected = diagram.get_hull_energy_per_atom(amounts)
        assert hull.energy(amounts) == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
def test_what_was_left_out_as_a_duplicate_is_matched_by_what_was_kept():
    flla, kept = datasets.load("flla"), datasets.load(NAME)
    from_flla = [i for i, s in zip(kept.ids, kept.column("source"), strict=True) if s == "flla"]
    here = set(kept.ids)
    others = [i for i in flla.ok_ids if i not in here][:40]
    found = novel(flla.crystals(others), kept.crystals())
    assert others and from_flla
    assert all(match is not None for match in found.matches.values())


@pytest.mark.slow
def test_single_precision_moves_no_site_and_changes_no_verdict():
    """Against the lattices in double precision of the crystals that came from FLLA."""
    flla, table = datasets.load("flla"), datasets.load(NAME)
    ids = [i for i, s in zip(table.ids, table.column("source"), strict=True) if s == "flla"][::8]
    before, after = flla.crystals(ids), table.crystals(ids)
    assert len(ids) > 200
    starts = np.repeat(np.arange(len(ids)), before.num_atoms)
    moved = np.einsum("nj,njk->nk", before.frac_coords, before.lattices[starts]) - np.einsum(
        "nj,njk->nk", after.frac_coords, after.lattices[starts]
    )
    assert np.abs(moved).max() < 2e-6
    assert all(_same(one, other) for one, other in zip(before, after, strict=True))


def _same(one: Crystals, other: Crystals) -> bool:
    """Whether the matcher sees the same two crystals: reduced alike, and matched to within 1e-5."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    a, b = (reduce_crystal(c, primitive=True, ltol=0.2) for c in (one, other))
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    rms = StructureMatcher().get_rms_dist(one.to_structures()[0], other.to_structures()[0])
    return len(a) == len(b) and rms is not None and rms[0] < 1e-5


def test_lemat_knows_systems_of_which_the_hull_has_nothing():
    numbers = tuple(sorted(Element(e).Z for e in ("Hf", "F")))
    assert lemat_systems()[numbers] == 1
    assert not known_hull().entries(("Hf", "F"))
    assert len(lemat_systems()) == 61_216


def test_a_hull_for_everyone_who_forgets_one(salts):
    from crysjepa.core.candidates import CandidateTable

    table = CandidateTable.from_crystals(salts)
    assert hull_or_default(None, table, SCALE, "mine") is known_hull()
    deep = table.with_column("formation_energy_per_atom", dict.fromkeys(salts.ids, -5.0), "Float64")
    joined = hull_or_default(None, deep, SCALE, "mine")
    assert joined.source == "known + mine"
    assert joined.energy("NaCl") == pytest.approx(-5.0)
    assert joined.energy("BaTiO3") == known_hull().energy("BaTiO3")
    assert hull_or_default(None, deep, "another", "mine") is known_hull()  # never across scales


@pytest.mark.filterwarnings("ignore::crysjepa.runtime.notes.ReadNote")  # of energies before relaxation
def test_a_verb_that_needs_none_of_it_reads_none_of_it(tiny, tmp_path, monkeypatch):
    from crysjepa import api
    from crysjepa.relaxation.relax import RelaxSettings

    def refuse(name):
        raise AssertionError(f"{name} was read")

    for module in ("energy.known_hull", "datasets.named"):
        monkeypatch.setattr(f"crysjepa.{module}.bundled_file", refuse)
    for cached in (known_hull, known_formulas, lemat_systems):
        cached.cache_clear()
    settings = RelaxSettings(max_steps=1, chunk_size=8)
    field = tiny.protocol["force_field"]
    api.generate(2, tmp_path / "g.parquet", generator=tiny.generator, device="cpu")
    api.embed(tiny.reference, tmp_path / "e.parquet", jepa=tiny.jepa, device="cpu")
    api.screen(tiny.reference, "nothing", tmp_path / "s.parquet", by="random")
    api.relax(tiny.reference, tmp_path / "r.parquet", force_field=field, settings=settings)
