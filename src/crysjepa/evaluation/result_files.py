"""Evaluated crystals on disk: written with a checksum, checked when read, compared only where they may be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.rates import METRICS, crystal_metrics, same_number
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.files import read_json

UNCOMPARED = frozenset(
    {
        "preset",
        "trust",
        "num_batches",
        "matcher",
        "hull",
        "novelty_set_name",
        "elemental_references_mae",
        "hull_compounds",
    }
    | {"relaxation.chunk_size", "relaxation.chunk_sites"}
    | {"finetuning_set", "finetuning_set_name", "finetuning_set_size", "novelty_set_size", "seed", "ranker"}
)
"""Parts of a protocol in which two results may differ: names of what is compared otherwise, what belongs to
the generator (its fine-tuning set), and how the work was shared out."""


_STABILITY = ("stable", "e_above_hull", "hull_support", "hull_warning")


class ResultError(ValueError):
    """A results folder that cannot be trusted, or results that cannot be compared."""


@dataclass(frozen=True)
class Result:
    """One evaluated set of crystals: its ``name``, ``metrics.json`` and the judged crystals."""

    name: str
    metrics: Mapping[str, Any]
    table: CandidateTable

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What the numbers are relative to."""
        found = self.metrics["protocol"]
        assert isinstance(found, Mapping)
        return found


def with_checksum(metrics: Mapping[str, Any], table: CandidateTable) -> dict[str, Any]:
    """The metrics with the hash of their crystals and one of themselves."""
    content = {**metrics, "crystals_hash": table.content_hash()}
    return {**content, "hash": _hash(content)}


