"""Crystals looked up among hashes that a data set publishes of itself."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import crystals_of, make_salts, rock_salt
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.run import evaluate_crystals
from crysjepa.matching.bonded_graph import bawl
from crysjepa.matching.published import FINGERPRINT, look_up
from crysjepa.runtime.notes import ReadNote


def published(path, crystals, hashes=None):
    """A file of crystals that states their hashes, or others."""
    texts = [bawl(c) for c in crystals] if hashes is None else hashes
    pq.write_table(crystals.to_arrow().append_column(FINGERPRINT, pa.array(texts, pa.string())), path)
    return path


@pytest.fixture
def salts():
    return make_salts()


def test_a_crystal_is_found_whatever_the_order_of_its_elements(tmp_path, salts):
    file = published(tmp_path / "lemat.parquet", salts)
    turned = crystals_of([rock_salt(17, 11, 5.64), rock_salt(11, 35, 5.9)], "c")
    faulty = Crystals([11, 17], np.zeros((2, 3)), np.eye(3), [2], ("bad",))
    found = look_up(Crystals.concatenate([turned, faulty]), file)
    assert found.matches == {"c-0": salts.ids[0], "c-1": None}
    assert list(found.failures) == ["bad"]
    assert (found.probed, found.reproduced) == (len(salts), len(salts))


def test_hashes_that_are_made_in_another_way_are_refused(tmp_path, salts):
    file = published(tmp_path / "other.parquet", salts, ["0"] * len(salts))
    with pytest.raises(ValueError, match=f"another way: of {len(salts)} of its rows 0 have"):
        look_up(salts[:1], file)
    pq.write_table(salts.to_arrow(), file)
    with pytest.raises(ValueError, match=f"no column {FINGERPRINT}"):
        look_up(salts[:1], file)


def test_evaluate_says_which_crystals_are_published(tmp_path, salts):
    file = published(tmp_path / "lemat.parquet", salts)
    crystals = crystals_of([rock_salt(11, 17, 5.64), rock_salt(11, 35, 5.9)], "c")
    pq.write_table(crystals[1:].to_arrow(), tmp_path / "known.parquet")
    protocol = Protocol(relax=False, fingerprints=str(file))
    out = tmp_path / "judged"
    with pytest.warns(ReadNote, match="7 of 7 of its rows"):
        metrics = evaluate_crystals(
            CandidateTable.from_crystals(crystals),
            out,
            reference=tmp_path / "known.parquet",
            protocol=protocol,
        )
    rows = pq.read_table(out / "crystals.parquet").to_pydict()
    assert rows["published_match"] == [salts.ids[0], None]
    assert rows["new_by_hash"] == [False, True]
    assert rows["novel"] == [True, False]  # StructureMatcher's, against the reference
    assert metrics["protocol"]["fingerprints"] == str(file)
