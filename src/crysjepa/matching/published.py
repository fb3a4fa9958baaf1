"""Crystals looked up among the hashes that a data set of millions publishes of itself.

LeMat-Bulk states BAWL of each of its rows (:mod:`crysjepa.matching.bonded_graph`), and so it can be asked
what no StructureMatcher on one machine answers in an evening. A hit is strong evidence that a crystal is
known. To have none is weak evidence that it is new, for the hash depends on thresholds of bonds and on how
the row lists its sites. The hash of a crystal's primitive cell is looked for, with its elements in any order.

Whether hashes made here are those made there is asked of the data set itself: of its first rows, hashed as
they stand, at least half must come out as stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa.core.crystals import ARROW_SCHEMA, Crystals
from crysjepa.datasets.importers.lemat import FINGERPRINT
from crysjepa.matching.bonded_graph import bawl, bawl_candidates
from crysjepa.matching.structure_hash import each_hashed
from crysjepa.runtime.progress import Progress

VERSION = 1
"""Changes when the same crystal could get another answer from the same file."""
PROBED, MOST_SITES = 20, 20
"""Rows that are hashed to see whether hashes are made alike, and how many sites such a row may have."""
_BATCH = 65_536


@dataclass(frozen=True)
class LookUp:
    """The row that each crystal has a hash of, or None, by id; and why some could not be looked up.

    ``reproduced`` of ``probed`` rows of the file have the hash here that they state.
    """

    matches: dict[str, str | None]
    failures: dict[str, str]
    probed: int
    reproduced: int


def check_fingerprints(path: Path) -> None:
    """Raise ValueError for a file that states no hashes, or has no crystals to try them on."""
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} is no Parquet file: {error}") from error
    if missing := [name for name in (FINGERPRINT, *ARROW_SCHEMA.names) if name not in names]:
        raise ValueError(f"{path.name} has no column {', '.join(missing)}: no crystal can be looked up in it")


def look_up(
    crystals: Crystals, path: Path, *, processes: int = 1, progress: Progress | None = None
) -> LookUp:
    """Look crystals up in a Parquet file of crystals with LeMat's hashes, of any length.

    Of several rows with a crystal's hash the first is named. Raises ValueError where hashes are made in
    another way there, or :func:`check_fingerprints` does.
    """
    check_fingerprints(path)
    probed, reproduced = _probe(path)
    if not probed:
        raise ValueError(
            f"no row of {path.name} could be hashed anew, to see whether its hashes are made as they are here"
        )
    if 2 * reproduced < probed:
        raise ValueError(
            f"the hashes of {path.name} are made in another way: of {probed} of its rows {reproduced} have "
            "the hash here that they state"
        )
    texts, failures = each_hashed(_candidates, crystals, processes, progress)
    wanted = {text: id_ for id_, found in texts.items() for text in found}
    rows = _rows_of(path, list(wanted))
    matches = {id_: min((rows[t] for t in found if t in rows), default=None) for id_, found in texts.items()}
    named = {id_: None if match is None else match[1] for id_, match in matches.items()}
    return LookUp(named, failures, probed, reproduced)


def _candidates(crystal: Crystals) -> list[str]:
    return bawl_candidates(crystal)


def _rows_of(path: Path, texts: list[str]) -> dict[str, tuple[int, str]]:
    """The first row, by number and id, of each hash that is there."""
    wanted, found, done = pa.array(texts, pa.string()), dict[str, tuple[int, str]](), 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH, columns=["id", FINGERPRINT]):
            numbers = pc.indices_nonzero(pc.is_in(batch[FINGERPRINT], value_set=wanted))
            hits = batch.take(numbers).to_pylist()
            for number, row in zip(numbers.to_pylist(), hits, strict=True):
                found.setdefault(row[FINGERPRINT], (done + number, row["id"]))
            done += len(batch)
    return found


def _probe(path: Path) -> tuple[int, int]:
    with pq.ParquetFile(path) as file:
        columns = [*ARROW_SCHEMA.names, FINGERPRINT]
        batch = next(file.iter_batches(50 * PROBED, columns=columns), None)
    if batch is None:
        return 0, 0
    sites = pc.list_value_length(batch["atomic_numbers"])
    usable = pc.and_kleene(pc.is_valid(batch[FINGERPRINT]), pc.less_equal(sites, MOST_SITES))
    rows = pa.Table.from_batches([batch.filter(usable)]).slice(0, PROBED)
    stated = dict(zip(rows["id"].to_pylist(), rows[FINGERPRINT].to_pylist(), strict=True))
    found, _ = each_hashed(bawl, Crystals.from_arrow(rows.select(ARROW_SCHEMA.names)))
    return len(stated), sum(found.get(id_) == text for id_, text in stated.items())
