"""Stability against novelty along the distance from known crystals (paper, section 3 and appendix D.4)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.rates import flag_columns
from crysjepa.evaluation.result_files import Result, read_result
from crysjepa.ranking.embedders import Embedded
from crysjepa.ranking.fingerprints.cache import fingerprints
from crysjepa.ranking.fingerprints.ranker import STRUCTURE, Fingerprints
from crysjepa.report.tradeoff import write_tradeoff
from crysjepa.runtime.files import write_json
from crysjepa.runtime.progress import StageProgress, of_stage
from crysjepa.runtime.run_directory import versions

COLUMN = "fingerprint_distance"
PERCENTILES = tuple(range(5, 101, 5))
CURVES = ("stable", "novel", "unique", "sun", "vsun")
_DRAWS = 400
_BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Distances:
    """𝒟 of each candidate (D.4.2), its two parts before they are normalised, and why the others have none.

    ``total`` = ``structure`` / α + ``composition`` / β, where α and β are the largest of each part.
    """

    ids: tuple[str, ...]
    total: NDArray[np.float64]
    structure: NDArray[np.float64]
    composition: NDArray[np.float64]
    failures: Mapping[str, str]


def fingerprint_distances(
    crystals: Crystals,
    reference: Crystals,
    folder: Path,
    *,
    processes: int = 1,
    progress: StageProgress | None = None,
) -> Distances:
    """The distance 𝒟 of appendix D.4: CrystalNN's (61 values) and standardised Magpie fingerprints (132).

    D.4.2 gives the sizes the other way round. Magpie's are standardised by the mean and standard deviation
    of the reference, as in CDVAE's evaluation; a value that does not vary there is left out. 𝒟 depends,
    through α and β, on which candidates are looked at together. Fingerprints are kept in ``folder``.

    Raises
    ------
    ImportError
        Without matminer, naming the extra.
    ValueError
        If no crystal of the reference has a fingerprint.
    """
    embedder = Fingerprints()
    _ = embedder.content_hash  # raises ImportError before any work
    known = fingerprints(
        embedder, reference, folder, processes=processes, progress=of_stage(progress, "fingerprint reference")
    )
    if not len(known.rows):
        raise ValueError("no crystal of the reference has a fingerprint")
    own = fingerprints(
        embedder, crystals, folder, processes=processes, progress=of_stage(progress, "fingerprint")
    )
    return distances_between(crystals, own, known)


def distances_between(crystals: Crystals, own: Embedded, known: Embedded) -> Distances:
    """𝒟 from fingerprints (B, 193) of the candidates and (R, 193) of the reference."""
    mean, spread = known.vectors.astype(np.float64).mean(axis=0), known.vectors.astype(np.float64).std(axis=0)
    mean[:STRUCTURE], spread[:STRUCTURE] = 0.0, 1.0
    inverse = np.where(spread > 1e-9, 1 / np.where(spread > 1e-9, spread, 1.0), 0.0)
    candidates, reference = ((e.vectors.astype(np.float64) - mean) * inverse for e in (own, known))
    structure = nearest_squares(candidates[:, :STRUCTURE], reference[:, :STRUCTURE])
    composition = nearest_squares(candidates[:, STRUCTURE:], reference[:, STRUCTURE:])
    total = _share(structure) + _share(composition)
    ids = tuple(crystals.ids[row] for row in own.rows)
    return Distances(
        ids, total, structure, composition, {crystals.ids[r]: w for r, w in own.failures.items()}
    )


def nearest_squares(candidates: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) square Euclidean distance of each of (B, D) to the nearest of (R, D)."""
    found = np.empty(len(candidates))
    rows = max(1, _BLOCK // max(len(reference), 1))
    norms = (reference**2).sum(axis=1)
    for start in range(0, len(candidates), rows):
        block = candidates[start : start + rows]
        nearest = (norms[None, :] - 2 * block @ reference.T).argmin(axis=1)
        # Of the nearest the difference itself: the expanded square loses digits where it is near 0.
        found[start : start + rows] = ((block - reference[nearest]) ** 2).sum(axis=1)
    return found


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = values.max() if len(values) else 0.0
    return values / largest if largest > 0 else np.zeros_like(values)


# -- curves ----------------------------------------------------------------------------------


def tradeoff_curves(
    table: CandidateTable, column: str, *, percentiles: Sequence[int] = PERCENTILES
) -> dict[str, Any]:
    """Cumulative rates over percentiles of a distance (Fig. 1b, 5a).

    At p %, the rates of the p % of crystals that are nearest, of those that have a distance; ties go by id,
    so that the order of rows changes nothing. Raises ValueError if the table has no such column, or no number
    in it.

    Returns
    -------
    dict
        ``percentiles``; ``distances`` at each; ``num`` crystals at each; ``rates`` and bootstrap 95 %
        ``intervals`` of each rate that was judged, a value for each percentile; ``without_distance``, how
        many crystals have none and are left out here.
    """
    if column not in table:
        numeric = [c for c in table.frame.columns if table.frame[c].dtype.kind in "fiu"]
        raise ValueError(
            f"no column {column!r} to order crystals by; there are {', '.join(map(str, numeric))}"
        )
    try:
        distances = [None if v is None else float(v) for v in table.column(column)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"the column {column!r} does not hold numbers") from error
    placed = sorted(
        (d, i, row) for row, (i, d) in enumerate(zip(table.ids, distances, strict=True)) if d is not None
    )
    if not placed:
        raise ValueError(f"no crystal has a number in the column {column!r}")
    order = [row for _, _, row in placed]
    nums = [max(1, round(len(order) * p / 100)) for p in percentiles]
    rates: dict[str, list[float]] = {}
    intervals: dict[str, list[list[float]]] = {}
    flags = flag_columns(table)
    for name in CURVES:
        hits = flags[name]
        if hits is None:
            continue
        counts = np.cumsum(np.array(hits)[order])
        rates[name] = [float(counts[n - 1] / n) for n in nums]
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        resampled = [rng.binomial(n, r, size=_DRAWS) / n for n, r in zip(nums, rates[name], strict=True)]
        intervals[name] = [[float(v) for v in np.quantile(d, [0.025, 0.975])] for d in resampled]
    return {
        "column": column,
        "percentiles": list(percentiles),
        "distances": [placed[n - 1][0] for n in nums],
        "num": nums,
        "rates": rates,
        "intervals": intervals,
        "num_crystals": len(table),
        "without_distance": len(table) - len(placed),
    }


def tradeoff_of_result(
    folder: str | Path,
    *,
    reference: str | Path | None = None,
    by: str = "fingerprint",
    processes: int = 1,
    progress: StageProgress | None = None,
) -> Path:
    """Trade-off of a set that ``crysjepa evaluate`` judged; writes ``tradeoff.*`` into its folder.

    Parameters
    ----------
    reference
        The crystals that the generator was trained on; needed for ``by="fingerprint"``.
    by
        ``"fingerprint"`` for 𝒟 of appendix D.4, or any column of ``crystals.parquet`` with a number for each
        crystal, such as ``score``.

    Returns
    -------
    Path
        ``tradeoff.html``; beside it ``tradeoff.json``, ``tradeoff.parquet`` (a row a crystal: its distance,
        both parts, and why it has none) and figures.

    Raises
    ------
    ImportError
        For ``"fingerprint"`` without matminer.
    ResultError, ValueError
        If the result is damaged, or the column is not there.
    """
    folder = Path(folder)
    (result,) = read_result(folder)[-1:]
    table, column, notes = result.table, by, list[str]()
    if by == "fingerprint":
        if reference is None:
            raise ValueError("fingerprint distances need --reference: what the generator was trained on")
        table, notes = _with_fingerprints(result, reference, processes, progress)
        column = COLUMN
    curves = tradeoff_curves(table, column)
    content = {
        "curves": curves,
        "name": result.name,
        "reference": None if reference is None else Path(reference).name,
        "notes": notes,
        "protocol": dict(result.protocol),
        "versions": versions(),
    }
    write_json(folder / "tradeoff.json", content)
    return write_tradeoff(folder, table)


def _with_fingerprints(
    result: Result, reference: str | Path, processes: int, progress: StageProgress | None
) -> tuple[CandidateTable, list[str]]:
    known = datasets.load(str(reference))
    crystals = result.table.crystals()
    cache = datasets.cache_folder() / "fingerprints"
    found = fingerprint_distances(
        crystals, known.crystals(known.ok_ids), cache, processes=processes, progress=progress
    )
    table = result.table
    for name, values in (
        (COLUMN, found.total),
        ("structure_distance", found.structure),
        ("composition_distance", found.composition),
    ):
        table = set_column(table, name, dict(zip(found.ids, values.tolist(), strict=True)), "Float64")
    table = set_column(table, "no_fingerprint", dict(found.failures), "string")
    note = f"{len(found.failures)} crystals have no fingerprint; tradeoff.parquet says why."
    return table, [note] if found.failures else []
