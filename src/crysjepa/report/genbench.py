"""GenBench's metrics as tables, from what ``metrics.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crysjepa.report.embedding import Table
from crysjepa.report.results import plain
from crysjepa.report.wording import interval_text, number, percent

_RATES = {
    "overall_valid": "valid",
    "charge_neutral": "charge-neutral",
    "distance_valid": "distances valid",
    "plausibility_valid": "densities and cell plausible",
    "unique": "unique",
    "novel": "novel",
    "stable": "stable: at most 0 eV/atom above the hull",
    "metastable": "metastable: at most 0.1 eV/atom",
    "sun": "SUN",
    "meta_sun": "MetaSUN",
}


def genbench_tables(found: Mapping[str, Any] | None) -> list[Table]:
    """Rates, and everything else by name; nothing where the crystals were judged by another rule."""
    if not found:
        return []
    rates = found["rates"]
    rows = [
        (words, percent((rates[key] or {}).get("share")), interval_text((rates[key] or {}).get("interval")))
        for key, words in _RATES.items()
    ]
    missing = "; ".join(
        f"{plain(k.replace('_', ' '))}: {plain(why, 120)}" for k, why in found["missing"].items()
    )
    note = "Shares of all crystals; from “unique” on a crystal must be valid too."
    numbers = [
        (name, number(value, 3))
        for part in ("mean_e_above_hull", "diversity", "distribution", "frechet_jepa", "hhi")
        for name, value in _flat(part, found.get(part))
    ]
    return [
        Table("GenBench's rates", ("", "share", "95 % interval (Wilson)"), rows, note),
        Table("GenBench's other metrics", ("", ""), numbers, f"Not computed. {missing}."),
    ]


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name.replace("_", " "), value)]
    return [entry for key, inner in value.items() for entry in _flat(f"{name}: {key}", inner)]
