"""Several judges: further force fields have their say on crystals that a first one relaxed and judged.

The rule. Each further judge computes the energy of each crystal as the first one left it, or relaxes it
once more. It has its own elemental references and corrections, and meets the same hull of known compounds.
Hypothetical competitors, of which only force fields have energies, each judge computes by itself: its hull is
the known one and its own energies of these. A judge says *stable* of what lies at most ``e_above_hull_max``
(eV/atom) above its hull.

- ``stable_by_all``: whether every judge says stable. Null where one of them has no energy.
- ``judges_agree``: whether all say the same. Within :data:`TOLERANCE` of the limit a number counts for either
  side: what is stable by all is always agreed on.
- ``judge_spread``: the highest less the lowest energy above hull, eV/atom.

Where a judge has nothing to say, all three are null, and ``judges_reason`` says who and why. A crystal never
gets lost, and no verdict of the first judge is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crysjepa.closed_hull.judged import Phase, lacking_competitor, standings
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, check_scales
from crysjepa.energy.hull import Hull
from crysjepa.energy.limits import within
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.force_field_hull import AS_THEY_ARE
from crysjepa.evaluation.judge_names import (
    SECOND,
    above_hull_column,
    energy_column,
    further_judges,
    parse_judges,
    slug,
)
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.formation_energies import Formed, formation_energies
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.progress import Progress, StageProgress, of_stage

__all__ = [
    "SECOND",
    "TOLERANCE",
    "How",
    "JudgedByAll",
    "above_hull_column",
    "agree",
    "energy_column",
    "further_judges",
    "judge_by_all",
    "parse_judges",
]

TOLERANCE = 0.005
"""eV/atom. So near to the limit, judges that differ do not disagree: relaxing to 0.1 eV/Å leaves as much."""


@dataclass(frozen=True)
class JudgedByAll:
    """A table with the columns of :func:`judge_by_all`, and for ``metrics.json`` what each judge is."""

    table: CandidateTable
    judges: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class How:
    """How judges compute: see :func:`crysjepa.relaxation.relax.relax_crystals`. By default none relaxes.

    ``shards`` is a folder for finished work, with one of its own for each judge.
    """

    relaxation: RelaxSettings = AS_THEY_ARE
    device: str = "cpu"
    processes: int | None = None
    shards: Path | None = None
    progress: StageProgress | None = None

    def stage(self, name: str) -> Progress | None:
        """Progress of one stage, as ``progress(done, total)``."""
        return of_stage(self.progress, name)


def judge_by_all(
    table: CandidateTable,
    judges: Sequence[str],
    *,
    hull: Hull,
    known: Known,
    protocol: Protocol,
    first: Mapping[str, float | None] | None = None,
    competitors: CandidateTable | None = None,
    how: How | None = None,
) -> JudgedByAll:
    """Let further force fields judge crystals; see this module's rule.

    Parameters
    ----------
    table
        Crystals as the first judge (``protocol.force_field``) relaxed and judged them.
    judges
        Names of further force fields (:func:`crysjepa.evaluation.judge_names.further_judges`).
    hull, known, protocol
        The hull of known compounds, what elemental references are fitted on where none ship, and its limits.
    first
        The first judge's energies above hull (eV/atom) by id, of the crystals to judge: where there are
        competitors, above a hull that has them. By default the column ``e_above_hull`` of all that have a
        structure and did not fail. The others get null.
    competitors
        Hypothetical compounds with structures, each of which every judge computes for its own hull. The
        crystals that are judged then compete with each other too, and none with itself
        (:func:`crysjepa.closed_hull.judged.standings`). Where a judge cannot compute a competitor, it has
        nothing to say on crystals whose elements include that competitor's.
    how
        Whether judges relax, and where they compute. Results are the same bytes for any number of processes,
        and what is found in its ``shards`` is not computed again.

    Returns the table with ``e_above_hull_NAME`` and ``energy_per_atom_NAME`` (total, uncorrected) of each
    judge, ``judge_spread`` (eV/atom), ``judges_agree``, ``stable_by_all`` and ``judges_reason``.

    Raises ValueError with neither ``first`` nor that column, or as in :mod:`crysjepa.relaxation.relax`;
    ScaleMismatch if a judge's energies cannot be brought to the hull's scale, as for a hull of one force
    field's own; ImportError or RuntimeError if a judge or its weights cannot be had.
    """
    first = _of_first_judge(table) if first is None else first
    there = zip(table.ids, table.frame["lattice"].notna(), strict=True)
    wanted = [i for i, has_structure in there if has_structure and i in first]
    firsts = {i: e for i in wanted if (e := first[i]) is not None}
    reasons = {i: [f"{protocol.force_field}: no energy above hull"] for i in wanted if i not in firsts}
    crystals = table.crystals(list(firsts))
    opinions = {}
    for name in judges:
        judge = _Judge.prepare(name, hull, known, protocol, how or How())
        opinions[name] = opinion = judge.opinion(crystals, hull, competitors)
        for id_, reason in opinion.reasons.items():
            reasons.setdefault(id_, []).append(f"{name}: {reason}")
        table = set_column(table, energy_column(name), opinion.totals, "Float64")
        table = set_column(table, above_hull_column(name), opinion.above, "Float64")
    if judges:
        found = opinions.values()
        above = {i: [e, *(o.above[i] for o in found)] for i, e in firsts.items() if i not in reasons}
        table = _with_agreement(table, above, reasons, protocol.e_above_hull_max)
    return JudgedByAll(table, [o.judge for o in opinions.values()])


def _with_agreement(
    table: CandidateTable,
    above: Mapping[str, Sequence[float]],
    reasons: Mapping[str, Sequence[str]],
    limit: float,
) -> CandidateTable:
    """Columns of what all judges' energies above hull (eV/atom), by id, have in common."""
    for name, values, dtype in (
        ("judge_spread", {i: max(v) - min(v) for i, v in above.items()}, "Float64"),
        ("judges_agree", {i: agree(v, limit) for i, v in above.items()}, "boolean"),
        ("stable_by_all", {i: within(max(v), limit) for i, v in above.items()}, "boolean"),
        ("judges_reason", {i: "; ".join(parts) for i, parts in reasons.items()}, "string"),
    ):
        table = set_column(table, name, values, dtype)
    return table


