"""Rows of the short list: what the page shows of one crystal."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np
import pandas as pd

from crysjepa.core.crystals import Crystals
from crysjepa.io.assemble import problems_of
from crysjepa.io.cif.write import cif_text, file_names
from crysjepa.report.objectives import Value
from crysjepa.report.provenance import Verdict, verdicts
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
    file: str
    text: str
    missed: tuple[str, ...]
    reason: str
    picture: Picture | None
    no_picture: str
    e_above_closed_hull: float | None
    closed: str
    judges: tuple[tuple[str, float | None], ...]
    chance: float | None
    on_hull: float | None
    in_place_of: str
    merit: float | None
    on_front: bool
    flags: tuple[str, ...]
    elements: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    values: tuple[Value, ...] = ()

    @property
    def above(self) -> float | None:
        """Energy above the closed hull where there is one, else above the known one; eV/atom."""
        return self.e_above_hull if self.e_above_closed_hull is None else self.e_above_closed_hull

    @property
    def data(self) -> str:
        """The CIF as a link that holds it; "" where there is none."""
        return data_link(self.text.encode(), "chemical/x-cif") if self.text else ""


FLAGS: Mapping[str, tuple[str, str]] = {
    "valid": ("valid", "True"),
    "stable": ("stable", "True"),
    "unique": ("unique", "True"),
    "novel": ("novel", "True"),
    "new formula": ("novelty_grade", "new formula"),
    "supported hull": ("hull_support", "supported"),
    "stable by the closed hull": ("stable_closed", "True"),
    "stable by all judges": ("stable_by_all", "True"),
    "converged": ("converged", "True"),
}
"""What crystals can be filtered by: the column, and what stands there of a crystal that has it."""


def make_card(results: Results, row: int, missed: Sequence[str], name: str) -> Card:
    """What to show of a row; ``missed`` are the criteria it failed, ``name`` is its picture's on the page."""
    record = results.record(row)

    def text(column: str, limit: int = 1000) -> str:
        return plain(record.get(column), limit)

    def value(column: str) -> float | None:
        return real(record.get(column))

    rank, entries, closed = (value(c) for c in ("shortlist_rank", "hull_entries", "e_above_closed_hull"))
    picture, no_picture = _picture(results, row, name)
    cif, href = cif_link(text("cif_file", 400) or results.cif_files.get(int(rank or 0), ""))
    formula = plain(formula_of(results, row), 80)
    return Card(
        rank="" if rank is None else f"{rank:.0f}",
        id=text("id"),
        formula=formula,
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
        file=file_names([PurePosixPath(cif).stem if cif else f"{formula}-{text('id')}"])[0] + ".cif",
        text=_cif(results, row),
        missed=tuple(missed),
        reason=text("reason", 300),
        picture=picture,
        no_picture=no_picture,
        e_above_closed_hull=closed,
        closed=_closed(record),
        judges=tuple((name, value(column)) for name, column in results.judges),
        chance=value("p_stable"),
        on_hull=value("p_on_hull"),
        in_place_of=text("in_place_of", 200),
        merit=value("merit"),
        on_front=str(record.get("on_front")) == "True",
        flags=tuple(flag for flag, (column, has) in FLAGS.items() if str(record.get(column)) == has),
        elements=_elements(results, row),
        verdicts=verdicts(results, row),
    )


def _closed(record: pd.Series) -> str:
    """What a crystal would decompose into, and how far the search for it went."""
    mixture = plain(record.get("decomposes_to"), 4000)
    if not mixture:
        return ""
    tried, converged = real(record.get("num_competitors")), str(record.get("search_converged")) == "True"
    if tried is None:
        return phases(mixture)
    ended = "the search converged" if converged else "the search did not converge (see the notes)"
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
        crystal = crystal_of(results, row)
        return (None, "no structure") if crystal is None else (draw_structure(crystal, name), "")
    except ValueError as error:
        return None, f"no picture: {error}"


def crystal_of(results: Results, row: int) -> Crystals | None:
    """The row's structure, None if it has none. Raises ValueError if its parts contradict one another."""
    record = results.record(row)
    species, coords, lattice = (record[name] for name in ("atomic_numbers", "frac_coords", "lattice"))
    if not all(pd.api.types.is_list_like(part) for part in (species, coords, lattice)):
        return None
    return Crystals(species, coords, lattice, np.array([len(species)]), (record["id"],))


def _cif(results: Results, row: int) -> str:
    """The crystal as a CIF; "" for one that none can be made of, of which the picture's place says why."""
    try:
        crystal = crystal_of(results, row)
        if crystal is None or problems_of(crystal):
            return ""
        return cif_text(crystal.to_structures()[0], symmetric=True)
    except ValueError:
        return ""


def _elements(results: Results, row: int) -> tuple[str, ...]:
    try:
        crystal = crystal_of(results, row)
        return () if crystal is None else tuple(crystal.chemical_systems()[0].split("-"))
    except ValueError:
        return ()


def data_link(content: bytes, kind: str) -> str:
    """A link that holds a file itself: it works in a page that is mailed, and without a script."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def formula_of(results: Results, row: int) -> str:
    """The formula given, else the one of the structure, else ""."""
    given = plain(results.record(row).get("formula"))
    try:
        crystal = None if given else crystal_of(results, row)
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
