"""What makes a stability worth a bet: the closed hull, further judges, and a chance that DFT agrees.

:class:`~crysjepa.evaluate.presets.Trust` says how far to go; :func:`close_hull` and :func:`with_trust` do it
for some crystals of a judged table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crysjepa import datasets
from crysjepa.candidates import CandidateTable, Status
from crysjepa.compete.closed import COLUMNS as CLOSED
from crysjepa.compete.closed import competitor_table, systems_to_close, with_closed_hull
from crysjepa.compete.prototypes import Prototypes
from crysjepa.compete.search import Closed, CompeteSettings, Search
from crysjepa.energy.support import warning
from crysjepa.evaluate.columns import set_column
from crysjepa.evaluate.judge import Judge
from crysjepa.evaluate.judges import How, judge_by_all
from crysjepa.evaluate.known import Known, Report
from crysjepa.evaluate.presets import Trust
from crysjepa.evaluate.probability import expected_confirmations, with_probability
from crysjepa.generate.parents import Parents
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.screen.selection import with_shortlist

NEAR = 0.05
"""eV/atom above the closed hull: competitors that lie higher are not put to further judges, for they bound no
hull."""
OPTIONAL = (
    *CLOSED, "stable_closed", "judge_spread", "judges_agree", "stable_by_all", "judges_reason", "p_stable",
    "p_on_hull", "p_from",
)  # fmt: skip
"""Columns that :func:`with_trust` adds, beside those of each judge."""


@dataclass(frozen=True)
class Closing:
    """A finished search, its competitors as a table, and what ``metrics.json`` says of it."""

    closed: Closed
    competitors: CandidateTable
    told: dict[str, Any]


@dataclass(frozen=True)
class Trusted:
    """A table with what was found out, and what ``metrics.json`` says of it."""

    table: CandidateTable
    told: dict[str, Any]


def close_hull(
    table: CandidateTable,
    ids: Sequence[str],
    judge: Judge,
    settings: CompeteSettings,
    *,
    model: CrysJepa | None = None,
    work: Path,
    processes: int | None = None,
    progress: Report | None = None,
) -> Closing:
    """Search for what competes with some crystals of a judged table, by the first judge's force field.

    ``work`` is a folder for finished parts, by which an interrupted search goes on. Raises ValueError where
    there is no hull to begin with.
    """
    if judge.hull is None or judge.references is None:
        raise ValueError("without relaxation and a hull there is nothing to close: relax the crystals")
    systems = systems_to_close(table.crystals(_fit(table, ids)))
    search = Search(
        Prototypes.of(
            Parents.of(datasets.load(settings.parents), settings.parents),
            max_sites=settings.max_sites,
            cache=datasets.cache_folder() / "prototypes",
        ),
        model or CrysJepa.load(None),
        judge.hull,
        judge.references,
        force_field=judge.protocol.force_field,
        settings=settings,
        device=judge.device,
        processes=processes,
        shards=work / "competitors",
        progress=progress,
    )
    closed = search.close(systems.values())
    competitors = competitor_table(closed)
    told = {
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
    return Closing(closed, competitors, told)


def with_trust(
    table: CandidateTable,
    ids: Sequence[str],
    judge: Judge,
    known: Known,
    trust: Trust,
    *,
    closing: Closing | None = None,
    work: Path,
    processes: int | None = None,
    progress: Report | None = None,
) -> Trusted:
    """Compare some crystals with the closed hull, let further judges speak, say how likely DFT is to agree.

    Parameters
    ----------
    table
        Judged crystals, with energies of ``judge``.
    ids
        Which of them to look into; the others get null in every column.
    closing
        What :func:`close_hull` found for them; without it the known hull is all there is.
    work
        A folder for finished parts.

    Returns
    -------
    Trusted
        With the columns :data:`OPTIONAL` and those of :func:`crysjepa.evaluate.judges.judge_by_all`.
        ``stable_closed``: whether a crystal is at most ``e_above_hull_max`` above the closed hull.
        ``hull_warning`` is by the closed hull where there is one.
    """
    assert judge.hull is not None
    told: dict[str, Any] = {}
    first_column = "e_above_hull"
    fit, near = _fit(table, ids), None
    if closing is not None:
        first_column = "e_above_closed_hull"
        near, told["closed_hull"] = _near(closing.competitors), closing.told
        table = with_closed_hull(table, fit, closing.closed, closing.competitors)
        limit = judge.protocol.e_above_hull_max
        above = dict(zip(fit, table.column(first_column, fit), strict=True))
        stable = {i: None if a is None else a <= limit for i, a in above.items()}
        table = set_column(table, "stable_closed", stable, "boolean")
        table = table.with_column(
            "hull_warning", {i: warning(a) for i, a in above.items() if a is not None}, "string"
        )
    others, note = trust.further(judge.protocol.force_field)
    told["judge_note"] = note
    done = judge_by_all(
        table, others, hull=judge.hull, known=known, protocol=judge.protocol, first_column=first_column,
        ids=fit, competitors=near, progress=progress,
        how=How(device=judge.device, processes=processes, shards=work / "judges"),
    )  # fmt: skip
    told["judges"] = done.judges
    table = _likely(done.table, fit, judge.protocol.force_field, first_column)
    told["expected"] = expected_confirmations(table, fit)
    return Trusted(table, told)


def is_of_trust(column: str) -> bool:
    """Whether a column is one that :func:`with_trust` adds."""
    of_judge = (
        column.startswith(("e_above_hull_", "energy_per_atom_")) and column != "energy_per_atom_initial"
    )
    return column in OPTIONAL or of_judge


def worth_a_bet(judged: CandidateTable, trust: Trust) -> list[str]:
    """Ids of the crystals to look into: all that did not fail, or V.S.U.N. ones, the most promising first."""
    if trust.which == "all":
        states = zip(judged.ids, judged.column("status"), strict=True)
        return [i for i, status in states if status != Status.FAILED][: trust.most]
    listed = with_shortlist(judged, trust.most)
    ranks = zip(listed.ids, listed.column("shortlist_rank"), strict=True)
    return [i for _, i in sorted((rank, i) for i, rank in ranks if rank is not None)]


def _fit(table: CandidateTable, ids: Sequence[str]) -> list[str]:
    """Those that did not fail and have an energy."""
    columns = (table.column(c, ids) for c in ("status", "formation_energy_per_atom"))
    rows = zip(ids, *columns, strict=True)
    return [i for i, status, energy in rows if status != Status.FAILED and energy is not None]


def _near(competitors: CandidateTable) -> CandidateTable | None:
    """Competitors near the closed hull, where there are some."""
    above = competitors.column("e_above_closed_hull")
    keep = np.array([a is not None and a <= NEAR for a in above], dtype=bool)
    return CandidateTable(competitors.frame[keep].reset_index(drop=True)) if keep.any() else None


def _likely(table: CandidateTable, fit: Sequence[str], first: str, column: str) -> CandidateTable:
    """Chances of those that were looked into, by the closed hull where it was closed."""
    part = CandidateTable(table.frame[table.frame["id"].isin(set(fit))].reset_index(drop=True))
    part = with_probability(part, first=first, first_column=column)
    for name, dtype in (("p_stable", "Float64"), ("p_on_hull", "Float64"), ("p_from", "string")):
        table = set_column(table, name, dict(zip(part.ids, part.column(name), strict=True)), dtype)
    return table
