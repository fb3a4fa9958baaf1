"""Rows of the short list: what the page shows of one crystal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np
import pandas as pd

from crysjepa.core.crystals import Crystals
from crysjepa.report.objectives import Value
from crysjepa.report.results import Results, plain, real
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
    hull_support: str
    hull_gaps: str
    hull_warning: str
    grade: str
    known_compound: str
    round_name: str
    cif: str
    cif_href: str
    missed: tuple[str, ...]
    reason: str
    picture: Picture | None
    no_picture: str
    e_above_closed_hull: float | None
    closed: str
    judges: tuple[tuple[str, float | None], ...]
    chance: float | None
    in_place_of: str
    merit: float | None
    on_front: bool
    values: tuple[Value, ...] = ()


def make_card(results: Results, row: int, missed: Sequence[str], name: str) -> Card:
    """What to show of a row; ``missed`` are the criteria it failed, ``name`` is its picture's on the page."""
    record = results.frame.iloc[row]

    def text(column: str, limit: int = 1000) -> str:
        return plain(record.get(column), limit)

    def value(column: str) -> float | None:
        return real(record.get(column))

    rank, entries, closed = (value(c) for c in ("shortlist_rank", "hull_entries", "e_above_closed_hull"))
    picture, no_picture = _picture(results, row, name)
    cif, href = cif_link(text("cif_file", 400) or results.cif_files.get(int(rank or 0), ""))
    return Card(
        rank="" if rank is None else f"{rank:.0f}",
        id=text("id"),
        formula=plain(formula_of(results, row), 80),
        space_group=text("space_group", 40),
        e_above_hull=value("e_above_hull"),
        formation_energy=value("formation_energy_per_atom"),
        nearest=text("nearest_known"),
        nearest_formula=text("nearest_known_formula", 80),
        nearest_distance=value("nearest_known_distance"),
        score=value("score"),
        hull_entries="" if entries is None else f"{entries:.0f}",
        hull_support=text("hull_support", 20),
        hull_gaps=text("hull_gaps", 200),
        hull_warning=text("hull_warning" if closed is None else "closed_hull_warning", 200),
        grade=text("novelty_grade", 20),
        known_compound=text("known_compound", 80),
        round_name=next((r.name for r in results.rounds if r.rows[row]), ""),
        cif=cif,
        cif_href=href,
        missed=tuple(missed),
        reason=text("reason", 300),
        picture=picture,
        no_picture=no_picture,
        e_above_closed_hull=closed,
        closed=_closed(record),
        judges=tuple((name, value(column)) for name, column in results.judges),
        chance=value("p_stable"),
        in_place_of=text("in_place_of", 200),
        merit=value("merit"),
        on_front=str(record.get("on_front")) == "True",
    )


def _closed(record: pd.Series) -> str:
    """What a crystal would decompose into, and how far the search for it went."""
    mixture = plain(record.get("decomposes_to"), 4000)
    if not mixture:
        return ""
    tried, converged = real(record.get("num_competitors")), str(record.get("search_converged")) == "True"
    if tried is None:
        return phases(mixture)
    ended = "the search converged" if converged else "the search did not converge"
    return f"{phases(mixture)}; {tried:.0f} competitors tried, {ended}"


def phases(decomposition: str) -> str:
    """``"0.50 NaCl + 0.50 KCl*"`` of the JSON in ``decomposes_to``; a star is for what is hypothetical.

    "" for text that is something else.
    """
    try:
        found = [(float(p["amount"]), str(p["formula"]), bool(p["known"])) for p in json.loads(decomposition)]
    except (ValueError, TypeError, KeyError):
        return ""
    return " + ".join(f"{amount:.2f} {formula}{'' if known else '*'}" for amount, formula, known in found)


def _picture(results: Results, row: int, name: str) -> tuple[Picture | None, str]:
    try:
        crystal = _crystal(results, row)
        return (None, "no structure") if crystal is None else (draw_structure(crystal, name), "")
    except ValueError as error:
        return None, f"no picture: {error}"


def _crystal(results: Results, row: int) -> Crystals | None:
    """The row's structure, None if it has none. Raises ValueError if its parts contradict one another."""
    record = results.frame.iloc[row]
    species, coords, lattice = (record[name] for name in ("atomic_numbers", "frac_coords", "lattice"))
    if not all(pd.api.types.is_list_like(part) for part in (species, coords, lattice)):
        return None
    return Crystals(species, coords, lattice, np.array([len(species)]), (record["id"],))


def formula_of(results: Results, row: int) -> str:
    """The formula given, else the one of the structure, else ""."""
    given = plain(results.frame.iloc[row].get("formula"))
    try:
        crystal = None if given else _crystal(results, row)
        return given if crystal is None else crystal.compositions()[0].reduced_formula
    except ValueError:  # the picture's place says what is wrong with the structure
        return ""


def cif_link(name: str) -> tuple[str, str]:
    """A CIF's name as given, and a link if it is a relative path that stays inside the run folder."""
    path = PurePosixPath(name)
    safe = name and not path.is_absolute() and ".." not in path.parts and path.suffix == ".cif"
    if not safe or ":" in path.parts[0] or "\\" in name:
        return name, ""
    if len(path.parts) == 1:
        path = "shortlist" / path
    return str(path), quote(str(path))
