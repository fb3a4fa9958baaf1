"""MPtrj and computed structure entries: cut out of JSON files that are never parsed as a whole."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import CompositionEnergyAdjustment, ComputedStructureEntry

from crysjepa.datasets.importers import json_files
from crysjepa.datasets.importers.convert import ENTRIES, MPTRJ, convert
from crysjepa.energy.hull import Hull
from crysjepa.io import read_crystals
from crysjepa.io.cif.blocks import ReadError
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.files import file_metadata

SALT = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def frame(structure, **values):
    known = {
        "structure": structure.as_dict(), "uncorrected_total_energy": -7.0, "corrected_total_energy": -8.0,
        "energy_per_atom": -4.0, "ef_per_atom": -2.2, "e_per_atom_relaxed": -4.1, "mp_id": "mp-1",
        "ef_per_atom_relaxed": -2.3, "force": [[0.0] * 3] * len(structure), "stress": [[0.1] * 3] * 3,
        "magmom": None, "bandgap": 5.0,
    }  # fmt: skip
    return {**known, **values}


# -- cutting -------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(alphabet='a"\\{}[],: é\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\{}', max_size=3), inner),
    max_leaves=6,
)
KEYS = st.text(alphabet='ab"\\{},:é', max_size=5)


@given(
    data=st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4),
    block=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_members_are_those_of_the_object(data, block, indent, ascii_only):
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only).encode()
    found = list(json_files.members(io.BytesIO(text), block))
    pairs = [(outer, json.loads(b"{" + member + b"}")) for outer, member in found]
    assert pairs == [(outer, {k: v}) for outer, inner in data.items() for k, v in inner.items()]


@pytest.mark.parametrize(
    "text", ['[{"a": 1}]', '{"a": 1, "b": 2}', '{"a": [1, 2]}', '{"a": {"b": 1}', '{"a": {"b']
)
def test_something_else_is_refused(text):
    with pytest.raises(ReadError):
        list(json_files.members(io.BytesIO(text.encode())))


# -- MPtrj ---------------------------------------------------------------------------------------------


def test_mptrj(tmp_path):
    data = {
        "mp-1": {
            "mp-1-0-0": frame(SALT),
            "mp-1-0-1": frame(SALT, ef_per_atom=None),
            "mp-1-1-0": {"structure": {"sites": []}},
        },
        "mp-2": {"mp-9-0-0": frame(SALT * (2, 2, 3)), "mp-9-0-1": frame(SALT * (2, 2, 2)), "mp-9-0-2": 7},
    }
    path = tmp_path / "MPtrj.json"
    path.write_text(json.dumps(data))
    out = tmp_path / "mptrj.parquet"
    convert(MPTRJ, [path], out, {"scale": "materials_project"}, max_sites=20)
    table = read_crystals(out)
    assert table.ids == ["mp-1-0-0", "mp-1-0-1", "mp-1-1-0", "mp-9-0-1", "mp-9-0-2"]
    assert table.counts() == {"ok": 3, "failed: read": 2}
    assert table.column("material_id") == ["mp-1", "mp-1", "mp-1", "mp-2", "mp-2"]
    assert table.column("formation_energy_per_atom") == [-2.2, None, None, -2.2, None]
    assert table.column("energy_per_atom")[0] == -4.0
    np.testing.assert_allclose(table.crystals(["mp-1-0-0"]).frac_coords, SALT.frac_coords)
    told = file_metadata(out)
    assert told["left_out"] == {"more than 20 sites": 1} and told["rows"] == 5
    assert any("not a structure" in reason for reason in told["failed"])


def test_a_file_that_was_cut_off(tmp_path):
    path = tmp_path / "MPtrj.json"
    path.write_text(json.dumps({"mp-1": {"mp-1-0-0": frame(SALT), "mp-1-0-1": frame(SALT)}})[:-200])
    with pytest.raises(DatasetError, match=r"MPtrj\.json is damaged.*ends before its last object"):
        convert(MPTRJ, [path], tmp_path / "x.parquet", {})
    assert [p.name for p in tmp_path.iterdir()] == ["MPtrj.json"]


# -- computed structure entries ------------------------------------------------------------------------


def known_entries():
    """Li, O, two of Li-O, one with a correction, and one of an element that has no entry."""
    cell = Lattice.cubic(4.0)

    def entry(name, species, energy, *adjustments):
        coords = [[i / len(species), 0, 0] for i in range(len(species))]
        structure = Structure(cell, species, coords)
        return ComputedStructureEntry(structure, energy, energy_adjustments=adjustments, entry_id=name)

    return [
        entry("mp-1", ["Li", "Li"], -3.8),
        entry("mp-2", ["Li"], -1.7),
        entry("mp-3", ["O", "O"], -9.8),
        entry("mp-4", ["Li", "Li", "O"], -14.0, CompositionEnergyAdjustment(-0.687, 1, name="oxide")),
        entry("mp-5", ["Li", "O"], -8.0),
        entry("mp-6", ["Cs", "O"], -7.0),
    ]


def check_against_pymatgen(path, entries):
    """Formation energies are those of pymatgen's phase diagram."""
    table = read_crystals(path)
    rows = dict(zip(table.ids, table.column("formation_energy_per_atom"), strict=True))
    diagram = PhaseDiagram([e for e in entries if "Cs" not in e.composition])
    for entry in diagram.all_entries:
        assert rows[entry.entry_id] == pytest.approx(diagram.get_form_energy_per_atom(entry), abs=1e-9)
    assert rows["mp-6"] is None and table.counts() == {"ok": 6}
    told = file_metadata(path)
    assert told["no_elemental_entry"] == {"Cs": 1}
    assert told["elements"] == pytest.approx({"Li": -1.9, "O": -4.9})


def test_entries_as_matbench_discovery_writes_them(tmp_path):
    entries = known_entries()
    frame = pd.DataFrame(entries, columns=["entry"])
    frame.index = pd.Index([e.entry_id for e in entries], name="material_id")
    path = tmp_path / "entries.json.gz"
    frame.reset_index().to_json(path, default_handler=lambda x: x.as_dict())
    out = tmp_path / "mp.parquet"
    convert(ENTRIES, [path], out, {"scale": "materials_project", "kind": "hull"})
    check_against_pymatgen(out, entries)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["entries.json.gz", "mp.parquet"]
    hull = Hull.read(out)
    assert hull.scale == "materials_project" and hull.scale_stated and len(hull) == 2
    assert list(hull.skipped) == ["mp-6"]


def test_bad_entries_keep_their_rows(tmp_path):
    good = json.loads(json.dumps(known_entries()[0].as_dict()))
    disordered = json.loads(json.dumps(good))
    disordered["structure"]["sites"][0]["species"] = [{"element": "Li", "occu": 0.5}]
    entries = [good, disordered | {"entry_id": "mp-7"}, {"energy": 1}, good | {"energy": "much"}, 5]
    path = tmp_path / "entries.json.gz"
    with gzip.open(path, "wt") as handle:
        json.dump({"material_id": {"0": "x"}, "entry": dict(enumerate(entries))}, handle)
    out = tmp_path / "mp.parquet"
    convert(ENTRIES, [path], out, {})
    table = read_crystals(out)
    assert table.ids == ["mp-1", "mp-7", "entry-2", "entry-3", "entry-4"]
    assert table.counts() == {"ok": 1, "failed: read": 4}
    assert table.column("reason")[1] == "a site is partially occupied"
    assert table.column("formation_energy_per_atom") == [0.0, None, None, None, None]
