"""What the refinements share: which crystals of a table go on."""

from __future__ import annotations

from crysjepa.core.candidates import CandidateTable


def best(table: CandidateTable, num: int, pool: int | None = None) -> CandidateTable:
    """The first ``num`` of a ranking, of the first ``pool`` rows. Raises ValueError if there are fewer."""
    rows = list(zip(table.column("screen_rank"), table.ids, strict=True))[:pool]
    chosen = sorted(row for row in rows if row[0] is not None)[:num]
    if len(chosen) < num:
        raise ValueError(f"{num} crystals are to be chosen, and only {len(chosen)} are fit: draw more")
    return CandidateTable.from_crystals(table.crystals([id_ for _, id_ in chosen]))
