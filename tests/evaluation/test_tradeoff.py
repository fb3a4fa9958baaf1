"""Distances of appendix D.4 and cumulative curves, against a plain computation."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.tradeoff import (
    distances_between,
    fingerprint_distances,
    nearest_squares,
    tradeoff_curves,
)
from crysjepa.ranking.embedders import Embedded
from crysjepa.ranking.fingerprints.cache import fingerprints
from crysjepa.ranking.fingerprints.ranker import COMPOSITION, STRUCTURE
from crysjepa.report.tradeoff import write_tradeoff
from crysjepa.runtime.files import write_json

matminer = importlib.util.find_spec("matminer")


def flags(count: int) -> CandidateTable:
    """Crystals without structures: novelty rises with the distance, stability falls."""
    table = CandidateTable.from_crystals(Crystals.empty(), {f"c-{i}": "unread" for i in range(count)})
    ids = table.ids
    table = table.with_column("d", {i: float(k) for k, i in enumerate(ids)}, "Float64")
    novel = {i: k >= count // 2 for k, i in enumerate(ids)}
    stable = {i: k < count // 4 * 3 for k, i in enumerate(ids)}
    for name, values in (("novel", novel), ("stable", stable), ("unique", dict.fromkeys(ids, True))):
        table = table.with_column(name, values, "boolean")
    return table


def test_curves_are_cumulative_and_do_not_depend_on_rows() -> None:
    table = flags(40)
    found = tradeoff_curves(table, "d", percentiles=[25, 50, 75, 100])
    assert found["num"] == [10, 20, 30, 40] and found["distances"] == [9.0, 19.0, 29.0, 39.0]
    assert found["rates"]["novel"] == pytest.approx([0, 0, 10 / 30, 20 / 40])
    assert found["rates"]["stable"] == pytest.approx([1, 1, 1, 30 / 40])
    assert found["rates"]["sun"] == pytest.approx([0, 0, 10 / 30, 10 / 40])
    assert "vsun" not in found["rates"], "validity was not judged"
    for name, pairs in found["intervals"].items():
        assert all(low <= rate <= high for (low, high), rate in zip(pairs, found["rates"][name], strict=True))
    turned = CandidateTable(table.frame.iloc[::-1].reset_index(drop=True))
    assert tradeoff_curves(turned, "d", percentiles=[25, 50, 75, 100]) == found


@pytest.mark.parametrize(
    ("column", "protocol", "says", "never"),
    [
        ("e_above_hull", {}, "with the lowest e_above_hull", "nearest|farthest|distance from"),
        ("score", {"ranker": "jepa-hull"}, "with the lowest score by jepa-hull", "nearest|farthest"),
        ("score", {"ranker": "jepa-distance"}, "nearest to known ones (score by jepa-distance)", "lowest"),
        ("fingerprint_distance", {}, "nearest to known ones (fingerprint distance)", "lowest|highest"),
    ],
)
def test_the_page_speaks_of_what_the_crystals_are_ordered_by(
    column: str, protocol: dict[str, str], says: str, never: str, tmp_path: Path
) -> None:
    table = flags(8)
    values = {i: float(k) for k, i in enumerate(table.ids)} | {table.ids[0]: None}
    for name in (column, "e_above_hull"):
        table = table.with_column(name, values, "Float64")
    content = {"curves": tradeoff_curves(table, column), "notes": [], "protocol": protocol, "versions": {}}
    write_json(tmp_path / "tradeoff.json", content)
    html = write_tradeoff(tmp_path, table).read_text().partition("<body>")[2]
    assert says in html and f"crystals {says}, % of those" in html
    assert not re.search(never, html.replace("as over those of the distance in Fig.", ""))
    assert "1 of 8 crystals have no" in html


def test_crystals_without_a_distance_are_counted() -> None:
    table = flags(4).with_column("d", {"c-0": None, "c-1": None}, "Float64")
    found = tradeoff_curves(table, "d", percentiles=[1, 100])
    assert (found["num"], found["without_distance"], found["num_crystals"]) == ([1, 2], 2, 4)
    empty = table.with_column("d", {i: None for i in table.ids}, "Float64")
    with pytest.raises(ValueError, match="no crystal has a number"):
        tradeoff_curves(empty, "d")


def test_nearest_squares_against_every_pair() -> None:
    rng = np.random.default_rng(0)
    candidates, reference = rng.normal(size=(30, 5)), rng.normal(size=(17, 5)) * 100
    reference[3] = candidates[7]
    plain = ((candidates[:, None] - reference[None]) ** 2).sum(axis=-1).min(axis=1)
    found = nearest_squares(candidates, reference)
    assert found == pytest.approx(plain) and found[7] == 0.0


def test_the_distance_is_that_of_the_appendix() -> None:
    """D.4.2 written out, for random fingerprints."""
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.1, 50, STRUCTURE + COMPOSITION)
    own, known = (rng.normal(3, scale, (n, STRUCTURE + COMPOSITION)).astype(np.float32) for n in (6, 20))
    known[:, -1] = own[:, -1] = 4.0  # a value that never varies
    crystals = Crystals(np.full(7, 3), np.zeros((7, 3)), np.tile(np.eye(3) * 3, (7, 1, 1)), np.ones(7),
                        tuple(f"c-{i}" for i in range(7)))  # fmt: skip
    rows = np.array([0, 1, 2, 3, 5, 6])
    found = distances_between(
        crystals, Embedded(rows, own, {4: "CrystalNN fails"}), Embedded(np.arange(20), known, {})
    )
    assert found.ids == ("c-0", "c-1", "c-2", "c-3", "c-5", "c-6") and found.failures == {
        "c-4": "CrystalNN fails"
    }
    plain = known.astype(np.float64)
    mean, spread = plain[:, STRUCTURE:].mean(axis=0), plain[:, STRUCTURE:].std(axis=0)
    magpie = [(v[:, STRUCTURE:-1].astype(float) - mean[:-1]) / spread[:-1] for v in (own, known)]
    sites = [v[:, :STRUCTURE].astype(float) for v in (own, known)]
    parts = [((a[:, None] - b[None]) ** 2).sum(axis=-1).min(axis=1) for a, b in (sites, magpie)]
    assert found.structure == pytest.approx(parts[0]) and found.composition == pytest.approx(parts[1])
    assert found.total == pytest.approx(parts[0] / parts[0].max() + parts[1] / parts[1].max())


# -- the cache -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Volumes:
    """An embedder of one value; slow for lithium, without one for helium."""

    slow: float = 0.0
    seen: Callable[[str], None] | None = None

    @property
    def content_hash(self) -> str:
        return "volumes"

    def embed(self, crystals: Crystals, progress: object = None) -> Embedded:
        (number,) = crystals.atomic_numbers.tolist()
        if self.seen:
            self.seen(crystals.ids[0])
        if number == 3:
            deadline = time.monotonic() + self.slow
            while time.monotonic() < deadline:
                pass
        if number == 2:
            return Embedded(np.zeros(0, dtype=np.int64), np.zeros((0, 1), np.float32), {0: "helium has none"})
        return Embedded(np.array([0]), crystals.volumes[:, None].astype(np.float32), {})


def singles(numbers: list[int]) -> Crystals:
    count = len(numbers)
    cells = np.eye(3) * np.arange(1, count + 1)[:, None, None]
    return Crystals(
        numbers, np.zeros((count, 3)), cells, np.ones(count), tuple(f"c-{i}" for i in range(count))
    )


def test_fingerprints_are_computed_once_and_lose_nothing(tmp_path: Path) -> None:
    seen: list[str] = []
    crystals = singles([11, 2, 19])
    first = fingerprints(Volumes(seen=seen.append), crystals, tmp_path)
    assert first.rows.tolist() == [0, 2] and first.vectors[:, 0] == pytest.approx([1, 27])
    assert first.failures == {1: "helium has none"}
    again = fingerprints(Volumes(seen=seen.append), crystals, tmp_path)
    assert seen == ["c-0", "c-1", "c-2"], "the second time nothing is computed"
    assert again.failures == first.failures and (again.vectors == first.vectors).all()


def test_a_crystal_that_takes_too_long_has_a_reason_and_another_chance(tmp_path: Path) -> None:
    crystals = singles([11, 3, 19])
    late = fingerprints(Volumes(slow=60.0), crystals, tmp_path, seconds=0.2)
    assert late.rows.tolist() == [0, 2] and late.failures == {1: "no fingerprint within 0.2 s"}
    better = fingerprints(Volumes(), crystals, tmp_path, seconds=60.0)
    assert better.rows.tolist() == [0, 1, 2]


@pytest.mark.skipif(matminer is not None, reason="matminer is installed")
def test_without_matminer_the_extra_is_named(salts: Crystals, tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"crysjepa\[fingerprints\]"):
        fingerprint_distances(salts, salts, tmp_path)


@pytest.mark.skipif(matminer is None, reason="matminer is not installed")
def test_a_known_crystal_is_at_distance_0(salts: Crystals, tmp_path: Path) -> None:
    found = fingerprint_distances(salts, salts.select(["NaCl", "KCl"]), tmp_path)
    total = dict(zip(found.ids, found.total, strict=True))
    assert total["NaCl"] == 0.0 and max(total.values()) <= 2.0 and total["SrTiO3"] > total["KBr"]
