"""The one batch type for crystals, and its round trips to pymatgen, ASE and Arrow.

Every stage of crysjepa takes and returns :class:`Crystals`. Conversions to and from other
libraries' objects live here and nowhere else.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Composition, Structure

ARROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("atomic_numbers", pa.list_(pa.uint8())),
        ("frac_coords", pa.list_(pa.float64())),
        ("lattice", pa.list_(pa.float64())),
    ]
)
"""Columns of a crystal on disk: ``frac_coords`` is flat (3N), ``lattice`` holds rows a, b, c in Å."""

MAX_SITES = 10_000
"""Larger cells are neither read nor looked at for symmetry."""
MAX_LENGTH = 10_000.0
"""Å; of a lattice vector. Reduction is exact to some 1e-8 Å² of its square, which rounding exceeds beyond."""
MAX_COORDINATE = 10_000.0
"""Fractional coordinates beyond have lost their digits, and are not read."""


@dataclass(frozen=True, eq=False)
class Crystals:
    """A batch of B crystals with N sites in all, as a structure of arrays.

    Parameters
    ----------
    atomic_numbers
        (N,) integers, 1 to 118.
    frac_coords
        (N, 3) fractional coordinates.
    lattices
        (B, 3, 3) in Å; rows are the lattice vectors a, b, c.
    num_atoms
        (B,) sites in each crystal, each at least 1; they sum to N.
    ids
        B strings. Unique within any file that crysjepa writes.

    Raises
    ------
    ValueError
        If shapes or counts contradict one another.
    """

    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattices: NDArray[np.float64]
    num_atoms: NDArray[np.int64]
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        convert = object.__setattr__
        convert(self, "atomic_numbers", np.asarray(self.atomic_numbers, dtype=np.int64).reshape(-1))
        convert(self, "frac_coords", np.asarray(self.frac_coords, dtype=np.float64).reshape(-1, 3))
        convert(self, "lattices", np.asarray(self.lattices, dtype=np.float64).reshape(-1, 3, 3))
        convert(self, "num_atoms", np.asarray(self.num_atoms, dtype=np.int64).reshape(-1))
        convert(self, "ids", tuple(str(i) for i in self.ids))
        sites, batch = len(self.atomic_numbers), len(self.num_atoms)
        if len(self.frac_coords) != sites:
            raise ValueError(f"{sites} atomic_numbers but {len(self.frac_coords)} frac_coords")
        if len(self.lattices) != batch or len(self.ids) != batch:
            raise ValueError(
                f"{batch} num_atoms, {len(self.lattices)} lattices and {len(self.ids)} ids disagree"
            )
        if self.num_atoms.sum() != sites or (batch and self.num_atoms.min() < 1):
            raise ValueError(f"num_atoms sum to {self.num_atoms.sum()}, not to {sites} sites, or one is < 1")

    # -- as a sequence ---------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.num_atoms)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Crystals:
        """Crystals at ``index`` (an integer, slice, boolean mask or list of positions), in that order.

        Always a copy. Raises IndexError for a position that is out of range.
        """
        if isinstance(index, int | np.integer):
            row = range(len(self))[int(index)]  # counts negative ones from the end, and raises IndexError
            span = slice(self.offsets[row], self.offsets[row + 1])
            return Crystals(
                self.atomic_numbers[span].copy(),
                self.frac_coords[span].copy(),
                self.lattices[row].copy(),
                self.num_atoms[row].copy(),
                (self.ids[row],),
            )
        if not isinstance(index, slice) and not len(index):
            return Crystals.empty()
        rows = np.arange(len(self))[index if isinstance(index, slice) else np.asarray(index)]
        sites = (
            np.concatenate([np.arange(self.offsets[r], self.offsets[r + 1]) for r in rows])
            if len(rows)
            else np.zeros(0, dtype=np.int64)
        )
        return Crystals(
            self.atomic_numbers[sites],
            self.frac_coords[sites],
            self.lattices[rows],
            self.num_atoms[rows],
            tuple(self.ids[r] for r in rows),
        )

    def __iter__(self) -> Iterator[Crystals]:
        return (self[i] for i in range(len(self)))

    def select(self, ids: Sequence[str]) -> Crystals:
        """Crystals with these ids, in the order asked for. Raises KeyError for an unknown id."""
        position = {id_: i for i, id_ in enumerate(self.ids)}
        return self[[position[i] for i in ids]]

    def with_ids(self, ids: Sequence[str]) -> Crystals:
        """The same crystals under other ids."""
        return Crystals(self.atomic_numbers, self.frac_coords, self.lattices, self.num_atoms, tuple(ids))

    @classmethod
    def empty(cls) -> Crystals:
        """A batch of none."""
        return cls(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0), ())  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, batches: Sequence[Crystals]) -> Crystals:
        """One batch from several, in order."""
        if not batches:
            return cls.empty()
        return cls(
            np.concatenate([b.atomic_numbers for b in batches]),
            np.concatenate([b.frac_coords for b in batches]),
            np.concatenate([b.lattices for b in batches]),
            np.concatenate([b.num_atoms for b in batches]),
            tuple(i for b in batches for i in b.ids),
        )

    # -- derived quantities ----------------------------------------------------------------

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(B + 1,) positions where each crystal's sites begin."""
        return np.concatenate([[0], np.cumsum(self.num_atoms)]).astype(np.int64)

    @cached_property
    def volumes(self) -> NDArray[np.float64]:
        """(B,) cell volumes in Å³ (never negative)."""
        return np.abs(np.linalg.det(self.lattices)) if len(self) else np.zeros(0)

    def compositions(self) -> list[Composition]:
        """B pymatgen compositions (of the cell, not reduced)."""
        from pymatgen.core import Composition, Element

        out = []
        for i in range(len(self)):
            numbers, counts = np.unique(self._sites(i), return_counts=True)
            out.append(
                Composition({Element.from_Z(int(z)): int(n) for z, n in zip(numbers, counts, strict=True)})
            )
        return out

    def reduced_formulas(self) -> list[str]:
        """B reduced formulas in pymatgen's form, such as ``"Li2O"``."""
        with warnings.catch_warnings():  # elements are ordered by electronegativity; He, Ne and Ar have none
            warnings.filterwarnings("ignore", message="No Pauling electronegativity", category=UserWarning)
            return [c.reduced_formula for c in self.compositions()]

    def chemical_systems(self) -> list[str]:
        """B chemical systems in pymatgen's form, such as ``"Li-O"``."""
        from pymatgen.core import Element

        return [
            "-".join(sorted(Element.from_Z(int(z)).symbol for z in np.unique(self._sites(i))))
            for i in range(len(self))
        ]

    def content_hash(self) -> str:
        """SHA-256 over ids and every array: equal exactly when the crystals are."""
        digest = hashlib.sha256("\0".join(self.ids).encode())
        for array in (self.atomic_numbers, self.frac_coords, self.lattices, self.num_atoms):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _sites(self, i: int) -> NDArray[np.int64]:
        return self.atomic_numbers[self.offsets[i] : self.offsets[i + 1]]

    # -- round trips -----------------------------------------------------------------------

    @classmethod
    def from_structures(cls, structures: Sequence[Structure], ids: Sequence[str] | None = None) -> Crystals:
        """From ordered pymatgen structures; oxidation states are left off, deuterium is hydrogen.

        Raises ValueError, with the index and the formula, for a partially occupied site, a site that is no
        element, fewer than three periodic directions, and numbers that are not finite.
        """
        from pymatgen.core import DummySpecies

        for i, structure in enumerate(structures):
            kinds = structure.composition.elements
            strangers = [str(k) for k in kinds if isinstance(k, DummySpecies)]
            reason = (
                "a site is partially occupied"
                if not structure.is_ordered
                else f"{strangers[0]!r} is not an element"
                if strangers
                else _why_none(structure.lattice.matrix, structure.frac_coords, structure.lattice.pbc)
            )
            if reason:
                raise ValueError(f"structure {i} ({structure.formula}): {reason}")
        return cls._join(
            [[site.specie.Z for site in s] for s in structures],
            [s.frac_coords for s in structures],
            [s.lattice.matrix for s in structures],
            ids,
        )

    def to_structures(self) -> list[Structure]:
        """B pymatgen structures."""
        from pymatgen.core import Lattice, Structure

        return [Structure(Lattice(c.lattices[0]), c.atomic_numbers.tolist(), c.frac_coords) for c in self]

    @classmethod
    def from_atoms(cls, atoms: Sequence[Atoms], ids: Sequence[str] | None = None) -> Crystals:
        """From ASE atoms.

        Raises ValueError, with the index and the formula, for a cell without volume, fewer than three
        periodic directions, an atomic number that is none, partial occupation, and numbers that are not
        finite.
        """
        for i, a in enumerate(atoms):
            if reason := why_no_crystal(a):
                raise ValueError(f"atoms {i} ({a.get_chemical_formula()}): {reason}")
        return cls._join(
            [a.numbers for a in atoms],
            [a.get_scaled_positions(wrap=False) for a in atoms],
            [a.cell.array for a in atoms],
            ids,
        )

    def to_atoms(self) -> list[Atoms]:
        """B ASE atoms, periodic in three directions."""
        from ase import Atoms

        return [
            Atoms(numbers=c.atomic_numbers, scaled_positions=c.frac_coords, cell=c.lattices[0], pbc=True)
            for c in self
        ]

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Crystals:
        """From a table with the columns of :data:`ARROW_SCHEMA` (others are ignored).

        Raises ValueError when a column is missing or a row has no structure.
        """
        missing = [n for n in ARROW_SCHEMA.names if n not in table.column_names]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}: not a table of crystals")
        table = table.select(ARROW_SCHEMA.names).combine_chunks()
        if any(table[name].null_count for name in ARROW_SCHEMA.names):
            raise ValueError("a row has no structure")
        lists = {n: table[n].combine_chunks() for n in ARROW_SCHEMA.names[1:]}
        lengths = {n: a.value_lengths().to_numpy(zero_copy_only=False) for n, a in lists.items()}
        counts = lengths["atomic_numbers"]
        odd = (lengths["frac_coords"] != 3 * counts) | (lengths["lattice"] != 9)
        if odd.any():
            raise ValueError(f"sites, coordinates and lattice disagree in row {odd.argmax()}")
        flat = {n: a.flatten().to_numpy(zero_copy_only=False) for n, a in lists.items()}
        z = flat["atomic_numbers"]
        if not ((z >= 1) & (z <= 118) & (z == np.floor(z))).all():
            raise ValueError("an atomic number is not that of an element (1 to 118)")
        return cls(
            flat["atomic_numbers"],
            flat["frac_coords"],
            flat["lattice"],
            counts,
            tuple(table["id"].to_pylist()),
        )

    def to_arrow(self) -> pa.Table:
        """A table with the columns of :data:`ARROW_SCHEMA`, a row a crystal."""
        offsets = pa.array(self.offsets, type=pa.int32())
        cells = pa.array(np.arange(len(self) + 1) * 9, type=pa.int32())
        columns = [
            pa.array(self.ids, type=pa.string()),
            pa.ListArray.from_arrays(offsets, pa.array(self.atomic_numbers, type=pa.uint8())),
            pa.ListArray.from_arrays(
                pa.array(self.offsets * 3, type=pa.int32()), pa.array(self.frac_coords.reshape(-1))
            ),
            pa.ListArray.from_arrays(cells, pa.array(self.lattices.reshape(-1))),
        ]
        return pa.Table.from_arrays(columns, schema=ARROW_SCHEMA)

    @classmethod
    def _join(
        cls, numbers: Sequence[Any], coords: Sequence[Any], cells: Sequence[Any], ids: Sequence[str] | None
    ) -> Crystals:
        if not len(numbers):
            return cls.empty()
        return cls(
            np.concatenate([np.asarray(z) for z in numbers]),
            np.concatenate([np.asarray(x) for x in coords]),
            np.stack([np.asarray(c) for c in cells]),
            np.asarray([len(z) for z in numbers]),
            tuple(ids) if ids is not None else tuple(f"crystal-{i}" for i in range(len(numbers))),
        )


