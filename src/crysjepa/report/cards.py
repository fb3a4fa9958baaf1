"""Rows of the short list: what the page shows of one crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from crysjepa.crystals import Crystals
from crysjepa.report.results import Results, numbers, plain, real
from crysjepa.report.structures import Picture, draw_structure


@dataclass(frozen=True)
class Card:
    """A row of the short list, or of the nearest misses."""

    rank: str
    id: str
    formula: str
    space_group: str
    e_above_hull: float | None
    formation_energy: float | None
    nearest: str
    nearest_formula: str
    nearest_distance: float | None
    score: float | None
    hull_entries: str
    round_name: str
    cif: str
    cif_href: str
    missed: tuple[str, ...]
    reason: str
    picture: Picture | None
    no_picture: str


def make_card(results: Results, row: int, missed: Sequence[str], name: str) -> Card:
    record = results.frame.iloc[row]

    def text(column: str) -> str:
        return plain(record.get(column))

    def value(column: str) -> float | None:
        return real(numbers(results.frame.iloc[[row]], column)[0].item())

    rank, entries = value("shortlist_rank"), value("hull_entries")
    picture, no_picture = _picture(results, row, name)
    cif, href = _cif(text("cif_file"))
    return Card(
        rank="" if rank is None else f"{rank:.0f}",
        id=text("id"),
        formula=formula_of(results, row),
        space_group=text("space_group"),
        e_above_hull=value("e_above_hull"),
        formation_energy=value("formation_energy_per_atom"),
        nearest=text("nearest_known"),
        nearest_formula=text("nearest_known_formula"),
        nearest_distance=value("nearest_known_distance"),
        score=value("score"),
        hull_entries="" if entries is None else f"{entries:.0f}",
        round_name=next((r.name for r in results.rounds if r.rows[row]), ""),
        cif=cif,
        cif_href=href,
        missed=tuple(missed),
        reason=text("reason"),
        picture=picture,
        no_picture=no_picture,
    )


def _picture(results: Results, row: int, name: str) -> tuple[Picture | None, str]:
    crystal = _crystal(results, row)
    if crystal is None:
        return None, "no structure"
    try:
        return draw_structure(crystal, name), ""
    except ValueError as error:
        return None, f"no picture: {error}"


def _crystal(results: Results, row: int) -> Crystals | None:
    record = results.frame.iloc[row]
    if record["lattice"] is None or record["atomic_numbers"] is None:
        return None
    return results.candidates.crystals([record["id"]])


def formula_of(results: Results, row: int) -> str:
    given = plain(results.frame.iloc[row].get("formula"))
    crystal = None if given else _crystal(results, row)
    return given if crystal is None else crystal.compositions()[0].reduced_formula


def _cif(name: str) -> tuple[str, str]:
    """A CIF's name as given, and a link if it is a relative path that stays inside the run folder."""
    path = PurePosixPath(name)
    safe = name and not path.is_absolute() and ".." not in path.parts and path.suffix == ".cif"
    if not safe or ":" in path.parts[0] or "\\" in name:
        return name, ""
    if len(path.parts) == 1:
        path = "shortlist" / path
    return str(path), quote(str(path))
