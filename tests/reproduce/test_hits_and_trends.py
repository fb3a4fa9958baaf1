"""Hits by hand, and trends along a distance, on a few salts."""

from __future__ import annotations

import dataclasses
import importlib
import sys

import numpy as np
import pytest

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.protocol import Protocol
from crysjepa.runtime.files import read_json


@pytest.fixture
def experiment():
    return importlib.import_module


@pytest.mark.filterwarnings("ignore")  # CHGNet's optimiser as its documentation has it, warnings and all
def test_by_hand_relaxes_what_it_can_and_says_what_it_cannot(experiment, salts, tmp_path):
    heavy = dataclasses.replace(salts[:1], ids=("heavy",), atomic_numbers=salts[:1].atomic_numbers + 90)
    drawn, out = tmp_path / "drawn.parquet", tmp_path / "relaxed.parquet"
    table = CandidateTable.from_crystals(type(salts).concatenate([salts[:1], heavy]))
    table.write(drawn)
    experiment("hits").relax_by_hand(drawn, out, threads=1)
    found = CandidateTable.read(out)
    assert sorted(found.ids) == sorted(table.ids)
    (kept,) = found.ok_ids
    assert kept == salts.ids[0]
    volumes = [abs(np.linalg.det(c.lattices[0])) for c in (found.crystals([kept]), salts[:1])]
    assert volumes[0] != pytest.approx(volumes[1], rel=1e-6)


@pytest.mark.slow
def test_trends_of_two_sets_stand_side_by_side(experiment, tiny, salts, tmp_path, monkeypatch):
    sets, known = [], tiny.reference
    for name, crystals in (("a", salts[:3]), ("b", salts[1:])):
        source = tmp_path / f"{name}.parquet"
        CandidateTable.from_crystals(crystals).write(source)
        protocol = Protocol.model_validate(tiny.protocol)
        api.evaluate(
            source, tmp_path / name, reference=tiny.reference, hull=tiny.reference, protocol=protocol
        )
        sets.append(str(tmp_path / name))

    def trends(by, out):
        options = ["--reference", str(known), "--by", by, "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["trends.py", *sets, *options])
        experiment("trends").main()
        text = (out / "trends.md").read_text(encoding="utf-8")
        assert text.count("| before |") == text.count("| after |") == 5
        assert (out / "trends.svg").stat().st_size > 1000
        return read_json(out / "trends.json")

    found = trends("e_above_hull", tmp_path / "by-energy")
    assert found["after"]["num_crystals"] == len(salts) - 1
    found = trends("embedding", tmp_path / "by-embedding")
    # relaxed a little, they are still nearest to themselves as they are known
    assert 0 < found["before"]["distances"][-1] < 1