def why_no_crystal(atoms: Atoms) -> str:
    """Why ASE's atoms are no crystal, in a few words; nothing if they are one."""
    if len(atoms) == 0:
        return "no atom sites"
    if reason := _why_none(atoms.cell.array, atoms.positions, atoms.pbc):
        return reason
    if not ((atoms.numbers >= 1) & (atoms.numbers <= 118)).all():
        return "an atomic number is not that of an element (1 to 118)"
    declared = atoms.info.get("occupancy")
    of_sites = declared.values() if isinstance(declared, dict) else []
    arrays = [atoms.arrays[n] for n in ("occupancy", "occupancies", "occ") if n in atoms.arrays]
    shares = [
        float(v) for site in of_sites for v in (site.values() if isinstance(site, dict) else [site])
    ] + [float(v) for a in arrays for v in np.ravel(a)]
    if any(not abs(share - 1) <= 1e-3 for share in shares):
        return "a site is partially occupied"
    return ""


def _why_none(cell: NDArray[Any], coords: NDArray[Any], periodic: Sequence[bool]) -> str:
    if not np.any(cell):
        return "no unit cell"
    if not all(periodic):
        return "not periodic in all three directions"
    if not (np.isfinite(cell).all() and np.isfinite(coords).all()):
        return "a coordinate or the lattice is not finite"
    if (longest := float(np.abs(cell).max())) > MAX_LENGTH:
        return f"a lattice vector of {longest:.2g} Å (limit {MAX_LENGTH:g})"
    if abs(np.linalg.det(cell)) < 1e-9:
        return "singular cell (volume 0)"
    return ""
