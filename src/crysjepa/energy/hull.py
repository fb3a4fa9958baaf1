"""The convex hull of formation energies (paper, Eq. 5 and 6), tagged with where its energies come from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from crysjepa.energy.columns import (
    above_hull_columns,
    check_heights,
    near_formation_energy,
    stated_in,
    telling_columns,
)
from crysjepa.energy.competing_phases import CompetingPhases
from crysjepa.energy.compositions import Fractions, is_finite, read_composition
from crysjepa.energy.elemental_references import ElementalReferences, check_scales
from crysjepa.energy.hull_entries import lowered, read_entries, skipped_summary, usable_entries

if TYPE_CHECKING:
    from pymatgen.core import Composition

    from crysjepa.core.candidates import CandidateTable

ASSUMED_SCALE = "materials_project"


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
        compounds, skipped = usable_entries(names, formulas, formation_energy_per_atom)
        if not compounds and not elements_alone:
            why = f" ({skipped_summary(skipped, len(names))})" if skipped else ""
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

        Raises ValueError without the column, when no row is usable, or when columns of heights, of units or
        of scales contradict one another or what is known (:class:`~crysjepa.energy.columns.UnclearColumns`).
        """
        if "formation_energy_per_atom" not in table:
            near = near_formation_energy(map(str, table.frame.columns))
            raise ValueError(
                f"{source} has no column formation_energy_per_atom: no hull can be made from it{near}"
            )
        crystals = table.crystals()
        energies = table.column("formation_energy_per_atom", crystals.ids)
        names = list(map(str, table.frame.columns))
        told = {name: table.column(name) for name in telling_columns(names)}
        stated = stated_in(told, source, scale if scale_stated else None)
        scale, scale_stated = stated or scale, stated is not None
        heights = {name: table.column(name, crystals.ids) for name in above_hull_columns(names)}
        if use_e_above_hull and heights:
            check_heights(heights)
            energies = lowered(energies, next(iter(heights.values())))
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
        entries = read_entries(path, use_e_above_hull=use_e_above_hull)
        stated = stated_in(entries.told, path.name, scale or entries.metadata.get("scale"))
        references = entries.metadata.get("elemental_references")
        return cls.from_entries(
            entries.formulas,
            entries.energies,
            scale=stated or ASSUMED_SCALE,
            source=path.name,
            ids=entries.ids,
            scale_stated=stated is not None,
            references=None if references is None else ElementalReferences(**references),
        )

    def joined(self, other: Hull) -> Hull:
        """The hull of both: of a compound that both have, the lower energy.

        Raises ScaleMismatch if they are on different scales.
        """
        check_scales(other.scale, self.scale, given=f"the energies of {other.source}")
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

    @property
    def left_out(self) -> str | None:
        """How many entries could not be used, and why the first of them; None where all could."""
        if not self.skipped:
            return None
        return skipped_summary(self.skipped, self.num_read)

    @property
    def scale_description(self) -> str:
        """The scale for people: whether it is the file's word."""
        return self.scale if self.scale_stated else f"not stated, taken as {self.scale}"

    def energy(self, composition: Composition | str | Mapping[str, float]) -> float | None:
        """Height of the hull at a composition in eV/atom, at most 0 (Eq. 5).

        None when the composition cannot be read (or the solver gives up, which should not happen: the
        elements make every composition feasible).
        """
        fractions, _ = read_composition(composition)
        return None if fractions is None else self._phases.height(fractions)[0]

    def e_above_hull(
        self, composition: Composition | str | Mapping[str, float], formation_energy_per_atom: float | None
    ) -> HullResult:
        """Energy above the hull, E_f − E_hull, in eV/atom (Eq. 6); never raises for a bad row."""
        fractions, reason = read_composition(composition)
        if fractions is None:
            return HullResult(None, reason, 0)
        height, num_entries = self._phases.height(fractions)
        if not is_finite(formation_energy_per_atom):
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
        fractions, _ = read_composition(composition)
        return {} if fractions is None else self._phases.decomposition(fractions)

    def entries(self, elements: Sequence[str]) -> dict[Fractions, float]:
        """Compounds in a chemical system and its subsystems, with their formation energies in eV/atom."""
        return {composition: self.compounds[composition] for composition in self._phases.within(elements)}

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the scale and the compounds: independent of their order and of duplicates above."""
        return hashlib.sha256(repr((self.scale, sorted(self.compounds.items()))).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.compounds)

    @cached_property
    def _phases(self) -> CompetingPhases:
        return CompetingPhases(self.compounds)
