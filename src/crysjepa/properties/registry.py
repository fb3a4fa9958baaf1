"""Properties by name: the one place that lists them, and anyone's own.

>>> from crysjepa.properties import find_property
>>> find_property("density").unit
'g/cm³'
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.properties import elements, structures
from crysjepa.properties.base import How, Measured, Property, PropertyError, for_each
from crysjepa.properties.by_force_field import bulk_modulus, hardness, shear_modulus
from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.files import file_hash

PROPERTIES: dict[str, Callable[[], Property]] = {
    "density": structures.density,
    "volume_per_atom": structures.volume_per_atom,
    "bulk_modulus": bulk_modulus,
    "shear_modulus": shear_modulus,
    "hardness": hardness,
    "price": elements.price,
    "element_price": elements.element_price,
    "abundance": elements.abundance,
    "hhi_production": partial(elements.supply_risk, "production"),
    "hhi_reserve": partial(elements.supply_risk, "reserve"),
    "toxic_mass_fraction": elements.toxic_mass_fraction,
    "space_group_number": structures.space_group_number,
    "dimensionality": structures.dimensionality,
}  # fmt: skip
"""Those without an element in their name."""


def property_names() -> list[str]:
    """Every built-in name; ``X`` stands for an element."""
    return [*PROPERTIES, *(f"{name}:X" for name in elements.ELEMENT_PROPERTIES)]


@lru_cache(maxsize=64)
def find_property(name: str) -> Property:
    """A property by its name, ``NAME:ELEMENT``, or ``module:function``.

    The function is given a :class:`~crysjepa.core.candidates.CandidateTable` and returns a number for each
    row: a sequence, a pandas Series, or a dictionary by id; None or NaN where it has none. If it raises,
    it is asked for one row at a time, and what it raises is that crystal's reason. Modules are looked for in
    the current folder too.

    Raises PropertyError for a name that nothing has.
    """
    if name in PROPERTIES:
        return PROPERTIES[name]()
    base, colon, rest = name.partition(":")
    if colon and base in elements.ELEMENT_PROPERTIES:
        return elements.ELEMENT_PROPERTIES[base](rest)
    if colon and base and rest:
        found = _function(base, rest)
        return _of_function(name, found, _file_of(found))
    near = difflib.get_close_matches(base, [*PROPERTIES, *elements.ELEMENT_PROPERTIES], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise PropertyError(
        f"no property {name!r}{hint}: choose from {', '.join(property_names())}, or name a function of a "
        "table as module:function"
    )


def _function(module: str, attribute: str) -> Callable[[CandidateTable], Any]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise PropertyError(f"no property {module}:{attribute}: {describe_error(error)}") from error
    if not callable(found):
        raise PropertyError(f"no property {module}:{attribute}: it is no function of a table")
    return found


def _file_of(function: Any) -> str:
    """A hash of the file that a function is in; "" where it is in none."""
    try:
        path = inspect.getsourcefile(function)
    except TypeError:
        return ""
    return file_hash(path) if path else ""


def _of_function(name: str, function: Callable[[CandidateTable], Any], version: str) -> Property:
    def measure(table: CandidateTable, how: How) -> Measured:
        try:
            return _numbers(function(table), table.ids)
        except Exception:  # noqa: BLE001 - whatever a user's function raises; asked row by row below
            return for_each(table, lambda row: _single(function, table, row))

    return Property(
        name=name, unit="", description=f"what {name} says", source=name, measure=measure, version=version
    )


def _single(function: Callable[[CandidateTable], Any], table: CandidateTable, row: int) -> float | str:
    one = CandidateTable(table.frame.iloc[[row]].reset_index(drop=True))
    found = _numbers(function(one), one.ids)
    (id_,) = one.ids
    return found.reasons[id_] if id_ in found.reasons else found.values[id_]


def _numbers(answer: Any, ids: list[str]) -> Measured:
    """Numbers by id. Raises ValueError or TypeError for an answer of another form."""
    if isinstance(answer, Mapping):
        listed: Iterable[Any] = [answer.get(i) for i in ids]
    else:
        listed = list(answer)
        if len(listed) != len(ids):
            raise ValueError(f"{len(listed)} values for {len(ids)} crystals")
    values = {i: np.nan if v is None else float(v) for i, v in zip(ids, listed, strict=True)}
    reasons = {i: "no number" for i, v in values.items() if not np.isfinite(v)}
    return Measured({i: v for i, v in values.items() if i not in reasons}, reasons)