def agree(above: Sequence[float], limit: float) -> bool:
    """Whether energies above hull (eV/atom) are all on one side of the limit, within :data:`TOLERANCE`."""
    return max(above) <= limit + TOLERANCE or min(above) > limit - TOLERANCE


def _of_first_judge(table: CandidateTable) -> dict[str, float | None]:
    """The first judge's energies above hull (eV/atom) of all crystals that did not fail.

    Raises ValueError without the column.
    """
    if "e_above_hull" not in table:
        raise ValueError("further judges need the first one's energies above hull, column e_above_hull")
    columns = zip(table.ids, table.column("status"), table.column("e_above_hull"), strict=True)
    return {i: above for i, status, above in columns if status != Status.FAILED}


@dataclass(frozen=True)
class _Opinion:
    """A judge's total energies and energies above its hull (eV/atom) by id, and why there is none; ``judge``
    is what it is, for ``metrics.json``.
    """

    totals: dict[str, float]
    above: dict[str, float]
    reasons: dict[str, str]
    judge: dict[str, Any]


@dataclass(frozen=True)
class _Judge:
    """A force field, its elemental references, and how it computes."""

    name: str
    references: ElementalReferences
    how: How

    @classmethod
    def prepare(cls, name: str, hull: Hull, known: Known, protocol: Protocol, how: How) -> _Judge:
        references = judge_references(name, hull, known, protocol, how.device, how.progress)
        return cls(name, references, how)

    def opinion(self, crystals: Crystals, hull: Hull, competitors: CandidateTable | None) -> _Opinion:
        found = self._energies(crystals, "crystals")
        above, reasons, source = {}, dict(found.failures), hull.source
        if competitors is None:
            for id_, composition in zip(crystals.ids, crystals.compositions(), strict=True):
                if id_ in reasons:
                    continue
                result = hull.e_above_hull(composition, found.formation[id_])
                if result.e_above_hull is None:
                    reasons[id_] = str(result.reason)
                else:
                    above[id_] = result.e_above_hull
        else:
            rivals = competitors.crystals()
            computed = self._energies(rivals, "competitors")
            source = f"{source} + {len(computed.formation)} hypothetical compounds by {self.name}"
            phases = [
                Phase(energies[c.ids[0]], c.ids[0], c)
                for part, energies in ((rivals, computed.formation), (crystals, found.formation))
                for c in part
                if c.ids[0] in energies
            ]
            formulas = dict(zip(rivals.ids, rivals.compositions(), strict=True))
            unknown = {i: (formulas[i], reason) for i, reason in computed.failures.items()}
            stand = standings(crystals, found.formation, hull, phases)
            for id_, composition in zip(crystals.ids, crystals.compositions(), strict=True):
                if id_ in reasons:
                    continue
                if reason := lacking_competitor(composition, unknown):
                    reasons[id_] = reason
                elif id_ in stand:
                    above[id_] = stand[id_].above
                else:
                    reasons[id_] = "the hull's linear programme was not solved"
        judge = {
            **asdict(force_field_info(self.name)),
            "column": above_hull_column(self.name),
            "relaxation": self.how.relaxation.model_dump(mode="json"),
            "elemental_references": self.references.source,
            "elemental_references_mae": self.references.mae,
            "energy_corrections": self.references.corrections,
            "hull": source,
            "num_judged": len(above),
            "num_without": len(reasons),
        }
        return _Opinion(found.totals, above, reasons, judge)

    def _energies(self, crystals: Crystals, stage: str) -> Formed:
        shards = self.how.shards
        return formation_energies(
            crystals,
            self.references,
            force_field=self.name,
            settings=self.how.relaxation,
            device=self.how.device,
            processes=self.how.processes,
            shards=None if shards is None else shards / slug(self.name) / stage,
            progress=self.how.stage(f"{stage} by {self.name}"),
        )


def judge_references(
    name: str,
    hull: Hull,
    known: Known,
    protocol: Protocol,
    device: str,
    progress: StageProgress | None = None,
) -> ElementalReferences:
    """A judge's elemental references on the hull's scale.

    Raises as :func:`~crysjepa.evaluation.reference.find_references`, and ScaleMismatch where they are on
    another.
    """
    own = Protocol(force_field=name, allow_mixed_scales=protocol.allow_mixed_scales)
    references = find_references(own, hull, known, device=device, progress=progress)
    check_scales(references.scale, hull.scale, allow_mixed=protocol.allow_mixed_scales)
    return references
