"""Several sets of crystals under one protocol: Table 1, Fig. 1(a) and Fig. 4 of the paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.given import read_given
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.rates import METRICS, flag_columns
from crysjepa.evaluation.result_files import (
    Result,
    check_comparable,
    citation,
    is_result,
    read_result,
)
from crysjepa.evaluation.run import JudgingOptions, evaluate_crystals
from crysjepa.evaluation.yardsticks import evaluate_by_yardsticks, yardsticks_of
from crysjepa.report.comparison import write_comparison
from crysjepa.runtime.files import write_json
from crysjepa.runtime.progress import in_part
from crysjepa.runtime.run_directory import versions

_DRAWS = 2000


def compare_crystals(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    reference: str | Path = NAME,
    hull: str | Path | None = None,
    protocol: Protocol | None = None,
    anyway: bool = False,
    yardsticks: bool = False,
    **how: Unpack[JudgingOptions],
) -> Path:
    """Compare sets of crystals, and write the table and the figures into ``out``.

    Parameters
    ----------
    sources
        Folders that ``crysjepa evaluate`` or ``crysjepa discover`` wrote, and samples in any format that
        crysjepa reads; ``NAME=PATH`` gives one a name. Samples are evaluated first, each into ``out/NAME``,
        with ``reference``, ``hull`` and ``protocol``; what was evaluated by an earlier call is not again.
    anyway
        Compare results of different protocols all the same; the page says in what they differ.
    yardsticks
        Judge samples by MatterGen's and GenBench's definitions too. Where all sets have these, the table has
        a part for each.
    how
        How samples are evaluated: see :class:`~crysjepa.evaluation.run.Judging`.

    Returns
    -------
    Path
        ``comparison.html``; beside it ``comparison.json``, ``.md``, ``.csv`` and ``.parquet``, and figures as
        PNG and SVG.

    Raises
    ------
    ResultError
        If a result was changed by hand or is damaged, or if the protocols differ.
    ValueError
        If there are no sources, or two have the same name.
    """
    out, progress = Path(out), how.get("progress")
    named = name_sources(sources)
    results: list[Result] = []
    folders: dict[str, Path] = {}
    for number, (name, path) in enumerate(named.items()):
        if progress:
            progress("sets of crystals", number, len(named))
        if not is_result(path):
            folder = out / _folder(name)
            given = read_given(path)
            how["progress"] = in_part(progress, name)
            judge = evaluate_by_yardsticks if yardsticks else evaluate_crystals
            judge(given, folder, reference=reference, hull=hull, protocol=protocol, **how)
            path = folder
        results += read_result(path, name)
        folders[name] = path
    if progress:
        progress("sets of crystals", len(named), len(named))
    found = check_comparable(results, anyway=anyway)
    table = comparison(results, found)
    write_json(out / "comparison.json", table | {"yardsticks": yardsticks_of(folders, table["rows"])})
    energies = {r.name: _energies(r) for r in results}
    return write_comparison(out, energies)


def name_sources(sources: Sequence[str | Path]) -> dict[str, Path]:
    """``{name: path}``: the name before ``=``, or the folder's or file's own. ValueError for doubles."""
    if not sources:
        raise ValueError("name at least one set of crystals to compare")
    found: dict[str, Path] = {}
    for source in map(str, sources):
        name, equals, path = source.partition("=")
        if not equals or Path(source).exists():
            path = source
            name = Path(source).name if Path(source).is_dir() else Path(source).stem
        if name in found:
            raise ValueError(f"two sets are called {name!r}: give them names, as in NAME={path}")
        found[name] = Path(path)
    if len({_folder(n).lower() for n in found}) < len(found):
        raise ValueError("two names differ only in characters that no folder can have")
    return found


def comparison(results: Sequence[Result], differences: Sequence[str] = ()) -> dict[str, Any]:
    """The table as numbers, best V.S.U.N. first (then S.U.N., then S · N, then name).

    Each row has ``name``, ``num_crystals``, every rate, its Wilson ``intervals`` and ``batches`` if the
    protocol has them; ``behind``, how much lower its ranking rate is than the row's before (bootstrap 95 %
    interval, as the two sets are independent); ``tie``, whether that interval reaches 0.
    """
    key = "vsun" if all(r.metrics.get("vsun") is not None for r in results) else "novel"
    ordered = sorted(results, key=lambda r: _order(r, key))
    rows: list[dict[str, Any]] = []
    for rank, result in enumerate(ordered, start=1):
        row: dict[str, Any] = {"rank": rank, "name": result.name}
        row["num_crystals"] = result.metrics["num_crystals"]
        row |= {name: result.metrics.get(name) for name in METRICS}
        row["intervals"] = result.metrics["intervals"]
        row["batches"] = result.metrics.get("batches")
        row["preset"] = result.protocol.get("preset")
        row["finetuning_set"] = result.protocol.get("finetuning_set_name")
        row["crystals_hash"] = result.metrics.get("crystals_hash") or result.table.content_hash()
        row["behind"], row["tie"] = None, None
        if rank > 1:
            row["behind"] = _behind(ordered[rank - 2], result, key)
            row["tie"] = None if row["behind"] is None else row["behind"][0] <= 0
        rows.append(row)
    protocol = dict(ordered[0].protocol) if ordered else {}
    return {
        "ranked_by": key,
        "rows": rows,
        "differences": list(differences),
        "protocol": protocol,
        "citation": citation(protocol) if "versions" in protocol and "relaxation" in protocol else "",
        "versions": versions(),
    }


def _order(result: Result, key: str) -> tuple[Any, ...]:
    numbers = [result.metrics.get(k) or 0.0 for k in (key, "sun")]
    both = (result.metrics.get("stable") or 0.0) * (result.metrics.get("novel") or 0.0)
    return (-numbers[0], -numbers[1], -both, result.name)


def _behind(first: Result, second: Result, key: str) -> list[float] | None:
    """Bootstrap 95 % interval of the first's rate less the second's; see ``bootstrap_intervals``."""
    hits = [flag_columns(r.table)[key] or [] for r in (first, second)]
    if not all(hits):
        return None
    rng = np.random.default_rng(0)
    resampled = [rng.binomial(len(h), sum(h) / len(h), size=_DRAWS) / len(h) for h in hits]
    return [float(v) for v in np.quantile(resampled[0] - resampled[1], [0.025, 0.975])]


def _energies(result: Result) -> Any:
    if "e_above_hull" not in result.table:
        return np.full(len(result.table), np.nan)
    values = result.table.column("e_above_hull")
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip(".") or "set"
