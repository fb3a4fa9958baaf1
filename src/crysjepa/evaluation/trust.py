"""What backs a stability: the closed hull, further judges, and a chance that DFT agrees.

:class:`~crysjepa.evaluation.protocol.Trust` says how far to go; :func:`close_hull` and :func:`with_trust` do
it for some crystals of a judged table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa import datasets
from crysjepa.closed_hull.judged import COLUMNS as CLOSED
from crysjepa.closed_hull.judged import competitor_table, systems_to_close, with_closed_hull
from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.closed_hull.rounds import Closed
from crysjepa.closed_hull.search import Search
from crysjepa.closed_hull.settings import CompeteSettings
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.energy.hull import Hull
from crysjepa.energy.limits import within
from crysjepa.energy.support import warning
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.judge_names import above_hull_column, energy_column
from crysjepa.evaluation.judges import How, judge_by_all, judge_references
from crysjepa.evaluation.probability import expected_confirmations, with_probability
from crysjepa.evaluation.protocol import Protocol, Trust
from crysjepa.evaluation.reference import Known
from crysjepa.generators.substitution.parents import Parents
from crysjepa.ranking.selection import with_shortlist
from crysjepa.relaxation.force_fields.registry import force_field_info, force_field_names
from crysjepa.runtime.progress import StageProgress

if TYPE_CHECKING:
    from crysjepa.jepa.crys_jepa import CrysJepa

NEAR = 0.05
"""eV/atom above the closed hull: competitors that lie higher are not put to further judges, for they bound no
hull."""
OPTIONAL = (
    *CLOSED, "stable_closed", "closed_hull_warning", "judge_spread", "judges_agree", "stable_by_all",
    "judges_reason", "p_stable", "p_on_hull", "p_from",
)  # fmt: skip
"""Columns that :func:`with_trust` adds, beside those of each judge."""


@dataclass(frozen=True)
class Closing:
    """A finished search, its competitors as a table, and what ``metrics.json`` says of it."""

    closed: Closed
    competitors: CandidateTable
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Trusted:
    """A table with what was found out, and what ``metrics.json`` says of it."""

    table: CandidateTable
    metrics: dict[str, Any]


def close_hull(
    table: CandidateTable,
    ids: Sequence[str],
    evaluator: Evaluator,
    settings: CompeteSettings,
    *,
    model: CrysJepa | None = None,
    work: Path,
    processes: int | None = None,
    progress: StageProgress | None = None,
) -> Closing:
    """Search for what competes with some crystals of a judged table, by the first judge's force field.

    ``work`` is a folder for finished parts, by which an interrupted search goes on. Raises ValueError where
    there is no hull to begin with.
    """
    if evaluator.hull is None or evaluator.references is None:
        raise ValueError("without relaxation and a hull there is nothing to close: relax the crystals")
    chosen = closable(evaluator.hull, model)
    systems = systems_to_close(table.crystals(_with_energy(table, ids)))
    search = Search(
        Prototypes.of(
            Parents.of(datasets.load(settings.parents), settings.parents),
            max_sites=settings.max_sites,
            cache=datasets.cache_folder() / "prototypes",
        ),
        chosen,
        evaluator.hull,
        evaluator.references,
        force_field=evaluator.protocol.force_field,
        settings=settings,
        device=evaluator.device,
        processes=processes,
        shards=work / "competitors",
        progress=progress,
    )
    closed = search.close(systems.values())
    competitors = competitor_table(closed)
    metrics = {
        "settings": settings.model_dump(mode="json"),
        "num_crystals": len(systems),
        "num_systems": len(closed.converged),
        "num_prototypes": len(set(search.prototypes.keys.tolist())),
        "num_competitors": closed.num_tried,
        "num_relaxed": len(competitors),
        "num_on_hull": sum(bool(v) for v in competitors.column("on_closed_hull")),
        "num_converged": sum(closed.converged.values()),
        "failures": len(closed.failures),
    }
    return Closing(closed, competitors, metrics)


def with_trust(
    table: CandidateTable,
    ids: Sequence[str],
    evaluator: Evaluator,
    known: Known,
    trust: Trust,
    *,
    closing: Closing | None = None,
    work: Path,
    progress: StageProgress | None = None,
) -> Trusted:
    """Compare some crystals with the closed hull, let further judges speak, say how likely DFT is to agree.

    Parameters
    ----------
    table
        Judged crystals, with energies of ``evaluator``.
    ids
        Which of them to look into; the others get null in every column.
    closing
        What :func:`close_hull` found for them; without it the known hull is all there is.
    work
        A folder for finished parts.

    Returns
    -------
    Trusted
        With the columns :data:`OPTIONAL` and those of :func:`crysjepa.evaluation.judges.judge_by_all`.
        ``stable_closed``: whether a crystal is at most ``e_above_hull_max`` above the closed hull.
        ``closed_hull_warning`` is the warning by the closed hull: what the known hull warned of may have been
        a competitor that it lacked.
    """
    assert evaluator.hull is not None
    metrics: dict[str, Any] = {}
    first_column = "e_above_hull"
    fit, near = _with_energy(table, ids), None
    if closing is not None:
        first_column = "e_above_closed_hull"
        near, metrics["closed_hull"] = _near(closing.competitors), closing.metrics
        table = with_closed_hull(table, fit, closing.closed, closing.competitors)
        limit = evaluator.protocol.e_above_hull_max
        above = dict(zip(fit, table.column(first_column, fit), strict=True))
        stable = {i: None if a is None else within(a, limit) for i, a in above.items()}
        table = set_column(table, "stable_closed", stable, "boolean")
        table = set_column(table, "closed_hull_warning", {i: warning(a) for i, a in above.items()}, "string")
    others, note = usable_judges(trust, evaluator.protocol, evaluator.hull, known, evaluator.device)
    metrics["judge_note"] = note
    done = judge_by_all(
        table, others, hull=evaluator.hull, known=known, protocol=evaluator.protocol,
        first=dict(zip(fit, table.column(first_column, fit), strict=True)), competitors=near,
        how=How(device=evaluator.device, shards=work / "judges", progress=progress),
    )  # fmt: skip
    metrics["judges"] = done.judges
    table = _likely(done.table, fit, evaluator.protocol.force_field, first_column)
    metrics["expected"] = expected_confirmations(table, fit)
    return Trusted(table, metrics)


def usable_judges(
    trust: Trust, protocol: Protocol, hull: Hull | None, known: Known, device: str = "cpu"
) -> tuple[tuple[str, ...], str | None]:
    """The judges beside the first, with elemental references at hand; and why the default one is not.

    Called before anything is computed, so that what cannot work is said at once. Raises as
    :func:`~crysjepa.evaluation.judges.judge_references` for judges that were named.
    """
    names, note = trust.further(protocol.force_field)
    if hull is None:
        return (), note
    for name in names:
        try:
            judge_references(name, hull, known, protocol, device)
        except (ValueError, FileNotFoundError, ImportError, RuntimeError) as error:
            if trust.judges != "auto":
                raise
            return (), f"{protocol.force_field} is the only judge, for {name} has no energies here: {error}"
    return names, note


def trust_inputs(protocol: Protocol) -> dict[str, str]:
    """What trust depends on beyond settings: which judges are installed, and the prototypes to fill.

    A run goes on only with the same.
    """
    trust = protocol.trust
    if trust is None:
        return {}
    names, _ = trust.further(protocol.force_field)
    found = {"judges": ", ".join(f"{n} {force_field_info(n).version}" for n in names)}
    if trust.close is not None:
        found["prototypes"] = datasets.load(trust.close.parents).content_hash()
    return found


def closable(hull: Hull | None, model: CrysJepa | None = None) -> CrysJepa:
    """The model that ranks competitors, by default the one that ships; ValueError says why it cannot."""
    from crysjepa.jepa.crys_jepa import CrysJepa  # with torch, which most evaluations do without

    chosen = model or CrysJepa.load()
    if reason := not_closable(hull, chosen):
        raise ValueError(f"the hull cannot be closed: {reason}")
    return chosen


def not_closable(hull: Hull | None, model: CrysJepa) -> str | None:
    """Why the hull cannot be closed, or None."""
    if hull is None:
        return "there is no hull"
    if not (model.has_energies and model.invariant):
        return "the Crys-JEPA at hand predicts no energies after relaxation, by which competitors are ranked"
    if model.scale != hull.scale:
        return (
            f"competitors are ranked by energies on the scale {model.scale!r}, and the hull is on "
            f"{hull.scale!r}"
        )
    return None


def is_of_trust(column: str) -> bool:
    """Whether a column is one that :func:`with_trust` adds."""
    return column in OPTIONAL or column in {
        name(judge) for judge in force_field_names() for name in (above_hull_column, energy_column)
    }


def promising_ids(judged: CandidateTable, trust: Trust, *, aimed: bool = False) -> list[str]:
    """Ids of the crystals to look into: all that did not fail, or V.S.U.N. ones, the most promising first.

    What lies too far below the known hull is among them: that is what closing the hull is for. ``aimed``: the
    most promising have the highest merit.
    """
    if trust.which == "all":
        states = zip(judged.ids, judged.column("status"), strict=True)
        return [i for i, status in states if status != Status.FAILED][: trust.most]
    stale = [c for c in ("shortlist_rank", "hull_warning", *OPTIONAL) if c in judged]
    fresh = CandidateTable(judged.frame.drop(columns=stale))
    listed = with_shortlist(fresh, len(fresh) if trust.most is None else trust.most, aimed=aimed)
    ranks = zip(listed.ids, listed.column("shortlist_rank"), strict=True)
    return [i for _, i in sorted((rank, i) for i, rank in ranks if rank is not None)]


def _with_energy(table: CandidateTable, ids: Sequence[str]) -> list[str]:
    """Those that did not fail and have an energy."""
    columns = (table.column(c, ids) for c in ("status", "formation_energy_per_atom"))
    rows = zip(ids, *columns, strict=True)
    return [i for i, status, energy in rows if status != Status.FAILED and energy is not None]


def _near(competitors: CandidateTable) -> CandidateTable | None:
    """Competitors near the closed hull, where there are some."""
    above = competitors.column("e_above_closed_hull")
    keep = np.array([a is not None and within(a, NEAR) for a in above], dtype=bool)
    return CandidateTable(competitors.frame[keep].reset_index(drop=True)) if keep.any() else None


def _likely(table: CandidateTable, fit: Sequence[str], first: str, column: str) -> CandidateTable:
    """Chances of those that were looked into, by the closed hull where it was closed."""
    part = table.only(fit)
    if column != "e_above_hull":  # of an element, the hull is 0 whatever competes
        heights = zip(part.ids, part.column(column), part.column("e_above_hull"), strict=True)
        part = part.with_column(column, {i: h if own is None else own for i, own, h in heights}, "Float64")
    part = with_probability(part, first=first, first_column=column)
    for name, dtype in (("p_stable", "Float64"), ("p_on_hull", "Float64"), ("p_from", "string")):
        table = set_column(table, name, dict(zip(part.ids, part.column(name), strict=True)), dtype)
    return table
