"""Judging crystals: every verdict of appendix D.2 (Eq. 21) as a column, and the decisions that follow.

The columns are ``formula``, ``chemical_system``, ``space_group``, ``space_group_number``,
``invalid_structure`` and ``invalid_composition`` (reasons), ``valid``, ``unique``, ``duplicate_of``,
``batch``, and where they were asked for ``novel``, ``matches``, ``matches_finetuning``, ``novelty_grade``,
``known_compound``, ``known_structures``, ``formation_energy_per_atom``, ``e_above_hull``, ``hull_entries``,
``stable``, ``hull_support``, ``hull_gaps``, ``hull_systems`` and ``hull_warning``
(:mod:`crysjepa.evaluation.grades`).

A crystal that was rejected earlier is judged all the same. One that had failed (a relaxation that diverged,
say) is not judged for uniqueness and stability, and makes no other a duplicate: it is null in ``unique``,
``duplicate_of``, ``e_above_hull``, ``hull_entries``, ``stable`` and, given elemental references, in
``formation_energy_per_atom``. A structure with two sites on one spot, or otherwise invalid as a structure,
cannot be matched or given an energy, and is null there. The decisions are taken in the order validity,
uniqueness, novelty, stability; a crystal that could not be judged ends ``failed`` at that stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.core.genbench_validity import genbench_validity
from crysjepa.core.symmetry import space_groups, symbol
from crysjepa.core.validity import composition_validity, structure_validity
from crysjepa.energy.elemental_references import ElementalReferences, check_scales
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.grades import KnownFormulas, with_grades, with_support
from crysjepa.evaluation.matches import KnownSet, judge_novelty, judge_uniqueness
from crysjepa.evaluation.stability import (
    check_energy_column,
    decide_stability,
    with_formation_energies,
)
from crysjepa.matching.by_name import STRUCTURE_MATCHER
from crysjepa.matching.uniqueness import natural_key
from crysjepa.runtime.progress import StageProgress, of_stage

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

NOT_CONVERGED = "the relaxation did not converge"
"""Why such a row fails, where only converged ones count."""


@dataclass(frozen=True)
class Rules:
    """What judges differ in; the defaults are crysjepa's own.

    Parameters
    ----------
    composition
        The composition rule, one of :data:`~crysjepa.core.validity.COMPOSITION_RULES`, or ``genbench``, which
        brings distances, densities and cells with it (:mod:`crysjepa.core.genbench_validity`).
    batch_size
        Uniqueness is judged within batches of so many crystals, in the natural order of their ids; None
        for one batch of all.
    converged_only
        A crystal whose relaxation did not converge ends ``failed``.
    matching
        By what crystals are compared, one of :data:`crysjepa.matching.by_name.MATCHINGS`.
    matcher
        pymatgen's StructureMatcher, by default with its default tolerances; it is not used for a
        ``reference`` that is a :class:`FormulaIndex`.
    symprec
        Distance tolerance in Å for ``space_group``.
    e_above_hull_max
        A crystal is stable at or below this many eV/atom above the hull (Eq. 21).
    min_hull_entries
        A compound that seems stable where the hull has fewer known compounds than this in its chemical
        system and subsystems ends ``failed``, without a number: there was nothing to compare it with.
    allow_mixed_scales
        Permit references and a hull of different correction schemes.
    processes
        How many compare crystals.
    """

    composition: str = "paper"
    batch_size: int | None = None
    converged_only: bool = False
    matching: str = STRUCTURE_MATCHER
    matcher: StructureMatcher | None = None
    symprec: float = 0.1
    e_above_hull_max: float = 0.1
    min_hull_entries: int = 0
    allow_mixed_scales: bool = False
    processes: int = 1


def evaluate_table(
    table: CandidateTable,
    *,
    reference: KnownSet | None = None,
    finetuned_on: KnownSet | None = None,
    known: KnownFormulas | None = None,
    hull: Hull | None = None,
    references: ElementalReferences | None = None,
    rules: Rules | None = None,
    progress: StageProgress | None = None,
) -> CandidateTable:
    """Judge every crystal of a table, and decide the rows that are still ``ok``; see this module.

    Parameters
    ----------
    reference
        Known crystals for novelty; without them ``novel`` is not computed.
    finetuned_on
        What the generator was fine-tuned on: a crystal that matches one of these is not novel either.
    known
        Formulas of known compounds, for ``novelty_grade``; by default the bundled ones, the reference's and
        the hull's.
    hull
        For stability; without it ``stable`` is not computed.
    references
        Turn the column ``energy_per_atom`` (total, eV/atom) into formation energies. Without them the
        column ``formation_energy_per_atom`` is used as it stands, and must be on the hull's scale.

    Of duplicates that differ in stability a stable one stands for the others, then one with an energy. Raises
    ScaleMismatch if ``references`` and ``hull`` are on different scales, and ValueError if the column that
    stability needs is missing.
    """
    rules = rules or Rules()
    if references is not None and hull is not None:
        check_scales(references.scale, hull.scale, allow_mixed=rules.allow_mixed_scales)
    check_energy_column(table, hull, references)
    table = _without_unconverged(table) if rules.converged_only else table
    crystals = table.crystals()
    # A failed row may hold a structure and an energy that are the end of nothing.
    states = dict(zip(table.ids, table.column("status"), strict=True))
    table, sound = _judge_validity(table, crystals, rules, progress)
    intact = sound[np.array([states[i] != Status.FAILED for i in sound.ids], dtype=bool)]
    table = set_column(table, "batch", batches_of(table.ids, rules.batch_size), "Int64")
    ranks: dict[str, int] = {}
    if hull is not None:
        ranks = _who_stands_for_others(table, intact, hull, references, rules)
    table = judge_uniqueness(table, intact, ranks, rules, progress)
    table = judge_novelty(table, sound, reference, finetuned_on, rules, progress)
    if reference is not None:
        table = with_grades(table, sound, _known_formulas(reference, hull) if known is None else known)
    if references is not None:
        table = with_formation_energies(table, intact, references)
    if hull is not None:
        limit, least = rules.e_above_hull_max, rules.min_hull_entries
        table = decide_stability(table, intact, hull, references, limit, least)
        table = with_support(table, intact, hull)
    return table


_STANDS_FOR_OTHERS = {True: 0, False: 1, None: 2}
"""Which of duplicates comes first, by ``stable``: the first in the order of ids could hide a stable one."""


def _who_stands_for_others(
    table: CandidateTable,
    crystals: Crystals,
    hull: Hull,
    references: ElementalReferences | None,
    rules: Rules,
) -> dict[str, int]:
    formed = table if references is None else with_formation_energies(table, crystals, references)
    judged = decide_stability(
        formed, crystals, hull, references, rules.e_above_hull_max, rules.min_hull_entries
    )
    stable = zip(crystals.ids, judged.column("stable", crystals.ids), strict=True)
    return {i: _STANDS_FOR_OTHERS[found] for i, found in stable}


def batches_of(ids: Sequence[str], size: int | None) -> dict[str, int]:
    """The batch of each id: so many to a batch, in the natural order of the ids, whatever their rows'."""
    order = sorted(ids, key=natural_key)
    return {id_: 0 if size is None else position // size for position, id_ in enumerate(order)}


def _without_unconverged(table: CandidateTable) -> CandidateTable:
    if "converged" not in table:
        return table
    stopped = {
        i: NOT_CONVERGED
        for i, converged in zip(table.ids, table.column("converged"), strict=True)
        if converged is False
    }
    return table.decide("relax", stopped, Status.FAILED)


def _known_formulas(reference: KnownSet, hull: Hull | None) -> KnownFormulas:
    return KnownFormulas.of(reference if isinstance(reference, Crystals) else reference.crystals, hull)


def _judge_validity(
    table: CandidateTable, crystals: Crystals, rules: Rules, progress: StageProgress | None
) -> tuple[CandidateTable, Crystals]:
    """The table described and decided by validity, and the crystals whose structure is valid."""
    structure = structure_validity(crystals, progress=of_stage(progress, "structure"))
    told = of_stage(progress, "composition")
    sound = crystals[np.array([structure[i] is None for i in crystals.ids], dtype=bool)]
    if rules.composition == "genbench":
        stricter, charges = genbench_validity(sound, progress=told)
        structure |= stricter
        composition = dict.fromkeys(crystals.ids, "not asked: the structure is invalid") | charges
    else:
        composition = composition_validity(crystals, rule=rules.composition, progress=told)
    table = _describe(table, crystals, sound, rules.symprec)
    return _decide_validity(table, crystals, structure, composition), sound


def _describe(table: CandidateTable, crystals: Crystals, sound: Crystals, symprec: float) -> CandidateTable:
    table = set_column(
        table, "formula", dict(zip(crystals.ids, crystals.reduced_formulas(), strict=True)), "string"
    )
    systems = dict(zip(crystals.ids, crystals.chemical_systems(), strict=True))
    table = set_column(table, "chemical_system", systems, "string")
    groups = space_groups(sound, symprec)
    table = set_column(table, "space_group", {i: symbol(n) for i, n in groups.items()}, "string")
    return set_column(table, "space_group_number", groups, "Int64")


def _decide_validity(
    table: CandidateTable,
    crystals: Crystals,
    structure: Mapping[str, str | None],
    composition: Mapping[str, str | None],
) -> CandidateTable:
    reasons = {i: structure[i] or composition[i] for i in crystals.ids}
    table = set_column(table, "invalid_structure", structure, "string")
    table = set_column(table, "invalid_composition", composition, "string")
    table = set_column(table, "valid", {i: reason is None for i, reason in reasons.items()}, "boolean")
    missing = {i: "no structure" for i in table.ids if i not in reasons}
    table = table.decide("validity", missing, Status.FAILED)
    return table.decide("validity", _reasons(reasons), Status.REJECTED)


def _reasons(values: Mapping[str, str | None]) -> dict[str, str]:
    return {i: reason for i, reason in values.items() if reason is not None}
