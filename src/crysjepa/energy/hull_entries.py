"""The entries of a hull: read from a Parquet file, and what of them a hull can use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.energy.columns import above_hull_columns, check_heights, telling_columns
from crysjepa.energy.compositions import Fractions, is_finite, other_reading, read_composition
from crysjepa.energy.limits import no_formation_energy
from crysjepa.runtime.files import metadata_of
from crysjepa.runtime.notes import note

if TYPE_CHECKING:
    from pymatgen.core import Composition

_ELEMENT_BELOW = 1e-3
"""eV/atom: an element further below 0 is on other elemental references."""


@dataclass(frozen=True)
class EntryColumns:
    """Columns of a file of hull entries: formation energies in eV/atom, ``ids`` None where it has none.

    ``told`` are its columns of units and of scales.
    """

    formulas: list[Any]
    energies: list[float | None]
    ids: list[Any] | None
    metadata: Mapping[str, Any]
    told: Mapping[str, list[Any]]


def read_entries(path: Path, *, use_e_above_hull: bool) -> EntryColumns:
    """The entries of a Parquet file, lowered by energies above the hull where it has them.

    Raises ValueError for a file that is not Parquet, or lacks a column.
    """
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from error
    with file:
        columns = file.schema_arrow.names
        for name in ("composition", "formation_energy_per_atom"):
            if name not in columns:
                raise ValueError(f"{path} has no column {name}: not a file of hull entries")
        wanted = ["composition", "formation_energy_per_atom", *({"id"} & set(columns))]
        above = above_hull_columns(columns) if use_e_above_hull else []
        telling = telling_columns(columns)
        table = file.read(columns=[*wanted, *above, *telling])
        metadata = metadata_of(file.schema_arrow)
    energies = [_number(v) for v in table["formation_energy_per_atom"].to_pylist()]
    if above:
        heights = {name: table[name].to_pylist() for name in above}
        for name, cells in heights.items():
            if unread := [v for v in cells if v is not None and v == v and _number(v) is None]:
                such = repr(str(unread[0])[:20])
                note(f"{path.name}: {len(unread)} cells of {name}, such as {such}, are no numbers")
        numbers = {name: [_number(v) for v in cells] for name, cells in heights.items()}
        check_heights(numbers)
        energies = lowered(energies, numbers[above[0]])
    ids = table["id"].to_pylist() if "id" in columns else None
    told = {name: table[name].to_pylist() for name in telling}
    return EntryColumns(table["composition"].to_pylist(), energies, ids, metadata, told)


def usable_entries(
    ids: Sequence[str],
    formulas: Sequence[str | Composition],
    formation_energy_per_atom: Sequence[float | None],
) -> tuple[dict[Fractions, float], dict[str, str]]:
    """The lowest energy (eV/atom) of each compound, and why the other entries are left out, by id.

    Elements below 0 come first of these: their energies are likely no formation energies.
    """
    compounds: dict[Fractions, float] = {}
    skipped: dict[str, str] = {}
    elements: dict[str, str] = {}
    only_capitals = not any(isinstance(f, str) and re.search("[a-z]", f) for f in formulas)
    for id_, formula, energy in zip(ids, formulas, formation_energy_per_atom, strict=True):
        fractions, reason = read_composition(formula)
        if fractions is None:
            skipped[str(id_)] = reason
        elif only_capitals and isinstance(formula, str) and (other := other_reading(formula)):
            skipped[str(id_)] = (
                f"{formula!r} is {other} in capitals, or what it says: upper and lower case count"
            )
        elif energy is None or not is_finite(energy):
            skipped[str(id_)] = "its formation energy is missing or not a finite number"
        elif len(fractions) == 1:
            if energy < -_ELEMENT_BELOW:
                elements[str(id_)] = (
                    f"the element {fractions[0][0]} at {energy:g} eV/atom, where a hull of formation "
                    "energies has 0: are these total energies?"
                )
        elif (absurd := no_formation_energy(energy)) is not None:
            skipped[str(id_)] = absurd
        else:
            compounds[fractions] = min(float(energy), compounds.get(fractions, math.inf))
    return compounds, elements | skipped


def lowered(energies: Iterable[float | None], above: Iterable[float | None]) -> list[float | None]:
    """Formation energies less what is known to lie above the hull: the hull's own heights, in eV/atom."""
    return [
        e if e is None or a is None or not is_finite(a) else e - max(a, 0.0)
        for e, a in zip(energies, above, strict=True)
    ]


def skipped_summary(skipped: Mapping[str, str], num_read: int) -> str:
    """How many entries were left out, and the reason of the first."""
    id_, reason = next(iter(skipped.items()))
    more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{len(skipped)} of {num_read} entries left out ({id_}: {reason}{more})"


def _number(value: Any) -> float | None:
    """A cell of a file's column, which may hold numbers as text or decimals; None for what is no number."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
