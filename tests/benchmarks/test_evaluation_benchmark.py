"""The evaluation benchmark on a few bundled crystals: what it counts, and that a difference is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from judging.hulls import compare_hulls
from judging.matching import compare_matching, plain_loop

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from evaluation import page, run

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    frame = datasets.load("flla").frame
    return frame[[len(z) <= 6 for z in frame["atomic_numbers"]]].reset_index(drop=True)


def test_the_whole_page(small: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    columns = ["id", "atomic_numbers", "frac_coords", "lattice"]

    def write(part: pd.DataFrame, name: str) -> None:
        part[columns].astype({"id": object}).to_parquet(tmp_path / name)

    write(small.iloc[:40], "mp20_bt.parquet")
    write(small.iloc[30:60], "mpts52.parquet")  # ten ids stand in both, as some do in the real files
    write(small.iloc[60:70], "wbm_dev.parquet")
    write(pd.concat([small.iloc[5:15], small.iloc[70:75]]), "peers/diffcsp_mp20_first2000.parquet")
    table = datasets.load("flla")
    hull = pd.DataFrame(
        {
            "composition": table.crystals(list(small["id"][:80])).reduced_formulas(),
            "formation_energy_per_atom": small["formation_energy_per_atom"][:80].astype(float),
        }
    )
    hull.to_parquet(tmp_path / "mp20_hull.parquet")
    result = run(tmp_path, num=15, compositions=40, diagrams=30, prints=3)
    assert result["matching"]["num_differ"] == 0 and result["matching"]["num_crystals"] == 15
    assert result["matching"]["num_novel"] < 15 and result["matching"]["plain_fits"] > 0
    assert result["hull"]["differ"] == [] and result["hull"]["num_diagrams"] == 30
    text = page(result)
    assert "15 crystals, 70 known" in text and "30 of 40 compositions" in text


def test_a_difference_is_seen(small: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the loop's answer to one crystal turned round, the benchmark names that crystal."""
    crystals = datasets.load("flla").crystals(list(small["id"][:6]))
    honest = plain_loop(crystals, crystals)
    assert set(honest.novel.values()) == set(crystals.ids), "each is the first that matches itself"
    victim = crystals.ids[2]
    honest.novel[victim] = None
    monkeypatch.setattr("judging.matching.plain_loop", lambda *_: honest)
    found = compare_matching(crystals, crystals, repeats=1)
    assert found["novel_differ"] == [victim] and found["unique_differ"] == []


def test_heights_are_those_of_a_diagram() -> None:
    hull = Hull.from_entries(["NaCl", "Na2Cl"], [-2.0, -1.0], scale="s", source="test")
    crystals = Crystals(
        [11, 17, 11, 11, 11, 17, 19], np.random.default_rng(0).uniform(size=(7, 3)),
        np.tile(5 * np.eye(3), (3, 1, 1)), [2, 4, 1], ("NaCl", "Na3Cl", "K"),
    )  # fmt: skip
    found = compare_hulls(crystals, hull, diagrams=3)
    assert found["differ"] == [] and found["largest_difference"] < 1e-9 and found["num_diagrams"] == 3
