"""A crystal's verdict is the crystal's: order of rows, duplicates and supercells do not change it.

For every matching, for hashes that a data set publishes, and for GenBench's rates; novelty is against a file
in LeMat-Bulk's form.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import crystals_of, rock_salt
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.datasets.importers.convert import LEMAT, convert
from crysjepa.evaluation.protocol import Protocol, preset
from crysjepa.evaluation.run import evaluate_crystals
from crysjepa.matching.bonded_graph import bawl
from crysjepa.matching.by_name import MATCHINGS
from crysjepa.runtime.notes import ReadNote

KINDS = [k for k in MATCHINGS if k != "pdd" or find_spec("amd") is not None]
KNOWN = ("lif", "mgo")
"""Of the candidates, those that the reference has."""


def candidates() -> Crystals:
    """Four crystals, of which one comes three times, once as a supercell."""
    cells = [
        rock_salt(11, 17, 5.64), rock_salt(3, 9, 4.03), rock_salt(12, 8, 4.21), rock_salt(19, 17, 6.29),
        rock_salt(11, 17, 5.65), rock_salt(11, 17, 5.64),
    ]  # fmt: skip
    crystals = crystals_of(cells, "c").with_ids(("nacl", "lif", "mgo", "kcl", "again", "larger"))
    return Crystals.concatenate([crystals[:5], enlarged(crystals[5:])])


def crystals_known() -> Crystals:
    """Of the candidates, as the reference has them."""
    return candidates().select(KNOWN)


def enlarged(crystals: Crystals) -> Crystals:
    """Every crystal in a cell twice as long."""
    structures = [s.make_supercell([1, 1, 2], in_place=False) for s in crystals.to_structures()]
    return Crystals.from_structures(structures, crystals.ids)


def lemat(read: Path, known: Crystals) -> Path:
    """Known crystals in LeMat-Bulk's columns, read by its importer."""
    rows = [
        {
            "immutable_id": f"known-{crystal.ids[0]}",
            "species_at_sites": [str(site.specie) for site in structure],
            "nsites": len(structure),
            "energy": -5.0 * len(structure),
            "lattice_vectors": structure.lattice.matrix.tolist(),
            "cartesian_site_positions": structure.cart_coords.tolist(),
            "dimension_types": [1, 1, 1],
            "functional": "pbe",
            "cross_compatibility": True,
            "entalpic_fingerprint": bawl(crystal),
        }
        for crystal, structure in zip(known, known.to_structures(), strict=True)
    ]
    published = read.with_name("lemat-bulk.parquet")
    pq.write_table(pa.Table.from_pylist(rows), published)
    convert(LEMAT, [published], read, {}, processes=1)
    return read


def verdicts(crystals: Crystals, folder: Path, protocol: Protocol, **options: Any) -> dict[str, Any]:
    """Novelty by crystal, which are the same, and GenBench's shares."""
    known = crystals_known()
    reference = lemat(folder / "known.parquet", Crystals.concatenate([known[:1], enlarged(known[1:])]))
    out = folder / f"judged-{len(list(folder.iterdir()))}"
    table = CandidateTable.from_crystals(crystals)
    metrics = evaluate_crystals(table, out, reference=reference, protocol=protocol, **options)
    rows = pq.read_table(out / "crystals.parquet").to_pylist()
    same = {r["id"]: r["duplicate_of"] or r["id"] for r in rows}
    return {
        "novel": {r["id"]: r["novel"] for r in rows},
        "by hash": {r["id"]: r.get("new_by_hash") for r in rows},
        "groups": {frozenset(i for i in same if same[i] == first) for first in same.values()},
        "unique": sum(r["unique"] for r in rows),
        "genbench": metrics["genbench"]["rates"] if metrics.get("genbench") else None,
    }


def described_anew(crystals: Crystals) -> list[Crystals]:
    """In another order, and every crystal in a cell twice as long."""
    return [crystals[np.random.default_rng(0).permutation(len(crystals))], enlarged(crystals)]


@pytest.mark.parametrize("kind", KINDS)
def test_matchings_know_a_crystal_again(kind: str, tmp_path: Path) -> None:
    protocol = Protocol(relax=False, matching=kind)
    crystals = candidates()
    found = verdicts(crystals, tmp_path, protocol)
    assert found["groups"] == {
        frozenset({"nacl", "again", "larger"}),
        *(frozenset({i}) for i in ("lif", "mgo", "kcl")),
    }
    assert found["novel"] == {i: i not in KNOWN for i in crystals.ids} and found["unique"] == 4
    for other in described_anew(crystals):
        assert verdicts(other, tmp_path, protocol) == found


def test_published_hashes_know_a_crystal_again(tmp_path: Path) -> None:
    protocol = Protocol(relax=False, fingerprints=str(lemat(tmp_path / "hashes.parquet", crystals_known())))
    crystals = candidates()
    with pytest.warns(ReadNote, match="2 of 2 of its rows"):
        found = verdicts(crystals, tmp_path, protocol)
        assert found["by hash"] == {i: i not in KNOWN for i in crystals.ids}
        for other in described_anew(crystals):
            assert verdicts(other, tmp_path, protocol)["by hash"] == found["by hash"]


def test_genbenchs_rates_are_of_crystals(tmp_path: Path) -> None:
    protocol = preset("genbench").model_copy(update={"relax": False})
    crystals = candidates()
    found = verdicts(crystals, tmp_path, protocol)["genbench"]
    shares = {name: rate and rate["share"] for name, rate in found.items()}
    assert shares["overall_valid"] == 1 and shares["unique"] == pytest.approx(4 / 6)
    assert shares["novel"] == pytest.approx(4 / 6)
    for other in described_anew(crystals):
        again = verdicts(other, tmp_path, protocol)["genbench"]
        assert {name: rate and rate["share"] for name, rate in again.items()} == shares
