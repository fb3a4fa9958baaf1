"""What ``screen --best`` writes, and that ``finetune`` takes it."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import TinyWorld
from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.nn.training import TrainSettings
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.screen import first_of, number_of_best


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_a_share_is_rounded_up(there: int, percent: int) -> None:
    assert number_of_best(f"{percent}%", there) == math.ceil(percent / 100 * there)
    assert number_of_best(percent, there) == min(percent, there)


@pytest.mark.parametrize("best", ["0", "-3", "0%", "101%", "few", "1.5", "%", "nan%"])
def test_what_is_no_number_is_refused(best: str) -> None:
    with pytest.raises(UsageError, match="give a number such as 500, or a share such as 1%"):
        number_of_best(best, 10)


def test_what_has_no_score_is_never_among_the_best() -> None:
    rows = pa.table({"id": ["a", "b", "c"], "score": pa.array([0.1, 0.2, None])})
    assert first_of(rows, 3)["id"].to_pylist() == ["a", "b"]
    assert first_of(rows, "50%")["id"].to_pylist() == ["a"]


def test_the_best_have_structures_and_can_be_learnt_from(
    tiny: TinyWorld, salts: Crystals, tmp_path: Path
) -> None:
    CandidateTable.from_crystals(salts, {"torn": "unreadable"}).write(tmp_path / "in.parquet")
    whole, best = tmp_path / "all.parquet", tmp_path / "best.parquet"
    api.screen(tmp_path / "in.parquet", tiny.reference, whole, by="composition")
    done = api.screen(tmp_path / "in.parquet", tiny.reference, best, by="composition", best="40%")
    first = pq.read_table(whole)["id"].to_pylist()[:3]
    table = CandidateTable.read(best)
    assert table.ids == first and done.num_rows == 3, "40 % of the 7 that have a score"
    assert table.crystals().select(first).content_hash() == salts.select(first).content_hash()
    few = TrainSettings(steps=2, batch_size=2, warmup=1, record_every=1, checkpoint_every=2)
    tuned = tmp_path / "tuned.safetensors"
    api.finetune(best, tuned, generator=tiny.generator, settings=few, device="cpu")
    assert tuned.stat().st_size > 1000
