"""Names of space groups: Hermann–Mauguin symbols, short, full and old, and Hall symbols, in every setting.

gemmi's table has the settings and their operations, moyopy's the full symbols.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

import gemmi
import numpy as np

from crysjepa.io.cif.operations import Group

_LONGEST = 80


@cache
def settings() -> list[gemmi.SpaceGroup]:
    return list(gemmi.spacegroup_table())


def _code(setting: gemmi.SpaceGroup) -> str:
    return (setting.ext.strip("\0") + setting.qualifier).lower()


def plain_name(name: str) -> str:
    return re.sub(r"[\s_'\"()]", "", name).lower()


def _short(name: str) -> str:
    """``P 21/n`` of ``P 1 21/n 1``."""
    first, *others = name.split()
    return " ".join([first, *(part for part in others if part != "1")])


@cache
def _index() -> dict[str, set[int]]:
    """Positions in :func:`settings` by every plain name."""
    from moyopy import HallSymbolEntry

    index: dict[str, set[int]] = {}
    by_hall: dict[str, list[int]] = {}
    for i, setting in enumerate(settings()):
        names = {setting.hm}
        if setting.crystal_system_str() == "monoclinic":
            names.add(_short(setting.hm))
        if setting.crystal_system_str() == "cubic":
            names.add(setting.hm.replace("-3", "3"))  # before the International Tables of 1983
        for name in names:
            index.setdefault(plain_name(name), set()).add(i)
        by_hall.setdefault(setting.hall, []).append(i)
    for hall_number in range(1, 531):
        entry = HallSymbolEntry(hall_number)
        names = {entry.hm_full}
        if not 3 <= entry.number <= 15:  # there the short symbol names the type, in any setting
            names.add(entry.hm_short)
        for name in names:
            index.setdefault(plain_name(name), set()).update(by_hall[entry.hall_symbol.replace("=", '"')])
    return index


@cache
def standard_settings() -> dict[int, set[int]]:
    """Positions in :func:`settings` of the 530 settings of the International Tables, by number."""
    from moyopy import HallSymbolEntry

    halls = {HallSymbolEntry(i).hall_symbol.replace("=", '"') for i in range(1, 531)}
    found: dict[int, set[int]] = {}
    for i, setting in enumerate(settings()):
        if setting.hall in halls:
            found.setdefault(setting.number, set()).add(i)
    return found


@lru_cache(maxsize=4096)
def meanings(name: str) -> frozenset[int]:
    """Positions in :func:`settings` of all that a Hermann–Mauguin symbol may mean; none if it is unknown."""
    if len(name) > _LONGEST:
        return frozenset()
    base, suffix = _parts(name)
    found = _lookup(base)
    if suffix in ("1", "2"):
        return frozenset(i for i in found if settings()[i].ext == suffix)
    return coded(found, suffix) if suffix else found


def suffix_of(name: str) -> str:
    """The origin or the axes that a symbol names: ``2`` of ``F d -3 m :2``; empty if none."""
    return _parts(name)[1]


@lru_cache(maxsize=4096)
def _parts(name: str) -> tuple[str, str]:
    base, _, suffix = name.partition(":")
    ending = re.fullmatch(r"(.*\S)\s*([HRSZ])\s*", name)
    if ending and not suffix and not _lookup(name):
        base, suffix = ending.groups()  # R -3 m H; the ICSD's F d -3 m S and Z
    return base, {"S": "1", "Z": "2"}.get(suffix.strip(), suffix.strip().lower())


def _lookup(name: str) -> frozenset[int]:
    if found := _index().get(plain_name(name)):
        return frozenset(found)
    other = gemmi.find_spacegroup_by_name(name.strip())
    return frozenset(_index()[plain_name(other.hm)]) if other else frozenset()


def coded(positions: frozenset[int], code: str) -> frozenset[int]:
    """Those with a coordinate system code; of the origin alone (1, 2) where it has no more."""
    table, code = settings(), code.removesuffix("abc")
    exact = frozenset(i for i in positions if _code(table[i]) == code)
    if exact or code in ("1", "2"):
        return exact or frozenset(i for i in positions if table[i].ext == code)
    numbers = {table[i].number for i in positions}
    return frozenset(i for n in numbers for i in standard_settings()[n] if _code(table[i]) == code)


@lru_cache(maxsize=1024)
def group_of(position: int) -> Group:
    setting = settings()[position]
    return _from_gemmi(setting.xhm(), setting.operations(), setting.monoclinic_unique_axis().strip("\0"))


def _from_gemmi(name: str, operations: gemmi.GroupOps, unique_axis: str = "") -> Group:
    found = [operation.wrap() for operation in operations]
    return Group(
        name,
        np.array([op.rot for op in found]) / gemmi.Op.DEN,
        np.array([op.tran for op in found]) / gemmi.Op.DEN,
        frozenset(op.triplet() for op in found),
        unique_axis,
    )


@lru_cache(maxsize=1024)
def hall_group(symbol: str) -> Group | None:
    """The group of a Hall symbol; None if it is none."""
    plain = re.sub(r"_", " ", symbol).strip()
    try:
        operations = gemmi.symops_from_hall(plain.replace("=", '"'))
    except (ValueError, RuntimeError):
        return None
    return _from_gemmi(symbol, operations)
