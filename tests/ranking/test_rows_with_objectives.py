"""Rankings in which objectives are weighed with stability: order, columns, and what has no value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from plain_crystals import Told, table_of_formulas

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.energy.hull import Hull
from crysjepa.energy.support import HullSupport
from crysjepa.properties.aims import JUDGED, Aims
from crysjepa.ranking.base import chances_of
from crysjepa.ranking.rows import rank_shards, ranked_schema, score_chunks, score_table

SCORES = {"Cu": 0.02, "Fe": 0.05, "Al": 0.0, "Au": -0.02, "Zn": 0.3, "Es": -0.05, "Pb": None, "Mg": -0.9}
"""eV/atom above the hull. Es has no price; Pb could not be scored; Mg lies further below than any should."""


@pytest.fixture
def table() -> CandidateTable:
    """Elements by their symbols, and one that was decided before."""
    made = table_of_formulas(*SCORES, "Ag")
    return made.decide("novelty", {"Ag": "known"}, Status.REJECTED)


def aims_of(*texts: str, combine: str = "product") -> Aims:
    found = Aims.parse(texts, combine)
    assert found is not None
    return found


def ranked(table: CandidateTable, aims: Aims | None, folder: Path, *, size: int = 3) -> pa.Table:
    parts = [
        CandidateTable(table.frame.iloc[start : start + size].reset_index(drop=True))
        for start in range(0, len(table), size)
    ]
    support = HullSupport(Hull.from_entries(["MgO"], [-3.0], scale="s", source="h"), {})
    return rank_shards(score_chunks(parts, Told(SCORES), folder / "shards", support=support, aims=aims), aims)


def test_higher_merit_comes_first_and_what_has_none_after(table: CandidateTable, tmp_path: Path) -> None:
    rows = ranked(table, aims_of("min:price"), tmp_path).to_pylist()
    ids = [r["id"] for r in rows]
    merits = [r["merit"] for r in rows if r["merit"] is not None]
    assert merits == sorted(merits, reverse=True) and len(merits) == 6
    assert ids[6:] == ["Es", "Pb", "Ag"], "no price, no score, and not to be ranked"
    assert [r["rank"] for r in rows] == [*range(1, 9), None]
    by_id = {r["id"]: r for r in rows}
    assert "price of Es is not known" in by_id["Es"]["objective_reason"]
    assert by_id["Es"]["status"] == "ok" and by_id["Es"]["score"] == SCORES["Es"]
    assert by_id["Pb"]["status"] == "failed" and by_id["Pb"]["price"] is None
    assert by_id["Ag"]["price"] is None and by_id["Ag"]["objective_reason"] is None
    assert ids.index("Au") > ids.index("Cu"), "it is more stable, and dear"


def test_merit_is_worth_times_chance(table: CandidateTable, tmp_path: Path) -> None:
    """What lies too far below the hull is credited no more than what lies a little above."""
    rows = ranked(table, aims_of("density>=5"), tmp_path).to_pylist()
    for row in rows:
        if row["merit"] is None:
            continue
        score = 0.05 if row["hull_warning"] else row["score"]
        expected = float(chances_of(np.array([score]))[0])
        assert row["merit"] == pytest.approx(row["worth"] * expected)
        assert row["meets_targets"] == (row["density"] >= 5)
    meets = [r["meets_targets"] for r in rows if r["merit"] is not None and r["score"] < 0.2]
    assert meets == sorted(meets, reverse=True) and True in meets and False in meets


def test_with_pareto_the_front_comes_first(table: CandidateTable, tmp_path: Path) -> None:
    product = ranked(table, aims_of("min:price", "max:density"), tmp_path / "a")
    pareto = ranked(table, aims_of("min:price", "max:density", combine="pareto"), tmp_path / "b")
    on = pareto["on_front"].to_pylist()
    num = on.count(True)
    assert 0 < num < 6 and on[:num] == [True] * num
    for part in (pareto.slice(0, num), pareto.slice(num)):
        merits = [m for m in part["merit"].to_pylist() if m is not None]
        assert merits == sorted(merits, reverse=True)
    assert pareto["id"].to_pylist()[-3:] == ["Es", "Pb", "Ag"]
    same = [sorted(t.drop_columns(["rank"]).to_pylist(), key=lambda r: r["id"]) for t in (product, pareto)]
    assert same[0] == same[1], "only the order is another"
    assert product["on_front"].to_pylist() != on


@pytest.mark.parametrize("texts", [(), ("min:price",), ("bulk_modulus>=5",), ("density>=5", "min:density")])
def test_columns_are_those_of_the_schema(texts: tuple[str, ...]) -> None:
    aims = Aims.parse(texts)
    rows = rank_shards([], aims)
    assert rows.schema.equals(ranked_schema(aims)) and not rows.num_rows
    assert ("bulk_modulus_error" in rows.column_names) == ("bulk_modulus>=5" in texts)
    assert set(JUDGED) <= set(rows.column_names) or aims is None


def test_no_two_columns_have_a_name(table: CandidateTable, tmp_path: Path) -> None:
    aims = aims_of("density>=5", "min:density", "max:capacity:Mg")
    rows = ranked(table, aims, tmp_path)
    assert rows.schema.equals(ranked_schema(aims))
    assert len(set(rows.column_names)) == len(rows.column_names)
    assert {"density", "capacity_Mg"} <= set(rows.column_names)


def test_how_many_are_scored_at_once_does_not_matter(table: CandidateTable, tmp_path: Path) -> None:
    """Places among all crystals are given when all have been scored."""
    aims = aims_of("min:price", "max:density")
    few, many = (ranked(table, aims, tmp_path / str(size), size=size) for size in (1, 9))
    assert few.equals(many)


def test_what_all_miss_alike_leaves_the_order_by_score(tmp_path: Path) -> None:
    table = table_of_formulas("Zn", "Al", "Au", "Cu", "Fe")
    rows = ranked(table, aims_of("mass_fraction:O>=0.5"), tmp_path).to_pylist()
    assert [r["id"] for r in rows] == ["Au", "Al", "Cu", "Fe", "Zn"]
    assert all(r["meets_targets"] is False and 0 < r["worth"] < 1e-3 for r in rows)


def test_without_objectives_nothing_is_measured(table: CandidateTable, tmp_path: Path) -> None:
    rows = ranked(table, None, tmp_path)
    assert rows.schema.equals(ranked_schema())
    assert rows["id"].to_pylist()[:4] == ["Es", "Au", "Al", "Cu"]
    one = score_table(table, Told(SCORES))
    assert "merit" not in one.column_names and "placed" in one.column_names


def test_other_properties_are_other_shards(table: CandidateTable, tmp_path: Path) -> None:
    """A run that goes on with another objective takes none of the old values."""
    first = ranked(table, aims_of("min:price"), tmp_path)
    second = ranked(table, aims_of("min:density"), tmp_path)
    assert "price" in first.column_names and "price" not in second.column_names
    assert None not in second["density"].to_pylist()[:7]
    assert ranked(table, aims_of("price<=5"), tmp_path).num_rows == len(table)
