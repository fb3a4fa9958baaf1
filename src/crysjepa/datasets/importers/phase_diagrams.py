"""Matbench Discovery's pickled phase diagram (pymatgen, gzip): the entries' compositions and energies.

Such a file is one object, and all of it is in memory while it is read.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from crysjepa.datasets.importers import safe_pickle
from crysjepa.datasets.importers.parquet import Imported, described
from crysjepa.datasets.importers.safe_pickle import UnsafePickle, read_pickle
from crysjepa.io.cif.blocks import ReadError, atomic_number, brief
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.files import write_parquet


def import_phase_diagram(path: Path, out: Path, about: Mapping[str, Any]) -> Imported:
    """Write a table of the diagram's entries to ``out``.

    It has ``id``, ``composition``, ``energy_per_atom``, ``formation_energy_per_atom`` and ``reason``.
    Energies are corrected ones in eV/atom; the elements' are the lowest among the entries.

    Raises
    ------
    DatasetError
        If the file is no phase diagram of pymatgen, or holds anything else than one may.
    """
    try:
        with gzip.open(path) as handle:
            found = read_pickle(handle)  # type: ignore[arg-type]
    except (UnsafePickle, OSError, EOFError) as error:
        raise DatasetError(f"{path.name} is not read: {brief(error)}") from error
    listed = found.get("all_entries", "entries") if isinstance(found, safe_pickle.Diagram) else None
    if not isinstance(listed, list | tuple) or not listed:
        raise DatasetError(f"{path.name} is not a phase diagram with entries")
    return write_entries([_row(number, entry) for number, entry in enumerate(listed)], out, about)


def write_entries(rows: Sequence[Row], out: Path, about: Mapping[str, Any]) -> Imported:
    """Write a table of hull entries, as :func:`import_phase_diagram` does.

    Formation energies are against the lowest energy of each element among them. Where
    ``about["force_field"]`` has the ``name`` and the ``model`` of a force field, these are its energies, and
    the file states them as elemental references that belong to it.
    """
    lowest: dict[str, float] = {}
    for _, amounts, energy, _ in rows:
        if len(amounts) == 1 and energy is not None:
            (symbol,) = amounts
            lowest[symbol] = min(energy, lowest.get(symbol, math.inf))
    imported = Imported(rows=len(rows))
    imported.failed.update(reason for *_, reason in rows if reason)
    table = pa.table(
        {
            "id": pa.array([name for name, *_ in rows], type=pa.string()),
            "composition": pa.array([_formula(amounts) for _, amounts, *_ in rows], type=pa.string()),
            "energy_per_atom": pa.array([energy for _, _, energy, _ in rows], type=pa.float64()),
            "formation_energy_per_atom": pa.array(
                [_formed(amounts, energy, lowest) for _, amounts, energy, _ in rows], type=pa.float64()
            ),
            "reason": pa.array([reason or None for *_, reason in rows], type=pa.string()),
        }
    )
    notes = {**described(about, imported), "elements": lowest}
    if force_field := about.get("force_field"):
        notes["elemental_references"] = {
            "energies": lowest,
            "force_field": force_field["name"],
            "version": force_field["model"],
            "scale": about["scale"],
            "source": f"the elements of {about['dataset']}",
            "method": "computed",
        }
    write_parquet(table, out, notes)
    return imported


Row = tuple[str, dict[str, float], float | None, str]
"""Id, amounts of the elements, corrected energy per atom, and why there is none."""


def _row(number: int, entry: Any) -> Row:
    name = f"entry-{number}"
    try:
        if not isinstance(entry, safe_pickle.Entry):
            raise ReadError("not an entry")
        name = str(entry.get("entry_id", "attribute") or name)
        amounts = _amounts(entry.get("_composition", "composition"))
        total = float(entry.get("_energy", "energy", "uncorrected_energy"))
        total += sum(_adjusted(part) for part in entry.get("energy_adjustments", default=[]) or [])
        per_atom = total / sum(amounts.values())
        if not math.isfinite(per_atom):
            raise ReadError("its energy is not a finite number")
    except (ReadError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        return name, {}, None, f"not read: {brief(error)}"
    return name, amounts, per_atom, ""


def _amounts(composition: Any) -> dict[str, float]:
    data = composition.get("_data") if isinstance(composition, safe_pickle.Composition) else None
    if not isinstance(data, dict) or not data:
        raise ReadError("no composition")
    amounts = {}
    for element, amount in data.items():
        symbol = element.args[0] if isinstance(element, safe_pickle.Element) else element
        atomic_number(str(symbol))  # raises for what is no element
        amounts[str(symbol)] = float(amount)
    return amounts


def _adjusted(part: Any) -> float:
    """eV that an energy adjustment adds; how each class of pymatgen has it."""
    if not isinstance(part, safe_pickle.Adjustment):
        raise ReadError("an adjustment of an unknown kind")
    if (per_atom := part.get("_adj_per_atom")) is not None:
        return float(per_atom) * float(part.get("n_atoms"))
    if (per_degree := part.get("_adj_per_deg")) is not None:
        return float(per_degree) * float(part.get("n_atoms")) * float(part.get("temp"))
    if (value := part.get("_value")) is None:
        raise ReadError("an adjustment without a value")
    return float(value)


def _formula(amounts: Mapping[str, float]) -> str | None:
    return "".join(f"{symbol}{amount:.10g}" for symbol, amount in sorted(amounts.items())) or None


def _formed(amounts: Mapping[str, float], energy: float | None, lowest: Mapping[str, float]) -> float | None:
    if energy is None or not set(amounts) <= set(lowest):
        return None
    return energy - sum(n * lowest[s] for s, n in amounts.items()) / sum(amounts.values())
