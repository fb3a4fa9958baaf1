"""Symmetry operations of a CIF: from text to a group, which they must be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray

from crysjepa.io.cif.text import ReadError, shown

MAX_OPERATIONS = 400
TRANSLATION_TOLERANCE = 2e-3
_SNAP = 1e-3
_FRACTION = r"[-+]?(\d+(\.\d*)?|\.\d+)(/\d+(\.\d*)?)?"
_LONGEST = 200

Key = frozenset[str]


class Group(NamedTuple):
    """Operations x' = R x + t on fractional coordinates, closed modulo the lattice."""

    name: str
    rotations: NDArray[np.float64]
    """(O, 3, 3)"""
    translations: NDArray[np.float64]
    """(O, 3)"""
    key: Key | None
    """The operations as text, to compare groups; None where a translation is no multiple of 1/24."""
    unique_axis: str = ""
    """``a``, ``b`` or ``c`` of a monoclinic setting."""

    @property
    def is_trivial(self) -> bool:
        return len(self.rotations) == 1


P1 = Group("P 1", np.eye(3)[None], np.zeros((1, 3)), frozenset(["x,y,z"]))


@lru_cache(maxsize=1024)
def listed_group(operations: tuple[str, ...], centrings: tuple[str, ...] = ()) -> Group:
    """The group of these operations, such as ``"-x, y+1/2, -z"``; a time reversal at the end is left out.

    Raises
    ------
    ReadError
        If one is no operation, or they are no group.
    """
    if len(operations) * max(len(centrings), 1) > 4 * MAX_OPERATIONS:
        raise ReadError(f"{len(operations)} symmetry operations (limit {MAX_OPERATIONS})")
    parsed = [_operation(text) for text in operations]
    if centrings:
        outer = [_operation(text) for text in centrings]
        parsed = [(r2 @ r1 + 0.0, (r2 @ t1 + t2) % 1.0) for r2, t2 in outer for r1, t1 in parsed]
    distinct: dict[bytes, list[NDArray[np.float64]]] = {}
    rotations, translations = [], []
    for rotation, translation in parsed:
        known = distinct.setdefault(rotation.tobytes(), [])
        if not any(_whole(translation - other) for other in known):
            known.append(translation)
            rotations.append(rotation)
            translations.append(translation)
    if len(rotations) > MAX_OPERATIONS:
        raise ReadError(f"{len(rotations)} symmetry operations (limit {MAX_OPERATIONS})")
    group = Group("", np.array(rotations), np.array(translations), key_of(rotations, translations))
    _check_closed(distinct)
    return group


@lru_cache(maxsize=8192)
def _operation(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation (3, 3), of whole numbers, and translation (3,), in 0 to 1."""
    wrong = ReadError(f"{shown(text)} is not a symmetry operation")
    parts = re.sub(r"\s", "", text[: _LONGEST + 1]).lower().split(",")
    if len(parts) == 4 and parts[3] in ("+1", "-1", "1"):
        parts = parts[:3]
    if (
        len(text) > _LONGEST
        or len(parts) != 3
        or not all(re.fullmatch(r"[-+xyz0-9./]+", part) for part in parts)
    ):
        raise wrong
    translation = np.zeros(3)
    for axis, part in enumerate(parts):
        # gemmi reads multiples of 1/24 alone: symmetry about any origin has other fractions
        terms = re.findall(r"[-+]?[^-+]+", part)
        constants = [term for term in terms if re.fullmatch(_FRACTION, term)]
        for top, _, bottom in (term.partition("/") for term in constants):
            if float(bottom or 1) == 0:
                raise wrong
            translation[axis] += float(top) / float(bottom or 1)
        if "".join(terms) != part:
            raise wrong
        parts[axis] = "".join(term for term in terms if term not in constants)
    try:
        rotation = np.array(gemmi.Op(",".join(parts)).rot) / gemmi.Op.DEN
    except (ValueError, RuntimeError):
        raise wrong from None
    if (rotation != np.round(rotation)).any() or abs(abs(np.linalg.det(rotation)) - 1) > 1e-6:
        raise wrong
    snapped = np.round(translation * 24) / 24
    translation = np.where(np.abs(translation - snapped) < _SNAP, snapped, translation)
    return rotation, translation % 1.0


def _whole(translation: NDArray[np.float64]) -> bool:
    return bool(np.abs(translation - np.round(translation)).max() < TRANSLATION_TOLERANCE)


def _check_closed(distinct: dict[bytes, list[NDArray[np.float64]]]) -> None:
    """Raise unless the operations, translations by rotation, are a group modulo the lattice."""
    identity = np.eye(3).tobytes()
    centrings = np.array(distinct.get(identity, [np.full(3, 0.5)]))
    if not any(_whole(t) for t in centrings):
        raise ReadError("the identity x, y, z is not among the symmetry operations")

    def missing(difference: NDArray[np.float64]) -> bool:
        gaps = difference - centrings
        return bool((np.abs(gaps - np.round(gaps)).max(axis=1) >= TRANSLATION_TOLERANCE).all())

    wrong = ReadError("the symmetry operations are no group: the product of two of them is missing")
    if any(missing(first + second) for first in centrings for second in centrings):
        raise wrong
    representatives = {code: (np.frombuffer(code).reshape(3, 3), ts[0]) for code, ts in distinct.items()}
    for code, translations in distinct.items():
        if len(translations) != len(centrings) or any(missing(t - translations[0]) for t in translations):
            raise wrong
        rotation, translation = representatives[code]
        if any(missing(rotation @ t) for t in centrings):
            raise wrong
        for other, shift in representatives.values():
            product = (rotation @ other + 0.0).tobytes()  # + 0.0: no negative zeros
            if product not in representatives:
                raise wrong
            if missing(rotation @ shift + translation - representatives[product][1]):
                raise wrong


def misfits(group: Group, metric: NDArray[np.float64]) -> NDArray[np.float64]:
    """(O,) relative change of the metric tensor under each operation."""
    rotations = group.rotations
    changed = np.swapaxes(rotations, 1, 2) @ metric @ rotations
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    return np.asarray(np.abs((changed - metric) / scale).max(axis=(1, 2)))


def key_of(
    rotations: Sequence[NDArray[np.float64]], translations: Sequence[NDArray[np.float64]]
) -> Key | None:
    steps = np.array(translations) * gemmi.Op.DEN
    if np.abs(steps - np.round(steps)).max() > 1e-6:
        return None
    return frozenset(text_of(r, t) for r, t in zip(rotations, translations, strict=True))


def text_of(rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> str:
    operation = gemmi.Op()
    operation.rot = np.rint(rotation * gemmi.Op.DEN).astype(int).tolist()
    operation.tran = np.rint(translation * gemmi.Op.DEN).astype(int).tolist()
    return str(operation.wrap().triplet())
