"""MatterGen's reference and Matbench Discovery's phase diagram: pickles inside, numbers outside."""

import gzip
import os
import pickle
from collections import Counter

import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram, PhaseDiagram
from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedEntry,
    ConstantEnergyAdjustment,
)
from test_json_files import check_against_pymatgen, known_entries

from crysjepa.datasets.importers.convert import DIAGRAM, LMDB, convert
from crysjepa.energy.hull import Hull
from crysjepa.io import read_crystals
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.files import file_metadata


class Harm:
    def __reduce__(self):
        return os.system, ("false",)


# -- LMDB ----------------------------------------------------------------------------------------------


def write_reference(path, entries, **more):
    """As mattergen's serializer is documented to: dictionaries under system.formula.number, and an index."""
    lmdb = pytest.importorskip("lmdb")
    plain = path.with_suffix("")
    counts = Counter()
    with lmdb.open(str(plain), subdir=False, map_size=1 << 24) as env, env.begin(write=True) as transaction:

        def put(key, value):
            transaction.put(key.encode("ascii"), pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))

        put("name", "MP2020correction")
        for entry in entries:
            stem = f"{entry.composition.chemical_system}.{entry.composition.reduced_formula}"
            put(f"{stem}.{counts[stem]}", entry.as_dict())
            counts[stem] += 1
        put("chemical_systems", sorted({stem.split(".")[0] for stem in counts}))
        for stem, number in counts.items():
            put(f"{stem}.length", number)
            put(f"{stem.split('.')[0]}.reduced_formulas", [stem.split(".")[1]])
        for key, value in more.items():
            put(key, value)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    plain.with_name(f"{plain.name}-lock").unlink()


def test_lmdb(tmp_path):
    path, out = tmp_path / "reference.gz", tmp_path / "x.parquet"
    write_reference(path, known_entries())
    steps = []
    convert(LMDB, [path], out, {"scale": "materials_project"}, progress=lambda *step: steps.append(step))
    check_against_pymatgen(out, known_entries())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reference.gz", "x.parquet"]
    assert steps[-1][1] == path.stat().st_size and len(Hull.read(out)) == 2


def test_a_bad_record_is_a_row_and_runs_nothing(tmp_path):
    path, out = tmp_path / "reference.gz", tmp_path / "x.parquet"
    entries = known_entries()
    del entries[-1]
    write_reference(path, entries, **{"Fe.Fe.0": Harm(), "Fe.Fe.1": 5, "Fe.Fe.2": {"energy": 1.0}})
    convert(LMDB, [path], out, {})
    table = read_crystals(out)
    assert table.counts() == {"ok": 5, "failed: read": 3}
    reasons = dict(zip(table.ids, table.column("reason"), strict=True))
    assert "posix.system" in reasons["Fe.Fe.0"] and reasons["Fe.Fe.1"] == "not a dictionary"


def test_another_file_in_gzip(tmp_path):
    pytest.importorskip("lmdb")
    path = tmp_path / "reference.gz"
    for data in (gzip.compress(b"<html>" * 2000), b"<html>", gzip.compress(os.urandom(9000))[:-50]):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=r"reference\.gz is damaged, or no LMDB in gzip"):
            convert(LMDB, [path], tmp_path / "x.parquet", {})
    assert [p.name for p in tmp_path.iterdir()] == ["reference.gz"]


# -- phase diagrams ------------------------------------------------------------------------------------


def entries_of_a_hull():
    oxide = CompositionEnergyAdjustment(-0.687, 3, name="oxide")
    return [
        ComputedEntry("Li", -1.9, entry_id="mp-1"),
        ComputedEntry("O2", -9.8, entry_id="mp-2"),
        ComputedEntry("Fe", -8.4, entry_id="mp-3"),
        ComputedEntry("Li2O", -14.0, energy_adjustments=[ConstantEnergyAdjustment(-0.7)], entry_id="mp-4"),
        ComputedEntry("Fe2O3", -37.0, energy_adjustments=[oxide], entry_id="mp-5"),
        ComputedEntry("Fe2O3", -36.0, entry_id="mp-6"),
    ]


@pytest.mark.parametrize("kind", [PatchedPhaseDiagram, PhaseDiagram])
def test_phase_diagram(kind, tmp_path):
    path, out = tmp_path / "ppd.pkl.gz", tmp_path / "x.parquet"
    diagram = kind(entries_of_a_hull())
    with gzip.open(path, "wb") as handle:
        pickle.dump(diagram, handle)
    convert(DIAGRAM, [path], out, {"scale": "materials_project"})
    rows = {row["id"]: row for row in pq.read_table(out).to_pylist()}
    whole = PhaseDiagram(entries_of_a_hull())
    for entry in whole.all_entries:
        row = rows[entry.entry_id]
        assert row["energy_per_atom"] == pytest.approx(entry.energy_per_atom, abs=1e-9)
        assert row["formation_energy_per_atom"] == pytest.approx(
            whole.get_form_energy_per_atom(entry), abs=1e-9
        )
    hull = Hull.read(out)
    assert hull.scale == "materials_project" and len(hull) == 2
    above = hull.e_above_hull("Fe2O3", rows["mp-6"]["formation_energy_per_atom"]).e_above_hull
    assert above == pytest.approx(whole.get_e_above_hull(entries_of_a_hull()[5]), abs=1e-6)
    assert file_metadata(out)["rows"] == 6 and file_metadata(out)["num_failed"] == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [(Harm(), r"posix\.system"), ({"a": 1}, "not a phase diagram"), ([1], "not a phase diagram")],
)
def test_another_pickle(value, message, tmp_path):
    path = tmp_path / "ppd.pkl.gz"
    with gzip.open(path, "wb") as handle:
        pickle.dump(value, handle)
    with pytest.raises(DatasetError, match=message):
        convert(DIAGRAM, [path], tmp_path / "x.parquet", {})
    assert [p.name for p in tmp_path.iterdir()] == ["ppd.pkl.gz"]
