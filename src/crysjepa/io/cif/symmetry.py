"""The symmetry that a CIF states, by operations or by names, as groups of operations. Nothing is assumed.

gemmi knows the settings of space groups (names, Hall symbols, operations), moyopy their full symbols. What a
file says in several ways must agree; what it leaves open stays open: :func:`possible_groups` returns each
group that it may mean.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray

from crysjepa.io.cif.names import (
    coded,
    group_of,
    hall_group,
    meanings,
    plain_name,
    settings,
    standard_settings,
    suffix_of,
)
from crysjepa.io.cif.operations import (
    P1,
    TRANSLATION_TOLERANCE,
    Group,
    listed_group,
    misfits,
    text_of,
)
from crysjepa.io.cif.text import ReadError, brief, shown

METRIC_TOLERANCE = 0.01
"""Relative change of the metric tensor under an operation: 0.5 % of a length, 0.6° of an angle."""
_EXACT_METRIC = 1e-4


class Stated(NamedTuple):
    """What a file says of its symmetry; empty where it says nothing."""

    operations: tuple[str, ...] = ()
    centrings: tuple[str, ...] = ()
    """Further operations by which the others are multiplied, as magnetic CIFs list them."""
    names: tuple[str, ...] = ()
    """Hermann–Mauguin symbols, short or full."""
    halls: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    """Coordinate system codes, such as ``b1`` or ``2cab``."""
    hints: tuple[str, ...] = ()
    """What else speaks of symmetry, such as ``the crystal system cubic``."""


class Possible(NamedTuple):
    """The groups that a file may mean. With a ``doubt``, only further evidence can say which, or whether."""

    groups: list[Group]
    doubt: str = ""
    units_must_tell: bool = False
    """Whether a matching formula is no evidence without the number of its units in the cell."""


def possible_groups(stated: Stated, metric: NDArray[np.float64]) -> Possible:
    """What the file may mean in a cell with this metric tensor (3, 3), in Å².

    Operations come first, Hall symbols next, then names and numbers. There is a doubt where a name leaves the
    origin or the axes open, or where only the identity is listed under the name of a larger group; then P1 is
    the first of the groups.

    Raises
    ------
    ReadError
        Where it cannot be read, does not fit the cell, or contradicts itself.
    """
    if stated.operations:
        listed = listed_group(stated.operations, stated.centrings)
        if listed.is_trivial:
            return _beside_the_identity(stated, metric)
        if (misfit := misfits(listed, metric)).max() > METRIC_TOLERANCE:
            wrong = text_of(listed.rotations[misfit.argmax()], listed.translations[misfit.argmax()])
            raise ReadError(f"the operation {wrong} is no symmetry of this cell: it changes its shape")
        _check_agreement(listed, stated, "operations")
        return Possible([listed])
    if stated.names or stated.halls or stated.numbers:
        groups = _fitting(_named(stated), metric, stated)
        return Possible(groups, _open(groups) if len(groups) > 1 else "")
    if stated.hints:
        doubt = f"{stated.hints[0][:60]} is given, but no space group and no operation"
        return Possible([P1], doubt, units_must_tell=True)
    return Possible([P1])


def _open(groups: Sequence[Group]) -> str:
    names = ", ".join(group.name for group in groups[:3])
    return (
        f"the space group may be {names}{' or others' * (len(groups) > 3)}, and nothing says which: "
        "name the setting or list the operations"
    )


def _beside_the_identity(stated: Stated, metric: NDArray[np.float64]) -> Possible:
    if all(plain_name(name) in ("p1", "1") for name in (*stated.names, *stated.halls, *stated.numbers)):
        return Possible([P1])
    try:
        named = _named(stated)
        if any(group.is_trivial for group in named):
            return Possible([P1])
        doubt = f"only the identity is listed under {named[0].name}: list all operations, or call it P 1"
        return Possible([P1, *_fitting(named, metric, stated)], doubt)
    except ReadError as error:
        return Possible([P1], f"only the identity is listed, but {error}")


def _number_of(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}(\.0*)?", text.strip()) or not 1 <= int(float(text)) <= 230:
        raise ReadError(f"the space group's number is {shown(text)}; there are 1 to 230")
    return int(float(text))


@lru_cache(maxsize=4096)
def _named(stated: Stated) -> tuple[Group, ...]:
    """Each distinct group that names, Hall symbols and numbers may mean together."""
    halls = {group.key: group for hall in stated.halls if (group := hall_group(hall))}
    if len(halls) > 1:
        raise ReadError(f"the Hall symbols {' and '.join(stated.halls)} contradict each other")
    if halls:
        (group,) = halls.values()
        _check_agreement(group, stated, "Hall symbol")
        return (group,)
    if not (stated.names or stated.numbers):
        raise ReadError(f"the symmetry {shown(stated.halls[0])} could not be read")
    meant: frozenset[int] | None = None
    for name in stated.names:
        found = meanings(name)
        if not found:
            raise ReadError(f"the symmetry {shown(name)} could not be read")
        meant = found if meant is None else meant & found
    for text in stated.numbers:
        number = _number_of(text)
        if meant is None:
            meant = frozenset(standard_settings()[number])
        else:
            meant = frozenset(i for i in meant if settings()[i].number == number)
    for code in stated.codes:
        meant = coded(meant or frozenset(), code.strip().lower())
    if not meant:
        said = [*stated.names, *(f"no. {n}" for n in stated.numbers), *stated.codes]
        raise ReadError(f"the space groups stated contradict each other: {', '.join(said)[:100]}")
    return tuple({group_of(i).key: group_of(i) for i in sorted(meant)}.values())


def _fitting(groups: Sequence[Group], metric: NDArray[np.float64], stated: Stated) -> list[Group]:
    """Those of which the cell has the symmetry."""
    changes = np.array([misfits(group, metric).max() for group in groups])
    if changes.min() > METRIC_TOLERANCE:
        raise ReadError(f"the cell does not have the symmetry of the space group {groups[0].name}")
    limit = _EXACT_METRIC if changes.min() <= _EXACT_METRIC else METRIC_TOLERANCE
    fitting = [group for group, change in zip(groups, changes, strict=True) if change <= limit]
    if len(fitting) > 1 and stated.names:
        # a short symbol means the unique axis b (International Tables A) if the cell allows it
        fitting = [group for group in fitting if group.unique_axis == "b"] or fitting
    return fitting


# -- agreement ---------------------------------------------------------------------------------------------


def _check_agreement(group: Group, stated: Stated, source: str) -> None:
    """Raise where other names or numbers contradict ``group``, which is of the operations or the Hall symbol.

    A reference symbol (P 21/c, F d -3 m) may name the type of the group alone, in any setting, as spglib and
    pymatgen use it; another one (P 21/n, F d -3 m :2) names the setting too. A symbol that is unknown says
    nothing.
    """
    table = settings()
    number: int | None = None
    for name in stated.names:
        meant = meanings(name)
        if not meant or any(group.key is not None and group.key == group_of(i).key for i in meant):
            continue
        if not suffix_of(name) and any(table[i].is_reference_setting() for i in meant):
            number = number or _type_of(group)
            if number is None or any(table[i].number == number for i in meant):
                continue
        raise ReadError(f"the {source} and the space group {shown(name)} contradict each other")
    for text in stated.numbers:
        number = number or _type_of(group)
        if number is not None and _number_of(text) != number:
            raise ReadError(
                f"the {source} and the space group's number contradict each other: {number}, {text}"
            )
    for hall in stated.halls:
        other = hall_group(hall)
        if other and other.key != group.key:
            raise ReadError(f"the {source} and the Hall symbol {shown(hall)} contradict each other")


def _type_of(group: Group) -> int | None:
    """The number of the group's type in the International Tables, in whatever setting it is."""
    if group.key is not None:
        found = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(text) for text in group.key]))
        if found:
            return int(found.number)
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # announcements of its next version
        try:
            kind = spglib.get_spacegroup_type_from_symmetry(
                np.rint(group.rotations).astype(np.intc), group.translations, symprec=TRANSLATION_TOLERANCE
            )
        except Exception as error:  # spglib's own kinds of error differ between versions
            raise ReadError(f"the symmetry operations could not be identified: {brief(error)}") from error
    return None if kind is None else int(kind.number)
