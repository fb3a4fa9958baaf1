"""Chunk by chunk, every row is what the reader of whole files says it is."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.datasets.chunks import open_chunks
from crysjepa.io import ReadError, read_crystals, write_cif


def assert_same(chunks, whole, size):
    parts = list(chunks.of(size))
    assert len(chunks) == len(whole) and [len(p) for p in parts[:-1]] == [size] * (len(parts) - 1)
    for name in ("id", "status", "stage", "reason"):
        assert [v for p in parts for v in p.column(name)] == whole.column(name)
    ok = [p.crystals(p.ok_ids) for p in parts]
    together = whole.crystals(whole.ok_ids)
    np.testing.assert_array_equal(np.concatenate([c.frac_coords for c in ok]), together.frac_coords)
    np.testing.assert_array_equal(np.concatenate([c.atomic_numbers for c in ok]), together.atomic_numbers)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("group", [2, 1000])
def test_a_parquet_file_with_misfits_and_equal_ids(salts, tmp_path, size, group):
    names = ["a", "a#2", "a", "", "b", "a", "b"]
    rows = salts.to_arrow().to_pylist()
    rows = [row | {"id": name or None, "energy": 1.0} for row, name in zip(rows, names, strict=True)]
    rows[2]["lattice"] = None
    rows[4]["frac_coords"] = rows[4]["frac_coords"][:4]
    rows[5]["atomic_numbers"] = [19, 200]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    whole = read_crystals(path)
    assert len(set(whole.ids)) == 7 and "row-3" in whole.ids and len(whole.ok_ids) == 4
    assert_same(open_chunks(path), whole, size)


def test_a_written_table_keeps_its_state(salts, tmp_path):
    table = CandidateTable.from_crystals(salts).decide("novelty", {"NaCl": "known"}, Status.REJECTED)
    table.write(tmp_path / "t.parquet")
    assert_same(open_chunks(tmp_path / "t.parquet"), table, 3)


def test_other_formats_and_names(salts, tmp_path):
    write_cif(salts, tmp_path / "cifs")
    assert_same(open_chunks(tmp_path / "cifs"), read_crystals(tmp_path / "cifs"), 3)
    assert_same(open_chunks("flla"), datasets.load("flla"), 1500)


def test_what_is_no_crystal_says_so(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ReadError, match="no column id"):
        open_chunks(path)
    pq.write_table(pa.table({n: [1] for n in ("id", "atomic_numbers", "frac_coords", "lattice")}), path)
    with pytest.raises(ReadError, match="not lists"):
        list(open_chunks(path).of(5))
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(ReadError, match="not a Parquet file"):
        open_chunks(path)
    path.write_bytes(b"")
    assert [t.column("reason") for t in open_chunks(path).of(5)] == [["the file is empty"]]
    with pytest.raises(datasets.DatasetError, match="nowhere"):
        open_chunks("nowhere")
