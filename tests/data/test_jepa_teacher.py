"""Energies of a better teacher, from its shards to the table that Crys-JEPA learns from."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Element

from crysjepa import datasets

ENERGY = "formation_energy_per_atom"


@pytest.fixture
def run(monkeypatch):
    """The command line of one of the two scripts."""

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        __import__(script).main()

    return call


def test_what_the_teacher_labelled_replaces_what_was_there(run, tmp_path):
    """Its energies are formation energies and one eV for each site: references take the eV off again."""
    flla = datasets.load("flla")
    crystals = flla.crystals(flla.ok_ids)
    crystals = crystals[crystals.num_atoms <= 6][:400]
    energies = np.array(flla.column(ENERGY, list(crystals.ids)), dtype=float)
    known = crystals.to_arrow().append_column(ENERGY, pa.array(energies))
    labels = known.append_column("kind", pa.array(["parent"] * len(crystals)))
    labels = labels.append_column("parent", known["id"])
    known = known.append_column("split", pa.array(["train"] * len(crystals)))
    variants = crystals[:3].with_ids(["v1-0-0", "v1-0-1", "v1-0-2"])
    drawn = variants.to_arrow().append_column("parent", pa.array(list(crystals.ids[:3])))
    of_chgnet = [[-4.0] * n for n in variants.num_atoms.tolist()]
    drawn = drawn.append_column("site_energies", pa.array(of_chgnet, pa.list_(pa.float32())))
    taught = {
        i: [e + 1.0] * n for i, e, n in zip(crystals.ids, energies, crystals.num_atoms.tolist(), strict=True)
    }
    sites = np.linspace(-0.1, 0.1, variants.num_atoms[0])  # of one crystal they differ; of one there are none
    taught |= {
        "v1-0-0": (-0.5 + sites).tolist(),
        "v1-0-1": None,
        "v1-0-2": [0.25] * int(variants.num_atoms[2]),
    }
    lists = pa.array(list(taught.values()), pa.list_(pa.float64()))
    tables = {"known": known, "labels": labels, "variants": drawn}
    tables["teacher"] = pa.table({"id": list(taught), "site_energies": lists})
    files = {name: tmp_path / f"{name}.parquet" for name in (*tables, "base", "out")}
    for name, table in tables.items():
        pq.write_table(table, files[name])
    references = tmp_path / "references.json"
    references.write_text(json.dumps({Element.from_Z(z).symbol: -1.0 for z in range(1, 95)}))
    common = ("--known", files["known"], "--labels", files["labels"])
    run(
        "jepa_data", "pack", *common, "--sites", files["variants"], "--references", references,
        "--out", files["base"],
    )  # fmt: skip
    run(
        "jepa_teacher", "pack", *common, "--variants", files["variants"], "--teacher", files["teacher"],
        "--base", files["base"], "--replay", 5, "--out", files["out"],
    )  # fmt: skip
    before, after = ({r["id"]: r for r in pq.read_table(files[n]).to_pylist()} for n in ("base", "out"))
    assert before["v1-0-0"][ENERGY] == pytest.approx(-3.0)
    assert {i: r for i, r in after.items() if i in taught and i in crystals.ids} == {
        i: r for i, r in before.items() if i in crystals.ids
    }
    assert after["v1-0-0"][ENERGY] == pytest.approx(-1.5, abs=0.1)
    assert after["v1-0-2"][ENERGY] == pytest.approx(-0.75, abs=0.1)
    first = np.array(after["v1-0-0"]["site_energies"])
    assert first.mean() == pytest.approx(after["v1-0-0"][ENERGY], abs=1e-5) and np.ptp(first) > 0.1
