"""What the command line says of the closed hull and of several judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crysjepa.cli import console, show

if TYPE_CHECKING:
    from crysjepa.core.candidates import CandidateTable
    from crysjepa.evaluation.protocol import Protocol, Trust

Judges = Annotated[
    str | None,
    typer.Option(
        "--judges",
        help="force fields parted by commas, the first one's included or not; none; by default sevennet-l3i5 "
        "beside the first, where it is installed",
    ),
]
Close = Annotated[
    bool | None,
    typer.Option(
        "--close/--no-close",
        help="search for what competes with the V.S.U.N. crystals, and say how likely DFT is to agree",
    ),
]
Effort = Annotated[
    str | None,
    typer.Option("--effort", help="quick, standard or thorough: how many competitors are tried"),
]
Phonons = Annotated[
    bool, typer.Option("--phonons/--no-phonons", help='phonons (pip install "crysjepa[phonons]")')
]
Elastic = Annotated[bool, typer.Option("--elastic/--no-elastic", help="elastic constants")]
Seconds = Annotated[
    float, typer.Option("--seconds", min=1, help="for one crystal's phonons and elastic constants")
]


@dataclass(frozen=True, kw_only=True)
class LookedInto:
    """How far promising crystals are looked into."""

    close: Close = None
    judges: Judges = None


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What is computed of each crystal."""

    phonons: Phonons = True
    elastic: Elastic = True
    seconds: Seconds = 1800.0


def trust_settings(base: Trust, judges: str | None, effort: str | None = None) -> Trust:
    """``base`` with what was said on the command line.

    Raises ValueError for an unknown effort or judge, ImportError for one that is not installed.
    """
    from crysjepa.closed_hull.settings import EFFORTS

    changes: dict[str, Any] = {}
    if effort is not None:
        if effort not in EFFORTS:
            raise ValueError(f"no effort {effort!r}: choose from {', '.join(EFFORTS)}")
        changes["close"] = EFFORTS[effort]
    if judges is not None:
        changes["judges"] = judges
    trust = base.model_copy(update=changes)
    trust.further("")  # what is wrong with the judges is better said now
    return trust


def with_trust_asked(protocol: Protocol, looked: LookedInto) -> Protocol:
    """The protocol, with a closed hull or judges where they were asked for."""
    from crysjepa.evaluation.protocol import Trust

    close, judges = looked.close, looked.judges
    if close is None and judges is None:
        return protocol
    base = protocol.trust or Trust(close=None)
    if close is not None:
        base = base.model_copy(update={"close": (base.close or Trust().close) if close else None})
    if base.close is None and judges is None:
        return protocol.model_copy(update={"trust": None})
    return protocol.model_copy(update={"trust": trust_settings(base, judges)})


def show_closed(folder: Path, metrics: Mapping[str, Any]) -> None:
    """The crystals that were looked into, the likeliest first, and what was searched for them."""
    from crysjepa.core.candidates import CandidateTable

    found = metrics.get("trust")
    if found is None:
        console.say("no relaxed energies and no hull: nothing was searched for", soft_wrap=True)
        return
    table = CandidateTable.read(Path(folder) / "crystals.parquet")
    judges = [j["column"] for j in found["judges"]]
    columns = ["id", "formula", "e_above_hull", "e_above_closed_hull", *judges]
    columns = [c for c in [*columns, "p_stable", "p_on_hull", "decomposes_to"] if c in table]
    frame = table.frame
    by = [c for c in ("p_stable", "e_above_closed_hull", "e_above_hull") if c in frame]
    frame = frame[frame[by].notna().any(axis=1)].sort_values(
        [*by, "id"], ascending=[c != "p_stable" for c in (*by, "id")], kind="stable"
    )
    shown = show.columns(*columns, pad_edge=False)
    for id_ in list(frame["id"])[:20]:
        cells = (table.column(c, [id_])[0] for c in columns)
        shown.add_row(*(console.text(_cell(c, v)) for c, v in zip(columns, cells, strict=True)))
    console.output.print(shown)
    if len(frame) > 20:
        console.say(f"and {len(frame) - 20} more in crystals.parquet")
    if closed := found.get("closed_hull"):
        console.say(
            f"{closed['num_competitors']} competitors evaluated in {closed['num_systems']} chemical systems, "
            f"{closed['num_relaxed']} relaxed, {closed['num_on_hull']} on the closed hull; the search "
            f"converged in {closed['num_converged']} systems",
            soft_wrap=True,
        )
        if closed["num_converged"] < closed["num_systems"]:
            console.say("where it did not, more may lie lower: crysjepa compete … --effort thorough")
    expected = found["expected"]
    if expected["num"]:
        console.say(
            f"of these {expected['num']}, DFT is expected to put {expected['expected']:.1f} (95 %: "
            f"{expected['low']} to {expected['high']}) at most 0.1 eV/atom above its hull",
            soft_wrap=True,
        )
    if found.get("judge_note"):
        console.say(f"note: {found['judge_note']}", soft_wrap=True)


def show_checked(table: CandidateTable) -> None:
    """The crystals of a check, and what was found."""
    from crysjepa.checks.check import COLUMNS

    columns = ["id", *(c for c in COLUMNS if c in table)]
    shown = show.columns(*columns, pad_edge=False)
    for row in range(min(len(table), 20)):
        cells = (table.column(c)[row] for c in columns)
        shown.add_row(*(console.text(_cell(c, v)) for c, v in zip(columns, cells, strict=True)))
    console.output.print(shown)
    if len(table) > 20:
        console.say(f"and {len(table) - 20} more in the table")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column == "decomposes_to":
        from crysjepa.report.cards import phases

        return phases(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)
