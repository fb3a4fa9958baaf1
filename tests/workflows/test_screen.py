"""The verbs screen and embed on files: nothing lost, the same bytes after a stop, any number of chunks."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from crysjepa import api
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.ranking import registry
from crysjepa.ranking.base import ranks
from crysjepa.ranking.registry import RANKERS
from crysjepa.workflows import embed as embedding
from crysjepa.workflows import screen

COLUMNS = ["id", "score", "rank", "status", "reason", "num_references", "support_distance"]
COLUMNS += ["hull_support", "hull_warning"]


def small_chunks(monkeypatch, name, size):
    """The ranker of this name, with chunks of this size."""
    info = RANKERS[name]

    def make(context):
        return replace(info.make(context), chunk_size=size)

    monkeypatch.setitem(registry.RANKERS, name, replace(info, make=make))


@pytest.fixture
def candidates(salts, tmp_path):
    """Misfits among salts: two on one spot, a speck, no structure, an element too many, decided before."""
    spot = Crystals(np.array([11, 17]), np.zeros((2, 3)), 5 * np.eye(3)[None], np.array([2]), ("spot",))
    cells = np.stack([0.2 * np.eye(3), 4 * np.eye(3), 2.8 * np.eye(3)])
    more = Crystals(
        np.array([3, 110, 78]), np.zeros((3, 3)), cells, np.array([1, 1, 1]), ("speck", "heavy", "Pt")
    )
    crystals = Crystals.concatenate([spot, salts[:4], more, salts[4:]])
    table = CandidateTable.from_crystals(crystals, {"lost": "unreadable"})
    table = table.decide("novelty", {"KBr": "known"}, Status.REJECTED)
    table.write(tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def screened(candidates, tiny, out, by="jepa-hull"):
    done = api.screen(candidates, tiny.reference, out, by=by, jepa=tiny.jepa, device="cpu")
    return done, pq.read_table(out)


@pytest.mark.parametrize("by", ["jepa-hull", "jepa-distance", "composition", "random"])
def test_every_row_is_there_with_its_state(candidates, tiny, tmp_path, by):
    done, table = screened(candidates, tiny, tmp_path / "out.parquet", by)
    assert table.column_names == COLUMNS and table.num_rows == 12 == done.num_rows
    rows = {r["id"]: r for r in table.to_pylist()}
    assert rows["lost"]["reason"] == "unreadable" and rows["lost"]["status"] == "failed"
    assert (rows["KBr"]["status"], rows["KBr"]["reason"]) == ("rejected", "known")
    for id_, word in (("spot", "distance"), ("speck", "volume")):
        assert rows[id_]["status"] == "rejected" and word in rows[id_]["reason"]
    for row in rows.values():
        assert (row["status"] == "ok") == (row["score"] is not None) == (row["reason"] is None)
    placed = [r["rank"] for r in table.to_pylist() if r["rank"] is not None]
    assert placed == list(range(1, len(placed) + 1))
    assert [r["id"] for r in table.to_pylist()][-4:] == ["KBr", "lost", "speck", "spot"]
    if by.startswith("jepa"):
        assert "110" in rows["heavy"]["reason"] and rows["heavy"]["rank"] == len(placed)
        assert rows["NaCl"]["num_references"] == 1
        assert rows["NaCl"]["support_distance"] == pytest.approx(0, abs=1e-3)
        assert (rows["Pt"]["score"] is None) == (by == "jepa-distance")
        assert rows["Pt"]["num_references"] == 0 and rows["Pt"]["support_distance"] is None
    assert done.counts() == {
        s: sum(r["status"] == s for r in rows.values()) for s in {r["status"] for r in rows.values()}
    }
    assert done.head(3) == table.slice(0, 3).to_pylist()
    about = json.loads(table.schema.metadata[b"crysjepa"])
    assert about["ranker"] == by and ("scale" in about) == (by in ("jepa-hull", "composition"))


def test_ranks_are_those_of_the_scores(candidates, tiny, tmp_path):
    _, table = screened(candidates, tiny, tmp_path / "out.parquet", "random")
    rows = {r["id"]: r for r in table.to_pylist() if r["rank"] is not None}
    scores = (
        RANKERS["random"]
        .make(registry.RankerContext(Crystals.empty()))
        .score(CandidateTable.read(candidates).crystals(sorted(rows)))
    )
    assert {i: r["rank"] for i, r in rows.items()} == ranks(scores)


def test_chunks_change_nothing(candidates, tiny, tmp_path, monkeypatch):
    _, whole = screened(candidates, tiny, tmp_path / "a.parquet")
    small_chunks(monkeypatch, "jepa-hull", 3)
    _, parts = screened(candidates, tiny, tmp_path / "b.parquet")
    assert whole["id"] == parts["id"] and whole["reason"] == parts["reason"]
    for name in ("score", "support_distance"):
        one, other = (np.array(t[name].to_pylist(), dtype=float) for t in (whole, parts))
        np.testing.assert_allclose(one, other, atol=1e-3 if name != "score" else 1e-5)


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes(candidates, tiny, tmp_path, monkeypatch):
    small_chunks(monkeypatch, "jepa-hull", 3)
    screened(candidates, tiny, tmp_path / "whole.parquet")

    def stop(stage, done, total):
        assert total == 12 or "reference" in stage
        if stage.startswith("screen") and done >= 6:
            raise Stopped

    out = tmp_path / "out.parquet"
    with pytest.raises(Stopped):
        api.screen(
            candidates, tiny.reference, out, by="jepa-hull", jepa=tiny.jepa, device="cpu", progress=stop
        )
    shards = tmp_path / "out.parquet.shards"
    first = sorted(shards.iterdir())
    assert len(first) == 2 and not out.exists()
    first[0].write_bytes(first[0].read_bytes()[:50])  # as if the machine had lost power
    seen = {p: p.stat().st_mtime_ns for p in first}
    scored = []
    score = screen.score_chunks

    def spy(*args, **kwargs):
        paths = score(*args, **kwargs)
        scored.extend(p for p in paths if seen.get(p) != p.stat().st_mtime_ns)
        return paths

    monkeypatch.setattr(screen, "score_chunks", spy)
    screened(candidates, tiny, out)
    assert len(scored) == 3 and first[1] not in scored, "only what was not there is scored"
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes() and not shards.exists()


def test_shards_of_another_ranker_are_not_taken(candidates, tiny, tmp_path):
    def stop(stage, done, total):
        if stage.startswith("screen"):
            raise Stopped

    out = tmp_path / "out.parquet"
    with pytest.raises(Stopped):
        api.screen(candidates, tiny.reference, out, by="random", device="cpu", progress=stop)
    _, table = screened(candidates, tiny, out)
    _, plain = screened(candidates, tiny, tmp_path / "plain.parquet")
    assert table.equals(plain)


def test_the_index_is_kept_where_it_is_asked_for(candidates, tiny, tmp_path):
    index = tmp_path / "mine.arrow"
    for out in ("a", "b"):
        api.screen(
            candidates,
            tiny.reference,
            tmp_path / f"{out}.parquet",
            by="jepa-hull",
            jepa=tiny.jepa,
            index=index,
            device="cpu",
        )
    assert index.exists() and (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_hull_of_its_own(candidates, tiny, tmp_path):
    deep = CandidateTable.read(tiny.reference)
    energies = {i: -5.0 for i in deep.ids}
    deep.with_column("formation_energy_per_atom", energies, "Float64").write(tmp_path / "deep.parquet")
    tables = [
        api.screen(
            candidates,
            tiny.reference,
            tmp_path / "o.parquet",
            by="jepa-hull",
            jepa=tiny.jepa,
            hull=h,
            device="cpu",
            overwrite=True,
        ).head(20)
        for h in (tiny.reference, tmp_path / "deep.parquet")
    ]
    first, second = ({r["id"]: r["score"] for r in t} for t in tables)
    assert second["NaCl"] - first["NaCl"] == pytest.approx(5 - 2.1) and first["Pt"] == second["Pt"]
    bare = tmp_path / "bare.parquet"
    CandidateTable.from_crystals(deep.crystals()).write(bare)
    by_known = [
        {r["id"]: r["score"] for r in api.screen(
            candidates, reference, tmp_path / "o.parquet", by="jepa-hull", jepa=tiny.jepa, hull=h,
            device="cpu", overwrite=True,
        ).head(20)}
        for reference, h in ((bare, None), (bare, "known"))
    ]  # fmt: skip
    assert by_known[0] == by_known[1], "a reference without energies is judged by the bundled hull"


def test_few_candidates_are_scored_as_many_are(candidates, tiny, tmp_path, monkeypatch):
    """Of a few, only the known crystals of their chemical systems are embedded."""
    for by in ("jepa-hull", "jepa-distance"):
        few = screened(candidates, tiny, tmp_path / f"few-{by}.parquet", by)[1]
        monkeypatch.setattr(screen, "FEW", 0)
        many = screened(candidates, tiny, tmp_path / f"many-{by}.parquet", by)[1]
        monkeypatch.undo()
        assert few.equals(many)


def test_what_lies_too_far_below_the_hull_does_not_head_the_list(tiny, salts, tmp_path):
    CandidateTable.from_crystals(salts).write(tmp_path / "in.parquet")
    shallow = CandidateTable.read(tiny.reference)
    energies = {i: -5.0 if i in ("NaCl", "KCl") else -0.1 for i in shallow.ids}
    shallow.with_column("formation_energy_per_atom", energies, "Float64").write(tmp_path / "hull.parquet")
    done = api.screen(
        tmp_path / "in.parquet", tiny.reference, tmp_path / "o.parquet", hull=tmp_path / "hull.parquet",
        jepa=tiny.jepa, device="cpu",
    )  # fmt: skip
    rows = done.head(10)
    assert {r["id"] for r in rows if r["hull_warning"]} == set(salts.ids) - {"NaCl", "KCl"}
    assert rows[0]["hull_warning"] is None, "the best of those without a warning stands first"
    assert all("below the hull" in r["hull_warning"] for r in rows[1:6])
    assert {r["hull_support"] for r in rows} <= {"supported", "thin", "blind"}
    assert [r["id"] for r in rows[1:6]] == sorted(r["id"] for r in rows[1:6]), "they tie, however deep"


def test_embed_in_parts(candidates, tiny, tmp_path, monkeypatch):
    api.embed(candidates, tmp_path / "a.parquet", jepa=tiny.jepa, device="cpu")
    monkeypatch.setattr(embedding, "EMBEDDED_AT_ONCE", 5)
    done = api.embed(candidates, tmp_path / "b.parquet", jepa=tiny.jepa, device="cpu")
    one, other = (pq.read_table(tmp_path / f"{n}.parquet") for n in "ab")
    assert one.column_names == ["id", "embedding", "status", "reason"]
    assert one["id"].to_pylist() == CandidateTable.read(candidates).ids == other["id"].to_pylist()
    assert (
        one["reason"] == other["reason"]
        and "110" in dict(zip(one["id"].to_pylist(), one["reason"].to_pylist(), strict=True))["heavy"]
    )
    for a, b in zip(one["embedding"].to_pylist(), other["embedding"].to_pylist(), strict=True):
        assert (a is None) == (b is None)
        assert a is None or b == pytest.approx(a, abs=1e-4)
    assert done.counts() == {
        "ok": 7,
        "failed: read": 1,
        "failed: embed": 1,
        "rejected: novelty": 1,
        "rejected: validity": 2,
    }


@pytest.mark.slow
def test_the_script_for_a_million(tiny, tmp_path):
    """With a few: it makes candidates, screens them in a process of its own, and tells."""
    script = screen.Path(__file__).parents[2] / "benchmarks" / "screen_million.py"
    command = [
        sys.executable,
        str(script),
        "--num",
        "60",
        "--jepa",
        str(tiny.jepa),
        "--folder",
        str(tmp_path),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 rows in" in done.stdout and "MB at most" in done.stdout
    assert pq.read_metadata(tmp_path / "ranked.parquet").num_rows == 60
