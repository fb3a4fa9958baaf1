import pandas as pd
import pytest

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals


@pytest.fixture
def table(salts):
    return CandidateTable.from_crystals(salts, {"torn": "the file is empty"}, order=["torn", *salts.ids])


def test_every_row_has_one_state(table):
    assert len(table) == 8
    assert table.counts() == {"failed: read": 1, "ok": 7}
    assert table.column("reason", ["torn"]) == ["the file is empty"]


def test_the_first_decision_stands(table):
    once = table.decide("novelty", {"NaCl": "matches mp-1", "torn": "no"}, Status.REJECTED)
    twice = once.decide("stability", {"NaCl": "unstable", "KCl": "unstable"}, Status.REJECTED)
    assert twice.column("stage", ["NaCl", "KCl", "torn"]) == ["novelty", "stability", "read"]
    assert twice.column("reason", ["NaCl", "torn"]) == ["matches mp-1", "the file is empty"]
    assert len(table.ok_ids) == 7, "the old table is untouched"


def test_undecided_forgets_decisions_but_not_what_was_unreadable(table):
    fresh = table.decide("novelty", {"NaCl": "known"}, Status.REJECTED).undecided()
    assert fresh.counts() == {"failed: read": 1, "ok": 7}
    assert fresh.content_hash() == table.content_hash() != table.with_column("x", {}, "Int64").content_hash()


def test_a_table_is_the_same_however_pandas_keeps_its_strings(table):
    for storage in ("python", "pyarrow"):  # the latter's are Arrow's large strings
        strings = {n: pd.StringDtype(storage) for n in ("status", "stage", "reason")}
        other = CandidateTable(table.frame.astype(strings))
        assert other.content_hash() == table.content_hash()
        assert "large" not in str(other.to_arrow().schema.remove_metadata())


def test_columns_are_filled_by_id(table):
    scored = table.with_column("score", {"KCl": 1.5, "LiF": None}, "Float64")
    assert scored.column("score", ["KCl", "LiF", "NaCl"]) == [1.5, None, None]
    assert scored.with_column("score", {"LiF": 2.0}).column("score", ["KCl", "LiF"]) == [1.5, 2.0]
    with pytest.raises(KeyError, match="nobody"):
        table.with_column("score", {"nobody": 1.0}, "Float64")
    with pytest.raises(ValueError, match="decide"):
        table.with_column("status", {})


def test_round_trip_and_bytes(table, tmp_path):
    full = table.with_column("novel", {"KCl": True}, "boolean").with_column("n", {"KCl": 3}, "Int64")
    full.write(tmp_path / "a.parquet")
    again = CandidateTable.read(tmp_path / "a.parquet")
    again.write(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert again.column("novel") == full.column("novel")
    assert again.crystals().content_hash() == table.crystals().content_hash()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_structures_are_replaced_by_id(table, salts):
    moved = Crystals(
        salts.atomic_numbers[:2],
        salts.frac_coords[:2] + 0.1,
        salts.lattices[:1],
        salts.num_atoms[:1],
        ("NaCl",),
    )
    new = table.with_structures(moved)
    assert new.crystals(["NaCl"]).content_hash() == moved.content_hash()
    assert new.crystals(["KCl"]).content_hash() == table.crystals(["KCl"]).content_hash()
    with pytest.raises(ValueError, match="torn"):
        table.crystals(["torn"])


def test_equal_ids_are_refused(salts):
    with pytest.raises(ValueError, match="twice"):
        CandidateTable.from_crystals(salts.with_ids(["same"] * 7))


def test_joining_tables_with_different_columns(table, salts):
    other = CandidateTable.from_crystals(salts.with_ids([f"b-{i}" for i in range(7)]))
    both = CandidateTable.concatenate([table.with_column("x", {"KCl": 1.0}, "Float64"), other])
    assert len(both) == 15
    assert both.column("x", ["KCl", "b-0"]) == [1.0, None]


def test_nobody(tmp_path):
    none = CandidateTable.from_crystals(Crystals.empty())
    none.write(tmp_path / "none.parquet")
    assert len(CandidateTable.read(tmp_path / "none.parquet")) == 0


def test_only_some_rows_in_their_order(table):
    some = table.only(["KCl", "torn", "NaCl", "nobody"])
    assert some.ids == ["torn", "NaCl", "KCl"] and some.counts() == {"failed: read": 1, "ok": 2}
    assert len(table.only([])) == 0 and len(table) == 8
