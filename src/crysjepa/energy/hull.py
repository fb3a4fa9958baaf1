"""The convex hull of formation energies (paper, Eq. 5 and 6), tagged with where its energies come from."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.energy.columns import above_hull_column, near_formation_energy
from crysjepa.energy.elemental_references import ElementalReferences, check_scales
from crysjepa.energy.limits import no_formation_energy
from crysjepa.energy.simplex import mixture
from crysjepa.runtime.files import file_metadata, metadata_of
from crysjepa.runtime.notes import note

if TYPE_CHECKING:
    from pymatgen.core import Composition

    from crysjepa.core.candidates import CandidateTable

Fractions = tuple[tuple[str, float], ...]
"""A composition as sorted (element, atomic fraction) pairs: equal for Li2O and Li4O2."""

ASSUMED_SCALE = "materials_project"
_ELEMENT_BELOW = 1e-3
"""eV/atom: an element further below 0 is on other elemental references."""
_TRACE = 1e-6
"""A phase of which a mixture has no more than this fraction of the atoms is not in it."""


@dataclass(frozen=True)
class HullResult:
    """How far above the hull a composition lies.

    ``e_above_hull`` is in eV/atom and negative below the hull; it is None when it could not be computed,
    and then ``reason`` says why. ``num_entries`` counts the hull's compounds in the chemical system and
    its subsystems: with 0 the crystal was compared with its elements alone.
    """

    e_above_hull: float | None
    reason: str | None
    num_entries: int


@dataclass(frozen=True, eq=False)
class Hull:
    """The lower convex envelope of reference compounds and the elements.

    Elements lie at 0 eV/atom by definition; elemental entries are therefore not used. Make one with
    :meth:`from_entries`, :meth:`from_table` or :meth:`read`.

    Parameters
    ----------
    compounds
        The lowest formation energy (eV/atom) of each composition of two or more elements.
    scale
        Which corrections and references the energies carry, such as ``"materials_project"``. Formation
        energies are comparable with this hull only on the same scale (see
        :func:`crysjepa.energy.elemental_references.check_scales`).
    source
        Where the entries are from, for people.
    scale_stated
        False when the file did not say its scale and :data:`ASSUMED_SCALE` was assumed.
    skipped
        The entries that could not be used: ``{id: reason}``.
    references
        The elemental references behind the formation energies, where the file has them: a hull of a force
        field's own energies (:mod:`crysjepa.evaluation.force_field_hull`).

    num_read
        How many entries there were, those that could not be used included.

    Without a compound it is the hull of the elements alone.
    """

    compounds: Mapping[Fractions, float] = field(repr=False)
    scale: str
    source: str
    scale_stated: bool = True
    skipped: Mapping[str, str] = field(default_factory=dict, repr=False)
    references: ElementalReferences | None = field(default=None, repr=False)
    num_read: int = field(default=0, repr=False)
    _solved: dict[Fractions, tuple[float | None, int]] = field(default_factory=dict, init=False, repr=False)

    # -- making one ------------------------------------------------------------------------

    @classmethod
    def from_entries(
        cls,
        formulas: Sequence[str | Composition],
        formation_energy_per_atom: Sequence[float | None],
        *,
        scale: str,
        source: str,
        ids: Sequence[str] | None = None,
        scale_stated: bool = True,
        references: ElementalReferences | None = None,
        elements_alone: bool = False,
    ) -> Hull:
        """From parallel lists of compositions and formation energies (eV/atom).

        Unreadable formulas and energies that are not finite, or that no compound has
        (:func:`~crysjepa.energy.limits.no_formation_energy`), are left out and kept in ``skipped`` under
        their id (``entry-0``, ``entry-1``, ... without ids); so are elements below 0, which come first: their
        energies are likely no formation energies. Raises ValueError if no compound is left, unless
        ``elements_alone`` says that this may be.
        """
        names = ids if ids is not None else [f"entry-{i}" for i in range(len(formulas))]
        compounds: dict[Fractions, float] = {}
        skipped: dict[str, str] = {}
        elements: dict[str, str] = {}
        for name, formula, energy in zip(names, formulas, formation_energy_per_atom, strict=True):
            fractions, reason = _read_composition(formula)
            if fractions is None:
                skipped[str(name)] = reason
            elif not _is_finite(energy):
                skipped[str(name)] = "its formation energy is missing or not a finite number"
            elif len(fractions) == 1:
                if energy is not None and energy < -_ELEMENT_BELOW:
                    elements[str(name)] = (
                        f"the element {fractions[0][0]} at {energy:g} eV/atom, where a hull of formation "
                        "energies has 0: are these total energies?"
                    )
            else:
                assert energy is not None
                if (absurd := no_formation_energy(energy)) is not None:
                    skipped[str(name)] = absurd
                else:
                    compounds[fractions] = min(float(energy), compounds.get(fractions, math.inf))
        skipped = elements | skipped
        if not compounds and not elements_alone:
            why = f" ({_told(skipped, len(names))})" if skipped else ""
            raise ValueError(f"the hull from {source} has no compound with a formation energy{why}")
        return cls(compounds, scale, source, scale_stated, skipped, references, num_read=len(names))

    @classmethod
    def from_table(
        cls,
        table: CandidateTable,
        *,
        scale: str,
        source: str,
        use_e_above_hull: bool = True,
        scale_stated: bool = True,
    ) -> Hull:
        """From any table with structures and a column ``formation_energy_per_atom`` (eV/atom).

        A data set seldom contains every competing phase its publisher knew. Where it also has
        ``e_above_hull``, formation_energy_per_atom − e_above_hull is the height of the publisher's own,
        fuller hull at that composition, and since a convex hull never rises above a straight line
        between two of its points, such points only bring ours closer to it. They are used unless
        ``use_e_above_hull`` is False; a crystal listed *below* the hull counts with its own energy.

        Raises ValueError without the column, or when no row is usable.
        """
        if "formation_energy_per_atom" not in table:
            near = near_formation_energy(map(str, table.frame.columns))
            raise ValueError(
                f"{source} has no column formation_energy_per_atom: no hull can be made from it{near}"
            )
        crystals = table.crystals()
        energies = table.column("formation_energy_per_atom", crystals.ids)
        name = above_hull_column(map(str, table.frame.columns))
        if use_e_above_hull and name is not None:
            above = table.column(name, crystals.ids)
            energies = [_lowered(e, a) for e, a in zip(energies, above, strict=True)]
        hull = cls.from_entries(
            crystals.compositions(),
            energies,
            scale=scale,
            source=source,
            ids=crystals.ids,
            scale_stated=scale_stated,
        )
        without = {i: "no structure" for i in table.ids if i not in set(crystals.ids)}
        skipped = {**without, **hull.skipped}
        return cls(hull.compounds, scale, source, scale_stated, skipped, num_read=len(table.ids))

    @classmethod
    def read(cls, path: str | Path, *, scale: str | None = None, use_e_above_hull: bool = True) -> Hull:
        """From a Parquet file with the columns ``composition`` and ``formation_energy_per_atom``.

        Energies above the hull, where the file has them, are used as in :meth:`from_table`.

        The scale is ``scale``, or ``"scale"`` in the JSON of the file's metadata key ``crysjepa``, or
        :data:`ASSUMED_SCALE` with ``scale_stated`` False. A column ``id`` names the skipped entries;
        ``"elemental_references"`` of the metadata become ``references``.

        Raises ValueError for any other file; for data sets of structures there is
        :func:`crysjepa.evaluation.metrics.load_hull`.
        """
        path = Path(path)
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
            above = above_hull_column(columns) if use_e_above_hull else None
            table = file.read(columns=[*wanted, *([above] if above else [])])
            told = metadata_of(file.schema_arrow)
            stated = scale or told.get("scale")
        references = told.get("elemental_references")
        energies = [_number(v) for v in table["formation_energy_per_atom"].to_pylist()]
        if above is not None:
            heights = table[above].to_pylist()
            if unread := [v for v in heights if v is not None and v == v and _number(v) is None]:
                such = repr(str(unread[0])[:20])
                note(f"{path.name}: {len(unread)} cells of {above}, such as {such}, are no numbers")
            energies = [_lowered(e, _number(a)) for e, a in zip(energies, heights, strict=True)]
        return cls.from_entries(
            table["composition"].to_pylist(),
            energies,
            scale=stated or ASSUMED_SCALE,
            source=path.name,
            ids=table["id"].to_pylist() if "id" in columns else None,
            scale_stated=stated is not None,
            references=None if references is None else ElementalReferences(**references),
        )

    def joined(self, other: Hull) -> Hull:
        """The hull of both: of a compound that both have, the lower energy.

        Raises ScaleMismatch if they are on different scales.
        """
        check_scales(self.scale, other.scale)
        both = dict(self.compounds)
        for compound, energy in other.compounds.items():
            both[compound] = min(energy, both.get(compound, math.inf))
        return Hull(
            both,
            self.scale,
            f"{self.source} + {other.source}",
            self.scale_stated and other.scale_stated,
            {**self.skipped, **other.skipped},
            self.references or other.references,
            num_read=self.num_read + other.num_read,
        )

    # -- what is to be told of it ------------------------------------------------------------

    @property
    def left_out(self) -> str | None:
        """How many entries could not be used, and why the first of them; None where all could."""
        if not self.skipped:
            return None
        return _told(self.skipped, self.num_read)

    @property
    def scale_said(self) -> str:
        """The scale for people: whether it is the file's word."""
        return self.scale if self.scale_stated else f"not stated, taken as {self.scale}"

    # -- asking it -------------------------------------------------------------------------

    def energy(self, composition: Composition | str | Mapping[str, float]) -> float | None:
        """Height of the hull at a composition in eV/atom, at most 0 (Eq. 5).

        None when the composition cannot be read (or the solver gives up, which should not happen: the
        elements make every composition feasible).
        """
        fractions, _ = _read_composition(composition)
        return None if fractions is None else self._solve(fractions)[0]

    def e_above_hull(
        self, composition: Composition | str | Mapping[str, float], formation_energy_per_atom: float | None
    ) -> HullResult:
        """Energy above the hull, E_f − E_hull, in eV/atom (Eq. 6); never raises for a bad row."""
        fractions, reason = _read_composition(composition)
        if fractions is None:
            return HullResult(None, reason, 0)
        height, num_entries = self._solve(fractions)
        if not _is_finite(formation_energy_per_atom):
            return HullResult(None, "no finite formation energy", num_entries)
        if height is None:
            return HullResult(None, "the hull's linear programme was not solved", num_entries)
        assert formation_energy_per_atom is not None
        return HullResult(float(formation_energy_per_atom) - height, None, num_entries)

    def decomposition(self, composition: Composition | str | Mapping[str, float]) -> dict[Fractions, float]:
        """The mixture of compounds and elements that the hull is made of at a composition (Eq. 5).

        Atomic fractions of each, which add up to 1; an element is ``((symbol, 1.0),)``. Empty when the
        composition cannot be read.
        """
        fractions, _ = _read_composition(composition)
        if fractions is None:
            return {}
        elements = [element for element, _ in fractions]
        points = [m for m in self._within(elements) if self.compounds[m] < 0]
        amounts = self._mixture(fractions, elements, points)
        if amounts is None:
            return {}
        phases: list[Fractions] = [*(((e, 1.0),) for e in elements), *points]
        return {p: float(a) for p, a in zip(phases, amounts, strict=True) if a > _TRACE}

    def entries(self, elements: Sequence[str]) -> dict[Fractions, float]:
        """Compounds in a chemical system and its subsystems, with their formation energies in eV/atom."""
        return {composition: self.compounds[composition] for composition in self._within(elements)}

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the scale and the compounds: independent of their order and of duplicates above."""
        return hashlib.sha256(repr((self.scale, sorted(self.compounds.items()))).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.compounds)

    # -- solving ---------------------------------------------------------------------------

    @cached_property
    def _systems(self) -> dict[frozenset[str], list[Fractions]]:
        """Compounds by exact set of elements, in sorted order."""
        systems: dict[frozenset[str], list[Fractions]] = {}
        for fractions in sorted(self.compounds):
            systems.setdefault(frozenset(e for e, _ in fractions), []).append(fractions)
        return systems

    def _within(self, elements: Sequence[str]) -> Iterator[Fractions]:
        """Compounds in the chemical system and its subsystems."""
        if 2 ** len(elements) <= len(self._systems):
            for size in range(2, len(elements) + 1):
                for subset in combinations(elements, size):
                    yield from self._systems.get(frozenset(subset), ())
        else:
            wanted = frozenset(elements)
            for system, members in self._systems.items():
                if system <= wanted:
                    yield from members

    def _solve(self, fractions: Fractions) -> tuple[float | None, int]:
        if fractions not in self._solved:
            elements = [element for element, _ in fractions]
            members = list(self._within(elements))
            # A compound at or above 0 is never preferred to its elements.
            points = [m for m in members if self.compounds[m] < 0]
            height = self._minimise(fractions, elements, points) if points else 0.0
            self._solved[fractions] = (height, len(members))
        return self._solved[fractions]

    def _minimise(self, target: Fractions, elements: list[str], points: list[Fractions]) -> float | None:
        amounts = self._mixture(target, elements, points)
        if amounts is None:
            return None
        height = float(amounts[len(elements) :] @ np.array([self.compounds[p] for p in points]))
        # The solver's tolerance must not put a compound above itself.
        return min(height, self.compounds.get(target, 0.0), 0.0)

    def _mixture(
        self, target: Fractions, elements: list[str], points: list[Fractions]
    ) -> NDArray[np.float64] | None:
        """Eq. 5: min Σ λ_j E_j over λ ≥ 0 with Σ λ_j f_j = f. (Σ λ_j = 1 follows, as fractions sum to 1.)

        λ of the elements, then of the compounds ``points``; None where the solver gives up.
        """
        column = {element: i for i, element in enumerate(elements)}
        amounts = np.zeros((len(points), len(elements)))
        for row, point in enumerate(points):
            for element, fraction in point:
                amounts[row, column[element]] = fraction
        energies = np.array([self.compounds[p] for p in points], dtype=np.float64)
        wanted = np.array([fraction for _, fraction in target])
        energy, phases, shares = mixture(amounts, energies, wanted)
        if np.isnan(energy):
            return None
        found = np.zeros(len(elements) + len(points))
        found[phases] = np.maximum(shares, 0.0)
        return found


def fractions_of(composition: Composition) -> Fractions:
    """What a hull knows a composition by."""
    amounts = composition.get_el_amt_dict()
    total = sum(amounts.values())
    return tuple(sorted((e, round(n / total, 12)) for e, n in amounts.items() if n > 0))


def _read_composition(composition: Any) -> tuple[Fractions | None, str]:
    from pymatgen.core import Composition, Element

    try:
        found = Composition(composition)
    except Exception as error:  # noqa: BLE001 - pymatgen's formula parser; the reason is handed back
        return None, f"{composition!r} is not a composition ({error})"
    if isinstance(composition, str) and (dotted := _dotted(composition)):
        return None, (
            f"{composition!r} is not a composition ({dotted} may be a number or a dot between two formulas: "
            "write it as one formula)"
        )
    unknown = [e.symbol for e in found.elements if not Element.is_valid_symbol(e.symbol)]
    if unknown:
        return (
            None,
            f"{composition!r} is not a composition ({unknown[0]} is no element; upper and lower case count)",
        )
    total = sum(found.get_el_amt_dict().values())
    if not _is_finite(total) or total <= 0:
        return None, f"{composition!r} is not a composition (no atoms)"
    return fractions_of(found), ""


def _dotted(formula: str) -> str | None:
    """``4.2`` of ``CaSO4.2H2O`` or ``3.2`` of ``Al2O3.2SiO2``, which pymatgen reads as amounts."""
    for amount in re.finditer(r"([A-Z][a-z]?)((?:[1-9]\d*)?\.\d+)(?=[A-Z(])", formula):
        behind = re.sub(r"\([^()]*\)", "", formula[amount.end() :])
        if re.match(r"(H2O|NH3)(?!\d)", behind) or re.search(rf"{amount[1]}(?![a-z])", behind):
            return amount[2]
    return None


def _told(skipped: Mapping[str, str], num_read: int) -> str:
    id_, reason = next(iter(skipped.items()))
    more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{len(skipped)} of {num_read} entries left out ({id_}: {reason}{more})"


def _number(value: Any) -> float | None:
    """A cell of a file's column, which may hold numbers as text or decimals; None for what is no number."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _lowered(energy: float | None, above: float | None) -> float | None:
    if energy is None or above is None or not _is_finite(above):
        return energy
    return energy - max(above, 0.0)


def _is_finite(value: float | None) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def stated_scale(path: str | Path) -> str | None:
    """The scale that a Parquet file's own metadata state, or those of the Parquet files in a folder.

    None if none is stated, and for other files. Raises ValueError for a folder whose files differ.
    """
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    parts = [f for f in files if f.suffix.lower() == ".parquet" and f.is_file()]
    found = {f: file_metadata(f).get("scale") for f in parts}
    if all(scale is None for scale in found.values()):
        return None
    scales = sorted({str(scale or ASSUMED_SCALE) for scale in found.values()})
    if len(scales) > 1:
        stated = ", ".join(f"{f.name}: {scale or 'none stated'}" for f, scale in list(found.items())[:3])
        raise ValueError(
            f"the files in {path} are on different energy scales ({stated}): give them one by one"
        )
    return scales[0]
