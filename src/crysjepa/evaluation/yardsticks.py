"""One set of crystals by several yardsticks: the protocol's own, MatterGen's and LeMat-GenBench's.

The crystals are relaxed once. MatterGen's definitions are then asked of the energies that came of it.
GenBench's are asked of the crystals as they were handed in, by the energy of one evaluation each; of crystals
that come with energies, as ``crysjepa relax`` writes them, by these. Definitions differ; judge, hull and
known crystals are the same in all rows, so that what is between two rows is the definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from crysjepa.energy.hull import Hull
from crysjepa.evaluation.given import Given, read_given
from crysjepa.evaluation.protocol import PRESETS, Protocol
from crysjepa.evaluation.run import JudgingOptions, evaluate_crystals
from crysjepa.report.evaluation import write_evaluation
from crysjepa.report.yardsticks import FILE, read_rows, write_yardsticks
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.progress import in_part

OTHERS = ("mattergen", "genbench")
"""Presets that are asked beside the protocol."""
_KEPT = ("force_field", "relax", "elemental_references", "allow_mixed_scales")
"""Settings of the protocol that the others take over: who judges, and by what scale."""
_RATES = ("valid", "stable_at_0", "stable", "unique", "novel")
_GENBENCH = {
    "valid": "overall_valid",
    "stable_at_0": "stable",
    "stable": "metastable",
    "unique": "unique",
    "novel": "novel",
    "headline_at_0": "sun",
    "headline": "meta_sun",
}


class YardstickOptions(JudgingOptions, total=False):
    """Keywords that all yardsticks share: those of :func:`~crysjepa.evaluation.run.evaluate_crystals`."""

    reference: str | Path
    hull: str | Path | Hull | None


def evaluate_by_yardsticks(
    crystals: Given,
    out: Path,
    *,
    protocol: Protocol | None = None,
    finetuned_on: str | Path | None = None,
    **how: Unpack[YardstickOptions],
) -> dict[str, Any]:
    """:func:`~crysjepa.evaluation.run.evaluate_crystals` into ``out``, then by each preset of :data:`OTHERS`
    into a folder of its name inside; ``yardsticks.json``, ``.md`` and ``.csv`` have all of them in one table.

    ``finetuned_on`` is for the protocol alone: the others do not ask for it. Returns what ``metrics.json``
    holds, with the table's rows as ``yardsticks``. Raises ValueError for a protocol that is one of the
    others, and as ``evaluate_crystals`` does.
    """
    protocol = protocol or Protocol()
    if protocol.preset in OTHERS:
        raise ValueError(
            f"--yardsticks judges by {' and '.join(OTHERS)} anyway, beside a preset of ours: leave out "
            f"--preset {protocol.preset}"
        )
    metrics = evaluate_crystals(crystals, out, protocol=protocol, finetuned_on=finetuned_on, **how)
    relaxed = read_given(out) if protocol.relax else crystals
    rows = [_row(protocol.preset, metrics, as_given=False)]
    progress = how.get("progress")
    for name in OTHERS:
        other = PRESETS[name].model_copy(update={k: getattr(protocol, k) for k in _KEPT})
        as_given = not other.relaxation.max_steps
        how |= {"shards": None, "anew": False, "progress": in_part(progress, name)}
        given = crystals if as_given else relaxed
        found = evaluate_crystals(given, out / name, protocol=other, **how)
        rows.append(_row(name, found, as_given=as_given and crystals.origin is None))
    write_json(out / FILE, {"of": metrics["hash"], "rows": rows})
    write_yardsticks(out)
    write_evaluation(out)  # once more, with the table
    return {**metrics, "yardsticks": rows}


def yardsticks_of(
    folders: Mapping[str, Path], ranked: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]] | None:
    """Rows of several sets, by yardstick and then in the order of the ranking; None where one lacks them."""
    of = {name: read_rows(folder, read_json(folder / "metrics.json")) for name, folder in folders.items()}
    if any(rows is None for rows in of.values()):
        return None
    order = [row["name"] for row in ranked if row["name"] in folders]
    rows = [{"name": name, **row} for name in order for row in of[name] or ()]
    names = list(dict.fromkeys(row["yardstick"] for row in rows))
    return sorted(rows, key=lambda row: names.index(row["yardstick"]))


def _row(name: str, metrics: Mapping[str, Any], *, as_given: bool) -> dict[str, Any]:
    """Rates of one yardstick under the names that all rows share, and what they are relative to."""
    protocol = metrics["protocol"]
    if "genbench" in metrics:
        of = metrics["genbench"]["rates"]
        rates = {key: of.get(theirs) for key, theirs in _GENBENCH.items()}
    else:
        asked = "" if name == "mattergen" else "v"
        names = {
            **{key: key for key in _RATES},
            "headline_at_0": f"{asked}sun_at_0",
            "headline": f"{asked}sun",
        }
        rates = {
            key: None
            if metrics[own] is None
            else {"share": metrics[own], "interval": metrics["intervals"][own]}
            for key, own in names.items()
        }
    return {
        "yardstick": name,
        "num_crystals": metrics["num_crystals"],
        "rates": rates,
        "limit": protocol["e_above_hull_max"],
        "as_given": as_given,
        "composition_rule": protocol["composition_rule"],
        "matching": protocol["matching"],
        "judge": metrics["judge"],
        "hull": metrics["hull"],
        "novelty_set": metrics["novelty_set"],
        "citation": metrics["citation"],
    }
