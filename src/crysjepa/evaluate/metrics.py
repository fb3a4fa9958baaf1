"""Validity, stability, uniqueness, novelty, S.U.N. and V.S.U.N. (paper, appendix D.2, Eq. 21 to 23)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import binomtest

from crysjepa import datasets
from crysjepa.candidates import CandidateTable, Status
from crysjepa.crystals import Crystals
from crysjepa.energy.hull import ASSUMED_SCALE, Hull, HullResult, stated_scale
from crysjepa.energy.references import ElementalReferences, check_scales
from crysjepa.screen.filters import composition_validity, structure_validity
from crysjepa.screen.matching import FormulaIndex, Matching, novel, unique

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Composition

StageProgress = Callable[[str, int, int], None]

_RATES = {
    "valid": ("valid",),
    "stable": ("stable",),
    "unique": ("unique",),
    "novel": ("novel",),
    "sun": ("stable", "unique", "novel"),
    "vsun": ("valid", "stable", "unique", "novel"),
    "converged": ("converged",),
}


# -- rates -----------------------------------------------------------------------------------


def crystal_metrics(table: CandidateTable) -> dict[str, Any]:
    """Rates over *all* rows from the columns ``valid``, ``stable``, ``unique``, ``novel`` and ``converged``.

    A row whose value is null (it failed, or could not be judged) counts against the rate: the denominator
    is always the number of rows.

    Returns
    -------
    dict
        ``num_crystals``; ``valid``, ``stable``, ``unique``, ``novel``, ``sun`` (Eq. 22) and ``vsun``
        (Eq. 23) as fractions; ``converged``, the fraction whose relaxation converged; ``stable_at_0``, the
        fraction with ``e_above_hull`` ≤ 0; ``intervals`` with a Wilson 95 % interval ``[low, high]`` for
        each of these; ``num_vsun_without_hull_entries``, the number of V.S.U.N. rows for which the hull
        has no compound (``hull_entries`` 0), so that they were compared with the elements only;
        ``counts``, the number of rows by state (:meth:`CandidateTable.counts`). A rate is None if one of
        its columns is absent, or without rows; the number is None if one of its columns is absent.
    """
    hits: dict[str, list[bool] | None] = {}
    for name, columns in _RATES.items():
        if all(c in table for c in columns):
            values = [table.column(c) for c in columns]
            hits[name] = [all(v is not None and bool(v) for v in row) for row in zip(*values, strict=True)]
        else:
            hits[name] = None
    above = table.column("e_above_hull") if "e_above_hull" in table else None
    # The hull's linear programme is exact to about 1e-8 eV/atom.
    hits["stable_at_0"] = None if above is None else [e is not None and e <= 1e-6 for e in above]
    rates = {name: _rate(hit) for name, hit in hits.items()}
    return {
        "num_crystals": len(table),
        **{name: rate for name, (rate, _) in rates.items()},
        "intervals": {name: interval for name, (_, interval) in rates.items()},
        "num_vsun_without_hull_entries": _without_hull_entries(table, hits["vsun"]),
        "counts": table.counts(),
    }


def _rate(hits: Sequence[bool] | None) -> tuple[float | None, list[float] | None]:
    if not hits:
        return None, None
    result = binomtest(sum(hits), len(hits))
    low, high = result.proportion_ci(confidence_level=0.95, method="wilson")
    return sum(hits) / len(hits), [float(low), float(high)]


def _without_hull_entries(table: CandidateTable, hits: Sequence[bool] | None) -> int | None:
    if hits is None or "hull_entries" not in table:
        return None
    return sum(hit and n == 0 for hit, n in zip(hits, table.column("hull_entries"), strict=True))


# -- judging crystals ------------------------------------------------------------------------


def evaluate_table(
    table: CandidateTable,
    *,
    reference: Crystals | FormulaIndex | None = None,
    hull: Hull | None = None,
    references: ElementalReferences | None = None,
    e_above_hull_max: float = 0.1,
    min_hull_entries: int = 0,
    allow_mixed_scales: bool = False,
    matcher: StructureMatcher | None = None,
    symprec: float = 0.1,
    progress: StageProgress | None = None,
) -> CandidateTable:
    """Judge every crystal of a table, and decide the rows that are still ``ok``.

    Parameters
    ----------
    reference
        Known crystals for novelty; without them ``novel`` is not computed.
    hull
        For stability; without it ``stable`` is not computed.
    references
        Turn the column ``energy_per_atom`` (total, eV/atom) into formation energies. Without them the
        column ``formation_energy_per_atom`` is used as it stands, and must be on the hull's scale.
    e_above_hull_max
        A crystal is stable at or below this many eV/atom above the hull (Eq. 21).
    min_hull_entries
        A compound that seems stable where the hull has fewer known compounds than this in its chemical
        system and subsystems ends ``failed``, without a number: there was nothing to compare it with.
    allow_mixed_scales
        Permit references and a hull of different correction schemes.
    matcher
        pymatgen's StructureMatcher, by default with its default tolerances; it is not used for a
        ``reference`` that is a :class:`FormulaIndex`.
    symprec
        Distance tolerance in Å for ``space_group``.
    progress
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    CandidateTable
        With the columns ``formula``, ``chemical_system``, ``space_group``, ``valid``, ``unique``,
        ``duplicate_of``, and where they were asked for ``novel``, ``matches``,
        ``formation_energy_per_atom``, ``e_above_hull``, ``hull_entries`` and ``stable``.

        A crystal that was rejected earlier is judged all the same. One that had failed (a relaxation gone
        astray, say) is not judged for uniqueness and stability, and makes no other a duplicate: it is null
        in ``unique``, ``duplicate_of``, ``e_above_hull``, ``hull_entries``, ``stable`` and, given
        ``references``, in ``formation_energy_per_atom``. A structure with two sites on one spot, or
        otherwise invalid as a structure, cannot be matched or given an energy, and is null there. The
        decisions are taken in the order validity, uniqueness, novelty, stability; a crystal that could
        not be judged ends ``failed`` at that stage.

    Raises
    ------
    ScaleMismatch
        If ``references`` and ``hull`` are on different scales.
    ValueError
        If stability is asked for and the column that it needs is missing.
    """
    if references is not None and hull is not None:
        check_scales(references.scale, hull.scale, allow_mixed=allow_mixed_scales)
    _check_energy_column(table, hull, references)
    crystals = table.crystals()
    structure = structure_validity(crystals, progress=_stage(progress, "structure"))
    composition = composition_validity(crystals, progress=_stage(progress, "composition"))
    sound = crystals[np.array([structure[i] is None for i in crystals.ids], dtype=bool)]
    # A failed row may hold a structure and an energy that are the end of nothing.
    states = dict(zip(table.ids, table.column("status"), strict=True))
    intact = sound[np.array([states[i] != Status.FAILED for i in sound.ids], dtype=bool)]

    table = _describe(table, crystals, sound, symprec)
    table = _decide_validity(table, crystals, structure, composition)
    duplicates = unique(intact, matcher=matcher, progress=_stage(progress, "uniqueness"))
    table = _decide_matching(table, duplicates, "uniqueness", "unique", "duplicate_of", "duplicate of")
    if reference is not None:
        known = novel(sound, reference, matcher=matcher, progress=_stage(progress, "novelty"))
        table = _decide_matching(table, known, "novelty", "novel", "matches", "matches")
    if references is not None:
        table = _with_formation_energies(table, intact, references)
    if hull is not None:
        table = _decide_stability(table, intact, hull, references, e_above_hull_max, min_hull_entries)
    return table


def _check_energy_column(
    table: CandidateTable, hull: Hull | None, references: ElementalReferences | None
) -> None:
    if references is not None and "energy_per_atom" not in table:
        raise ValueError(
            "references were given, but the table has no column energy_per_atom to apply them to"
        )
    if hull is not None and references is None:
        if "energy_per_atom" in table:
            raise ValueError("energy_per_atom needs elemental references to be compared with a hull")
        if "formation_energy_per_atom" not in table:
            raise ValueError("stability needs a column energy_per_atom or formation_energy_per_atom")


def _describe(table: CandidateTable, crystals: Crystals, sound: Crystals, symprec: float) -> CandidateTable:
    table = _set(
        table, "formula", dict(zip(crystals.ids, crystals.reduced_formulas(), strict=True)), "string"
    )
    systems = dict(zip(crystals.ids, crystals.chemical_systems(), strict=True))
    table = _set(table, "chemical_system", systems, "string")
    return _set(table, "space_group", {c.ids[0]: _space_group(c, symprec) for c in sound}, "string")


def _space_group(crystal: Crystals, symprec: float) -> str | None:
    """International symbol, or None when spglib finds none."""
    import spglib

    cell: Any = (crystal.lattices[0], crystal.frac_coords, crystal.atomic_numbers)
    with warnings.catch_warnings():
        # spglib 2.7 warns that it will raise where it returns None today.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            found = spglib.get_symmetry_dataset(cell, symprec=symprec)
        except Exception:  # noqa: BLE001 - "no symmetry found" in spglib's coming versions; null says so
            return None
    return None if found is None else str(found.international)


def _decide_validity(
    table: CandidateTable,
    crystals: Crystals,
    structure: Mapping[str, str | None],
    composition: Mapping[str, str | None],
) -> CandidateTable:
    reasons = {i: structure[i] or composition[i] for i in crystals.ids}
    table = _set(table, "valid", {i: reason is None for i, reason in reasons.items()}, "boolean")
    missing = {i: "no structure" for i in table.ids if i not in reasons}
    table = table.decide("validity", missing, Status.FAILED)
    return table.decide("validity", _reasons(reasons), Status.REJECTED)


def _decide_matching(
    table: CandidateTable, found: Matching, stage: str, column: str, matched: str, says: str
) -> CandidateTable:
    table = _set(table, column, {i: match is None for i, match in found.matches.items()}, "boolean")
    table = _set(table, matched, found.matches, "string")
    table = table.decide(stage, found.failures, Status.FAILED)
    reasons = {i: f"{says} {match}" for i, match in found.matches.items() if match is not None}
    return table.decide(stage, reasons, Status.REJECTED)


def _with_formation_energies(
    table: CandidateTable, crystals: Crystals, references: ElementalReferences
) -> CandidateTable:
    energies = table.column("energy_per_atom", crystals.ids)
    formation = {
        i: references.formation_energy_per_atom(c, e)[0]
        for i, c, e in zip(crystals.ids, crystals.compositions(), energies, strict=True)
    }
    return _set(table, "formation_energy_per_atom", formation, "Float64")


def _decide_stability(
    table: CandidateTable,
    crystals: Crystals,
    hull: Hull,
    references: ElementalReferences | None,
    e_above_hull_max: float,
    min_hull_entries: int,
) -> CandidateTable:
    formation = table.column("formation_energy_per_atom", crystals.ids)
    totals: dict[str, float | None] = {}
    if references is not None:
        totals = dict(zip(crystals.ids, table.column("energy_per_atom", crystals.ids), strict=True))
    results: dict[str, HullResult] = {}
    failures: dict[str, str] = {}
    for id_, composition, energy in zip(crystals.ids, crystals.compositions(), formation, strict=True):
        results[id_] = hull.e_above_hull(composition, energy)
        reason = results[id_].reason
        if reason and references is not None:  # its reason is nearer to the cause
            reason = references.formation_energy_per_atom(composition, totals[id_])[1] or reason
        if reason:
            failures[id_] = reason
        elif _unsupported(results[id_], composition, e_above_hull_max, min_hull_entries):
            known = results[id_].num_entries
            failures[id_] = f"the hull knows {known or 'no'} compound in {composition.chemical_system}"
            results[id_] = replace(results[id_], e_above_hull=None)
    above = {i: r.e_above_hull for i, r in results.items()}
    table = _set(table, "e_above_hull", above, "Float64")
    table = _set(table, "hull_entries", {i: r.num_entries for i, r in results.items()}, "Int64")
    stable = {i: None if e is None else e <= e_above_hull_max for i, e in above.items()}
    table = _set(table, "stable", stable, "boolean")
    table = table.decide("stability", failures, Status.FAILED)
    unstable = {
        i: f"{above[i]:.3f} eV/atom above the hull" for i, is_stable in stable.items() if is_stable is False
    }
    return table.decide("stability", unstable, Status.REJECTED)


def _unsupported(result: HullResult, composition: Composition, limit: float, entries: int) -> bool:
    """Whether a crystal only looks stable because the hull lacks compounds to compare it with.

    A hull with fewer entries is never lower, so one that is above the limit is unstable all the same.
    """
    above = result.e_above_hull
    return len(composition) > 1 and result.num_entries < entries and above is not None and above <= limit


# -- the hull of a data set ------------------------------------------------------------------


def load_hull(name_or_path: str | Path, *, scale: str | None = None, use_e_above_hull: bool = True) -> Hull:
    """A hull from a Parquet file of compositions, or from any data set with formation energies.

    A Parquet file with the column ``composition`` and no structures is read by :meth:`Hull.read`; everything
    else goes through :func:`crysjepa.datasets.load` and :meth:`Hull.from_table`. The scale is ``scale``, or
    what the Parquet file states, or :data:`~crysjepa.energy.hull.ASSUMED_SCALE` with ``scale_stated`` False.

    Raises
    ------
    ValueError
        If the data have no column ``formation_energy_per_atom`` or no usable row.
    """
    path = Path(name_or_path)
    if _holds_compositions(path):
        return Hull.read(path, scale=scale)
    table = datasets.load(name_or_path)
    if scale is None:
        scale = scale_of(name_or_path)
    return Hull.from_table(
        table,
        scale=scale or ASSUMED_SCALE,
        source=path.name,
        use_e_above_hull=use_e_above_hull,
        scale_stated=scale is not None,
    )


def scale_of(name_or_path: str | Path) -> str | None:
    """The energy scale that a data set's or file's own Parquet metadata state; None if they state none."""
    path = Path(name_or_path)
    file = path if path.exists() else datasets.fetch(str(name_or_path))
    return stated_scale(file) if file.suffix == ".parquet" and file.is_file() else None


def _holds_compositions(path: Path) -> bool:
    if not path.is_file() or path.suffix != ".parquet":
        return False
    names = pq.read_schema(path).names
    return "composition" in names and "lattice" not in names


# -- small things ----------------------------------------------------------------------------


def _set(table: CandidateTable, name: str, values: Mapping[str, Any], dtype: str) -> CandidateTable:
    """Set a column for every row, so that no value of an earlier judgement is left standing."""
    return table.with_column(name, {**dict.fromkeys(table.ids), **values}, dtype)


def _reasons(values: Mapping[str, str | None]) -> dict[str, str]:
    return {i: reason for i, reason in values.items() if reason is not None}


def _stage(progress: StageProgress | None, stage: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(stage, done, total)
