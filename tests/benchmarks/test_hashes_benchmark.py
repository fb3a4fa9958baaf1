"""The benchmark of hashes: pairs, verdicts beside StructureMatcher's, and crystals described anew."""

from __future__ import annotations

import numpy as np
import pytest
from hashes import by_hash, by_matcher, described_anew, line, pairs_of_one_formula, steadiness, table

from conftest import crystals_of, rock_salt

CSCL = ([11, 17], [[0.0] * 3, [0.5] * 3], 3.4 * np.eye(3))


def test_pairs_and_verdicts():
    crystals = crystals_of(
        [rock_salt(11, 17, 5.6), rock_salt(19, 17, 6.3), CSCL, rock_salt(11, 17, 5.7)], "c"
    )
    known = crystals_of([rock_salt(11, 17, 5.6)], "known")
    within, across = pairs_of_one_formula(crystals, known)
    assert within == [("c-0", "c-2"), ("c-0", "c-3"), ("c-2", "c-3")]
    assert across == [("c-0", "known-0"), ("c-2", "known-0"), ("c-3", "known-0")]
    truth = by_matcher(within, crystals)
    assert truth == {("c-0", "c-2"): False, ("c-0", "c-3"): True, ("c-2", "c-3"): False}
    said = by_hash(within, {"c-0": "x", "c-2": "x", "c-3": "y"})
    cells = [cell.strip() for cell in line("name", said, truth, 4).split("|")[1:-1]]
    assert cells[:2] == ["name", "1"]
    assert cells[2].startswith("0.000 [0.000, 0.793] of 1") and cells[3].endswith("of 1") and cells[4] == "1"


def test_the_tables(tmp_path):
    pytest.importorskip("amd", reason="needs PDDs, for research only: pip install 'crysjepa[pdd]'")
    crystals = crystals_of([rock_salt(11, 17, 5.6), rock_salt(11, 17, 5.65), CSCL], "c")
    within, _ = pairs_of_one_formula(crystals, crystals[:0])
    lines = table("Within the set", within, crystals, tmp_path).splitlines()
    assert "3 pairs of one formula, of which StructureMatcher calls 1 the same" in lines[0]
    assert all("1.000 [0.207, 1.000] of 1" in row for row in lines[4:7])  # each hash finds it, and no other
    (kept,) = tmp_path.glob("bonded-graph-*.json")
    kept.write_text('[{"c-0": "a", "c-1": "b", "c-2": "c"}, {}]')  # what is there is not computed again
    assert "| `bonded-graph` | 0 |" in table("Again", within, crystals, tmp_path)


def test_described_anew(tmp_path):
    salt = crystals_of([rock_salt(11, 17, 5.6)], "c")
    anew = described_anew(salt, np.random.default_rng(0))
    assert [int(c.num_atoms[0]) for c in anew.values()] == [2, 4, 2, 2]
    rows = steadiness(salt, tmp_path).splitlines()[4:]
    assert len(rows) == 4
    kept = {row.split("|")[1].strip(): [c.strip()[0] for c in row.split("|")[2:-1]] for row in rows}
    assert kept["hash"][:2] == kept["bonded-graph"][:2] == ["1", "1"]
    assert kept["BAWL as published"][1] == "0"  # a supercell is another formula to it
