"""What a run says of itself: rates of each round, what they are relative to, and what to beware of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crysjepa.candidates import CandidateTable, Status
from crysjepa.discover.config import DiscoverConfig
from crysjepa.evaluate.metrics import crystal_metrics
from crysjepa.evaluate.protocol import Judge


def run_metrics(
    config: DiscoverConfig,
    judge: Judge,
    rounds: list[CandidateTable],
    drawn: list[dict[str, int]],
    table: CandidateTable,
    about: list[str],
) -> dict[str, Any]:
    """For ``metrics.json``: from each round's own table, and from all of them joined.

    ``drawn`` counts what became of all that each round drew; ``about`` are the rankers' own notes.
    """
    ended = list(zip(table.column("round"), table.column("status"), strict=True))
    before = [
        {
            "round": r,
            "name": _title(r, len(rounds) - 1),
            **crystal_metrics(t),
            "num_drawn": sum(drawn[r].values()),
            "drawn": drawn[r],
            # Without what repeats an earlier round: a tuned model may return its own training set.
            "vsun_beyond_earlier_rounds": ended.count((r, Status.OK)) / len(t),
        }
        for r, t in enumerate(rounds)
    ]
    listed = [r for r in table.column("shortlist_rank") if r is not None]
    screened = {"oversample", "screen_by"} if config.oversample > 1 else set()
    settings = config.model_dump(mode="json", include={"ranker", "seed"} | screened)
    return {
        "rounds": before,
        "shortlist": len(listed),
        "num_selected": [sum(bool(v) for v in t.column("selected")) for t in rounds[:-1]],
        "protocol": judge.describe() | settings,
        "notes": [*_notes(judge, config, rounds, drawn), *(f"Ranking: {note}." for note in about)],
    }


def _notes(
    judge: Judge, config: DiscoverConfig, rounds: list[CandidateTable], drawn: list[dict[str, int]]
) -> list[str]:
    relaxation = judge.protocol.relaxation
    notes = [
        f"Energies are {judge.protocol.force_field}'s, not DFT's. Relaxations stop at a largest force of "
        f"{relaxation.fmax} eV/Å or after {relaxation.max_steps} steps; those that stopped early count too."
    ]
    if config.oversample > 1:
        notes.insert(
            0,
            f"{config.oversample} crystals were drawn for each that was relaxed. All rates are of those "
            f"relaxed, which {config.screen_by} ranks first, each formula once while there are others.",
        )
    astray = sum(counts.get("failed: generate", 0) for counts in drawn)
    if astray and config.oversample > 1:
        notes.append(
            f"{astray} of {sum(sum(c.values()) for c in drawn)} crystals failed when they were drawn; they "
            "are in drawn.parquet, and count in no rate unless too few others were left to relax."
        )
    if len(rounds) <= config.rounds:
        notes.append(
            f"Stopped after round {len(rounds) - 1}: no better V.S.U.N. in {config.patience} rounds."
        )
    for round_, table in enumerate(rounds[:-1]):
        if not any(table.column("selected")):
            notes.append(
                f"Nothing in round {round_} was fit to fine-tune on: the next round has the same generator."
            )
    if judge.hull is not None:
        notes.append(
            f"Energies above hull are relative to {len(judge.hull)} compounds ({judge.hull.source}, scale "
            f"{judge.hull.scale}). A hull that lacks competing compounds makes crystals look more stable "
            "than they are: the number of hull entries says how many each was judged against."
        )
    notes.append(
        f"Novel means: no match among the {len(judge.reference.crystals)} crystals of the reference "
        f"({Path(config.reference).name}). It says nothing of crystals known elsewhere."
    )
    return notes


def round_name(round_: int) -> str:
    """How ids of a round begin: in natural order, earlier rounds come first."""
    return "base" if round_ == 0 else f"refined{round_}"


def _title(round_: int, rounds: int) -> str:
    return "base" if round_ == 0 else "refined" if rounds == 1 else f"refined {round_}"
