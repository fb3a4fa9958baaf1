"""The part of a hull that is kept beside results is the hull itself there."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.energy.kept_hull import FILE, keep_hull
from crysjepa.energy.known_hull import known_hull


def salts() -> CandidateTable:
    lattice = Lattice.cubic(4)
    pairs = (["Na", "Cl"], ["Li", "O"], ["K", "Br"])
    crystals = Crystals.from_structures([Structure(lattice, p, [[0] * 3, [0.5] * 3]) for p in pairs])
    table = CandidateTable.from_crystals(crystals.with_ids(["a", "b", "c"]))
    return table.with_column("e_above_hull", {"a": 0.1, "b": 0.2}, "Float64")


def test_it_has_the_heights_and_ids_where_crystals_were_judged(tmp_path: Path) -> None:
    keep_hull(known_hull(), salts(), tmp_path)
    kept = Hull.read(tmp_path / FILE)
    assert kept.scale == known_hull().scale and kept.scale_stated and not kept.skipped
    for formula in ("NaCl", "Li2O", "LiO", "Na2Cl"):
        assert kept.energy(formula) == pytest.approx(known_hull().energy(formula), abs=1e-9)
    rows = {r["composition"]: r["id"] for r in pq.read_table(tmp_path / FILE).to_pylist()}
    assert rows["NaCl"] == "mp-22862"
    assert not any("K" in formula for formula in rows)  # c has no energy above hull


def test_it_may_be_empty(tmp_path: Path) -> None:
    keep_hull(known_hull(), CandidateTable.from_crystals(Crystals.empty()), tmp_path)
    assert pq.read_table(tmp_path / FILE).num_rows == 0
