"""Known prototypes, to be filled with other elements.

Crystals have the same prototype here if they have the same space group and, up to the names of elements, the
same orbits: how many sites of the primitive cell each has, and its site symmetry. Free coordinates and the
shape of the cell do not count; of the crystals of one prototype, the one whose elements are most like the new
ones lends its geometry.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import element_symbols
from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import Found, symmetry_of
from crysjepa.energy.support import System
from crysjepa.generators.substitution.element_similarity import FRACTION_COST, MAX_ATOMIC_NUMBER, swap_costs
from crysjepa.generators.substitution.parents import Parents
from crysjepa.generators.substitution.volumes import element_sizes, swapped
from crysjepa.matching.structure_hash import orbits_of
from crysjepa.runtime.files import write_parquet

_SYMPREC = 0.1
_MAX_COST = 12.0
"""A swap that costs more is not tried: of an anion for a noble metal, say."""
MOST_ELEMENTS = 5
"""A crystal of more has no prototype here, and of its parts those of up to three elements are searched."""
_VERSION = "1"


@dataclass(frozen=True)
class Filling:
    """A prototype filled with elements: which parent, and its slots' elements in their order."""

    parent: int
    elements: tuple[int, ...]
    cost: float


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Known crystals (P of them, primitive cells) by prototype.

    Attributes
    ----------
    crystals
        In their primitive cells; ids are those of the source.
    slots
        For each crystal its elements (atomic numbers), in an order that the prototype fixes.
    keys
        (P,) the number of each crystal's prototype.
    ties
        For each crystal, which kind of orbits each slot has: slots of one kind cannot be told apart.
    """

    crystals: Crystals
    slots: list[tuple[int, ...]]
    keys: NDArray[np.int64]
    ties: list[tuple[int, ...]]
    _groups: dict[int, _Group] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, parents: Parents, *, max_sites: int = 20, cache: Path | None = None) -> Prototypes:
        """Of all parents whose primitive cell has at most ``max_sites`` sites.

        Their symmetry takes a third of a millisecond each; ``cache`` is a folder that keeps it.
        """
        source = parents.crystals
        digest = hashlib.sha256(f"{_VERSION} {source.content_hash()}".encode()).hexdigest()[:32]
        path = None if cache is None else cache / f"{digest}.parquet"
        found = _read(path) if path is not None and path.is_file() else None
        if found is None:
            found = _analysed(source)
            if path is not None:
                _write(path, *found)
        crystals, slots, names = found
        order = {name: number for number, name in enumerate(sorted(set(names)))}
        fit = np.flatnonzero(crystals.num_atoms <= max_sites)
        return cls(
            crystals[fit],
            [slots[row] for row in fit.tolist()],
            np.array([order[names[row]] for row in fit.tolist()], dtype=np.int64),
            [_kinds(names[row]) for row in fit.tolist()],
        )

    def __len__(self) -> int:
        return len(self.crystals)

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """(119,) lengths of the elements, for the volume of what is filled."""
        return element_sizes(self.crystals)

    def fillings(self, system: System, most: int, hidden: frozenset[System] = frozenset()) -> list[Filling]:
        """Prototypes with as many elements as the system (atomic numbers), filled with these, likely first.

        Each prototype and order of elements once, from the parent whose elements are most alike. The cost is
        that of :func:`crysjepa.generators.substitution.element_similarity.swap_costs`, summed over the
        elements that change, and grows with the share of the crystal that does; above 12 a prototype is left
        out. So is one that the system is known in, with the same elements on the same orbits: that would be
        the known crystal once more. ``hidden`` systems lend no parents. A system of more than
        :data:`MOST_ELEMENTS` has none.
        """
        group = self._group(len(system)) if len(system) <= MOST_ELEMENTS else None
        if group is None or max(system) > MAX_ATOMIC_NUMBER:
            return []
        return group.fillings(system, most, hidden)

    def crystals_of(self, fillings: Sequence[Filling]) -> Crystals:
        """The crystals, at the volumes that their elements' sizes ask for.

        An id is the formula, the parent, and the order in which its slots are filled.
        """
        if not fillings:
            return Crystals.empty()
        swaps = [tuple(zip(self.slots[f.parent], f.elements, strict=True)) for f in fillings]
        new = swapped(self.crystals[[f.parent for f in fillings]], swaps, self.sizes)
        symbols = element_symbols()
        names = [
            f"{formula}-{self.crystals.ids[f.parent]}-{'.'.join(symbols[z] for z in f.elements)}"
            for formula, f in zip(new.reduced_formulas(), fillings, strict=True)
        ]
        return new.with_ids(names)

    def _group(self, size: int) -> _Group | None:
        if size not in self._groups:
            rows = np.array([r for r, s in enumerate(self.slots) if len(s) == size], dtype=np.int64)
            if not len(rows):
                return None
            self._groups[size] = _Group(
                rows,
                np.array([self.slots[r] for r in rows.tolist()], dtype=np.int64),
                np.array([_amounts(self.crystals[r], self.slots[r]) for r in rows.tolist()]),
                self.keys[rows],
                {int(self.keys[r]): self.ties[r] for r in rows.tolist()},
            )
        return self._groups[size]


@dataclass(frozen=True, eq=False)
class _Group:
    """Crystals of k elements: their rows, elements by slot (n, k), atomic fractions (n, k) and keys (n,);
    and by key, which kind of orbits each slot has.
    """

    rows: NDArray[np.int64]
    elements: NDArray[np.int64]
    amounts: NDArray[np.float64]
    keys: NDArray[np.int64]
    ties: dict[int, tuple[int, ...]]

    def fillings(self, system: System, most: int, hidden: frozenset[System]) -> list[Filling]:
        usable = np.ones(len(self.rows), dtype=bool)
        for other in hidden:
            if len(other) == self.elements.shape[1]:
                usable &= (self._sorted != np.array(sorted(other))).any(axis=1)
        known = {
            (int(self.keys[row]), self._places(row, tuple(self.elements[row].tolist())))
            for row in np.flatnonzero(
                usable & (self._sorted == np.array(sorted(system))).all(axis=1)
            ).tolist()
        }
        costs = _costs()
        found: list[tuple[float, int, tuple[int, ...]]] = []
        for order in itertools.permutations(system):
            total = np.zeros(len(self.rows))
            for slot, element in enumerate(order):
                swap = costs[self.elements[:, slot], element]
                total += np.where(swap > 0, swap + FRACTION_COST * self.amounts[:, slot], 0.0)
            good = usable & (total < _MAX_COST)
            by_cost = np.flatnonzero(good)[np.argsort(total[good], kind="stable")]
            _, first = np.unique(self.keys[by_cost], return_index=True)  # the likeliest of each prototype
            chosen = by_cost[np.sort(first)]
            new = [(int(self.keys[row]), self._places(row, order)) not in known for row in chosen.tolist()]
            chosen = chosen[np.array(new, dtype=bool)][:most]
            found.extend((float(total[row]), int(self.rows[row]), order) for row in chosen.tolist())
        found.sort()
        return [Filling(parent, order, cost) for cost, parent, order in found[:most]]

    def _places(self, row: int, order: tuple[int, ...]) -> frozenset[tuple[int, int]]:
        """Each element with the kind of orbits that it is on."""
        return frozenset(zip(order, self.ties[int(self.keys[row])], strict=True))

    @cached_property
    def _sorted(self) -> NDArray[np.int64]:
        return np.sort(self.elements, axis=1)


def _kinds(name: str) -> tuple[int, ...]:
    """Equal numbers for slots with equal orbits."""
    signatures = name.split("|")[1:]
    return tuple(signatures.index(s) for s in signatures)


def _costs() -> NDArray[np.float64]:
    """:func:`swap_costs` with nothing for no swap."""
    costs = swap_costs().copy()
    np.fill_diagonal(costs, 0.0)
    return costs


def _amounts(crystal: Crystals, slots: tuple[int, ...]) -> list[float]:
    return [float((crystal.atomic_numbers == z).mean()) for z in slots]


# -- what symmetry tells, and its file ---------------------------------------------------------


def _analysed(source: Crystals) -> tuple[Crystals, list[tuple[int, ...]], list[str]]:
    """Primitive cells, slots and names of prototypes; a crystal without symmetry found is left out."""
    cells, slots, names = [], list[tuple[int, ...]](), list[str]()
    for crystal in source:
        if crystal.atomic_numbers.max() > MAX_ATOMIC_NUMBER:
            continue
        try:
            found = symmetry_of(crystal, _SYMPREC)
        except ValueError:
            continue
        signatures = _signatures(crystal, found)
        slots.append(tuple(z for z, _ in signatures))
        names.append(f"{found.number}|" + "|".join(s for _, s in signatures))
        primitive = found.prim_std_cell
        if len(primitive.numbers) < len(crystal.atomic_numbers):
            numbers = np.array(primitive.numbers, dtype=np.int64)
            crystal = Crystals(
                numbers, np.array(primitive.positions) % 1.0, np.array([primitive.basis]),
                np.array([len(numbers)], dtype=np.int64), crystal.ids,
            )  # fmt: skip
        cells.append(crystal)
    return Crystals.concatenate(cells) if cells else Crystals.empty(), slots, names


def _signatures(crystal: Crystals, found: Found) -> list[tuple[int, str]]:
    """Each element and what its orbits are, in the order of the latter."""
    orbits: dict[int, list[str]] = defaultdict(list)
    for element, num, group in orbits_of(crystal, found):
        orbits[element].append(f"{num}{group}")
    return sorted(((z, ",".join(sorted(o))) for z, o in orbits.items()), key=lambda item: (item[1], item[0]))


def _write(path: Path, crystals: Crystals, slots: Sequence[tuple[int, ...]], names: Sequence[str]) -> None:
    table = crystals.to_arrow()
    table = table.append_column("slots", pa.array([list(s) for s in slots], pa.list_(pa.int64())))
    table = table.append_column("prototype", pa.array(list(names), pa.string()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(table, path)
    except OSError:  # a cache folder that cannot be written to costs time, not results
        return


def _read(path: Path) -> tuple[Crystals, list[tuple[int, ...]], list[str]] | None:
    try:
        table = pq.read_table(path)
        crystals = Crystals.from_arrow(table)
        return crystals, [tuple(s) for s in table["slots"].to_pylist()], table["prototype"].to_pylist()
    except (OSError, KeyError, ValueError, pa.ArrowException):  # cut short, or of another version
        return None


def subsystems_of(system: System) -> Iterator[System]:
    """The system and its parts of two or more elements, the smallest first; see :data:`MOST_ELEMENTS`."""
    for size in range(2, (len(system) if len(system) <= MOST_ELEMENTS else 3) + 1):
        yield from itertools.combinations(sorted(system), size)