def _hash(content: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in content.items() if k != "hash"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()


def is_result(folder: Path) -> bool:
    """Whether ``crysjepa evaluate`` or ``crysjepa discover`` wrote this folder."""
    return (folder / "metrics.json").is_file()


def read_result(folder: str | Path, name: str | None = None) -> list[Result]:
    """What ``crysjepa evaluate`` left in a folder; for one of ``crysjepa discover``, a result a round.

    Raises
    ------
    ResultError
        If a file is missing or damaged, if ``metrics.json`` was changed after it was written, or if its
        numbers are not those of the crystals beside it.
    """
    folder = Path(folder)
    name = name or folder.name
    path = folder / "metrics.json"
    try:
        metrics = read_json(path)
    except (RunError, OSError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from error
    if not isinstance(metrics, dict) or not isinstance(metrics.get("protocol"), dict):
        raise ResultError(f"{path} holds no result of crysjepa evaluate")
    if "rounds" in metrics:
        return _rounds(folder, metrics, name)
    table = _table(folder / "crystals.parquet")
    if metrics.get("hash") is None:
        raise ResultError(f"{path} has no checksum: an older crysjepa wrote it; evaluate the crystals again")
    if metrics["hash"] != _hash(metrics):
        raise ResultError(f"{path} was changed after crysjepa wrote it{_what_changed(metrics, table)}")
    if metrics["crystals_hash"] != table.content_hash():
        raise ResultError(f"{folder / 'crystals.parquet'} is not the table that {path.name} belongs to")
    table = scored(table, metrics["protocol"])
    _check(metrics, table, path)
    return [Result(name, metrics, table)]


def scored(table: CandidateTable, protocol: Mapping[str, Any]) -> CandidateTable:
    """The table without the columns that are there but were not judged: stability, without a hull."""
    if protocol.get("stability_judged", True):
        return table
    return CandidateTable(table.frame.drop(columns=[c for c in _STABILITY if c in table]))


def _what_changed(metrics: Mapping[str, Any], table: CandidateTable) -> str:
    true = crystal_metrics(scored(table, metrics["protocol"]))
    for key in METRICS:
        if key in metrics and not same_number(_number(metrics[key]), true[key]):
            return f": it says {key} = {metrics[key]}, and its crystals give {true[key]}"
    return ""


def _check(metrics: Mapping[str, Any], table: CandidateTable, path: Path) -> None:
    true = crystal_metrics(table)
    for key in METRICS:
        if key in metrics and not same_number(_number(metrics[key]), true[key]):
            raise ResultError(f"{path} says {key} = {metrics[key]}, but its crystals give {true[key]}")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _table(path: Path) -> CandidateTable:
    try:
        return CandidateTable.read(path)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from error


def _rounds(folder: Path, metrics: Mapping[str, Any], name: str) -> list[Result]:
    """The rounds of a run of ``crysjepa discover``, their rates computed anew from its candidates."""
    table = _table(folder / "candidates.parquet")
    if "round" not in table:
        raise ResultError(f"{folder / 'candidates.parquet'} has no column round")
    found = []
    for entry in metrics["rounds"]:
        rows = (table.frame["round"] == entry["round"]).fillna(False).to_numpy(dtype=bool)
        part = CandidateTable(table.frame[rows].reset_index(drop=True))
        _check({k: v for k, v in entry.items() if k in METRICS}, part, folder / "metrics.json")
        numbers = {**crystal_metrics(part), "protocol": metrics["protocol"]}
        found.append(Result(f"{name} ({entry['name']})", numbers, part))
    return found


# -- comparing -------------------------------------------------------------------------------


def differences(results: Sequence[Result]) -> list[str]:
    """In what the protocols of results differ: a line for each setting, with who has which value."""
    flat = [dict(_flat(r.protocol)) for r in results]
    lines = []
    for key in sorted(set().union(*flat) if flat else ()):
        if key.split(".")[0] in UNCOMPARED or key in UNCOMPARED:
            continue
        by_value: dict[str, list[str]] = {}
        for result, settings in zip(results, flat, strict=True):
            by_value.setdefault(_brief(settings.get(key)), []).append(result.name)
        if len(by_value) > 1:
            who = "; ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())
            lines.append(f"{key}: {who}")
    return lines


def check_comparable(results: Sequence[Result], *, anyway: bool = False) -> list[str]:
    """The differences between the protocols. Raises ResultError if there are some, unless ``anyway``."""
    found = differences(results)
    if found and not anyway:
        raise ResultError(
            "these results were not obtained in the same way: "
            + " | ".join(found)
            + " | evaluate them under one protocol, or say --anyway"
        )
    return found


def _flat(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{path}.{key}" if path else key
        found += _flat(value, name) if isinstance(value, Mapping) else [(name, value)]
    return found


def _brief(value: Any) -> str:
    text = "not stated" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"


# -- saying it -------------------------------------------------------------------------------


def judge_name(protocol: Mapping[str, Any]) -> str | None:
    """The force field whose energies decide stability, with its version; None if none does."""
    if not protocol.get("relax"):
        return None
    return f"{protocol['force_field']} {protocol.get('force_field_version', '')}".rstrip()


def citation(protocol: Mapping[str, Any]) -> str:
    """The protocol in one line, for a caption."""
    relaxation = protocol["relaxation"]
    judge = judge_name(protocol)
    if protocol["relax"] and not relaxation["max_steps"]:
        relaxed = f"not relaxed, energies by {judge}"
    elif protocol["relax"]:
        kept = "only converged relaxations count" if protocol["converged_only"] else "unconverged ones kept"
        relaxed = (
            f"relaxed with {judge} ({relaxation['optimizer'].upper()}, fmax {relaxation['fmax']} eV/Å, "
            f"at most {relaxation['max_steps']} steps, {kept})"
        )
    else:
        relaxed = "not relaxed"
    if protocol.get("hull"):
        # results of earlier versions say nothing of either
        taken = "" if protocol.get("hull_scale_stated", True) else "not stated, taken as "
        left_out = f", {protocol['hull_left_out']}" if protocol.get("hull_left_out") else ""
        hull = (
            f"stable at ≤ {protocol['e_above_hull_max']} eV/atom above the hull {protocol['hull']} "
            f"({protocol['hull_compounds']} compounds{left_out}, scale {taken}{protocol['hull_scale']})"
        )
    else:
        hull = "stability not judged"
    batch = protocol["batch_size"]
    unique = f"unique within batches of {batch}" if batch else "unique among all"
    known = f"novel against {protocol['novelty_set_name']} ({protocol['novelty_set_size']} crystals)"
    if protocol.get("finetuning_set"):
        known += f" and the fine-tuning set {protocol['finetuning_set_name']}"
    elif protocol["preset"] == "strict":
        known += ", no fine-tuning set given"
    packages = protocol["versions"]
    return (
        f"crysjepa {packages['crysjepa']}, preset {protocol['preset']}: {relaxed}; {hull}; {unique}; "
        f"{known}; {protocol['matcher']}; composition rule {protocol['composition_rule']}; pymatgen "
        f"{packages['pymatgen']}, smact {packages['smact']}."
    )
