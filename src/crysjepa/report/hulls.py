"""Hulls of binary and ternary systems with a crystal of the list on them, from what the folder keeps.

``hull.parquet`` has the compounds that the crystals were compared with (:mod:`crysjepa.energy.kept_hull`),
``competitors.parquet`` the hypothetical ones that were searched for. The hulls are pymatgen's, of these
entries and the elements at 0 eV/atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup
from numpy.typing import NDArray
from pymatgen.core import Composition, Element

from crysjepa.core.crystals import Crystals
from crysjepa.energy.compositions import read_composition
from crysjepa.energy.kept_hull import FILE
from crysjepa.report.cards import Card, crystal_of
from crysjepa.report.labels import place_labels
from crysjepa.report.results import Results, plain, real
from crysjepa.report.style import HIGHLIGHT, INK, MUTED, PAPER, ROUND_COLOURS, in_house_style, new_figure
from crysjepa.report.svg import inline_svg
from crysjepa.report.wording import drawn_formula, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pymatgen.analysis.phase_diagram import PhaseDiagram

MOST = 6
"""Hulls on a page."""
_NEAR = 0.05
"""eV/atom above the closed hull: hypothetical compounds that lie higher are not drawn."""
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


@dataclass(frozen=True)
class Phase:
    """A compound: formation energy in eV/atom, its id or "", whether it is known or was searched for."""

    formula: str
    energy: float
    id: str
    known: bool

    @property
    def drawn(self) -> str:
        """The formula with subscripts, and a star where it is hypothetical."""
        return f"{drawn_formula(self.formula) or self.formula}{'' if self.known else '*'}"


@dataclass(frozen=True)
class HullPicture:
    """A drawn hull; ``phases`` are those on it but the elements, ``place`` is the crystal's in the list."""

    place: int
    formula: str
    svg: Markup
    says: str
    phases: tuple[Phase, ...]


def read_phases(folder: Path) -> list[Phase]:
    """What the folder keeps of known and hypothetical compounds; nothing where it keeps none.

    Raises ValueError naming a file that is not what its name promises.
    """
    found = []
    for name, formula, known in ((FILE, "composition", True), ("competitors.parquet", "formula", False)):
        if not (folder / name).is_file():
            continue
        columns = ["id", formula, "formation_energy_per_atom"]
        try:
            frame = pq.read_table(folder / name).to_pandas()
            rows = frame[columns] if known else _near(frame)[columns]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ValueError(f"{folder / name} holds no compounds with energies: {error}") from error
        for id_, text, energy in rows.itertuples(index=False):
            fractions, reason = read_composition(text)
            if fractions is None:
                raise ValueError(f"{folder / name}: {reason}")
            if (value := real(energy)) is not None:
                found.append(Phase(text, value, plain(id_, 80), known))
    return found


def _near(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["e_above_closed_hull"] <= _NEAR).fillna(False).astype(bool)]


def hull_pictures(
    results: Results, rows: Sequence[int], cards: Sequence[Card], phases: Sequence[Phase]
) -> list[HullPicture]:
    """The hulls of the first :data:`MOST` crystals of two or three elements that have a formation energy.

    None where no phases were kept.
    """
    found = list[HullPicture]()
    for place, (row, card) in enumerate(zip(rows, cards, strict=True), start=1):
        if len(found) == MOST or not phases:
            break
        if len(card.elements) in (2, 3) and card.formation_energy is not None:
            found.append(_picture(place, card, _composition(results, row), phases))
    return found


def _composition(results: Results, row: int) -> Composition:
    crystal = crystal_of(results, row)
    assert isinstance(crystal, Crystals)  # a card with elements has a structure
    return crystal.compositions()[0]


def _picture(place: int, card: Card, composition: Composition, phases: Sequence[Phase]) -> HullPicture:
    elements, energy = sorted(card.elements), card.formation_energy
    assert energy is not None
    # a competitor may itself be on the list; a known compound stays, for the crystal was judged against it
    others = [p for p in phases if p.known or p.id != card.id]
    inside = [p for p in others if len(_elements(p.formula)) > 1 and _elements(p.formula) <= set(elements)]
    known = diagram(elements, [p for p in inside if p.known])
    closed = diagram(elements, inside)
    draw = _binary if len(elements) == 2 else _ternary
    says = f"{number(card.e_above_hull)} eV/atom above the known hull"
    if card.e_above_closed_hull is not None:
        says += f", {number(card.e_above_closed_hull)} above the closed one"
    figure = draw(elements, known, closed, inside, (composition, energy))
    name = f"The hull of {'-'.join(elements)} with {card.formula}"
    svg = inline_svg(figure, f"h{place}", name)
    assert svg is not None
    ordered = tuple(sorted(on_hull(closed), key=lambda p: (not p.known, p.formula, p.id)))
    return HullPicture(place, card.formula, svg, says, ordered)


@lru_cache(maxsize=100_000)
def _elements(formula: str) -> frozenset[str]:
    return frozenset(e.symbol for e in Composition(formula).elements)


def diagram(elements: Sequence[str], phases: Sequence[Phase]) -> PhaseDiagram:
    """The hull of phases and of the elements at 0 eV/atom."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram  # with plotting: a tenth of a second

    entries = [PDEntry(Composition(e), 0.0) for e in elements]
    for phase in phases:
        composition = Composition(phase.formula)
        entries.append(PDEntry(composition, phase.energy * composition.num_atoms, attribute=phase))
    return PhaseDiagram(entries, [Element(e) for e in elements])


def on_hull(hull: PhaseDiagram) -> list[Phase]:
    """The phases on a hull of :func:`diagram`, but for the elements."""
    attributes = (getattr(entry, "attribute", None) for entry in hull.stable_entries)
    return [phase for phase in attributes if isinstance(phase, Phase)]


# -- drawing -------------------------------------------------------------------------------------

_Crystal = tuple[Composition, float]


def _fractions(composition: Composition, elements: Sequence[str]) -> NDArray[np.float64]:
    return np.array([composition.get_atomic_fraction(e) for e in elements])


@in_house_style
def _binary(
    elements: Sequence[str], known: PhaseDiagram, closed: PhaseDiagram, phases: Sequence[Phase],
    crystal: _Crystal,
) -> Figure:  # fmt: skip
    """Formation energies in eV/atom over the fraction of the second element."""
    figure = new_figure(figsize=(6.4, 3.9))
    axes = figure.subplots()

    def line(hull: PhaseDiagram) -> NDArray[np.float64]:
        points = [(_fractions(e.composition, elements)[1], e.energy_per_atom) for e in hull.stable_entries]
        return np.array(sorted(points))

    axes.plot(*line(known).T, color=INK, lw=1.4, label="known hull", zorder=2)
    if any(not p.known for p in phases):
        axes.plot(*line(closed).T, color=ROUND_COLOURS[2], lw=1.2, ls="--", label="closed hull", zorder=2)
    for is_known, style in _STYLES.items():
        some = [p for p in phases if p.known == is_known]
        at = [_fractions(Composition(p.formula), elements)[1] for p in some]
        axes.plot(at, [p.energy for p in some], zorder=3, **style)
    x, y = float(_fractions(crystal[0], elements)[1]), crystal[1]
    axes.plot([x, x], [y, closed.get_hull_energy_per_atom(crystal[0])], color=HIGHLIGHT, lw=1.2, zorder=3)
    axes.plot([x], [y], zorder=5, **_STAR)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel(f"fraction of {elements[1]} in {'–'.join(elements)}")
    axes.set_ylabel("formation energy (eV/atom)")
    axes.margins(y=0.15)
    axes.grid(axis="y")
    _legend(figure)
    labels = [
        (float(_fractions(Composition(p.formula), elements)[1]), p.energy, p.drawn) for p in on_hull(closed)
    ]
    place_labels(figure, axes, [(x, y, ""), *sorted(labels)])
    return figure


@in_house_style
def _ternary(
    elements: Sequence[str], known: PhaseDiagram, closed: PhaseDiagram, phases: Sequence[Phase],
    crystal: _Crystal,
) -> Figure:  # fmt: skip
    """Gibbs' triangle: compounds that are stable together are joined by lines."""
    figure = new_figure(figsize=(6.4, 5.2))
    axes = figure.subplots()

    def place(composition: Composition) -> NDArray[np.float64]:
        return np.asarray(_fractions(composition, elements) @ _CORNERS)

    for facet in closed.facets:
        corners = np.array([place(closed.qhull_entries[i].composition) for i in [*facet, facet[0]]])
        axes.plot(*corners.T, color=MUTED, lw=0.9, zorder=1)
    axes.plot(*_CORNERS[[0, 1, 2, 0]].T, color=INK, lw=1.2, zorder=1)
    stable = on_hull(closed)
    for is_known, style in _STYLES.items():
        hollow = {**style, "label": "_", "markerfacecolor": PAPER}
        for on, look in ((False, hollow), (True, style)):
            some = [p for p in phases if p.known == is_known and (p in stable) == on]
            points = np.array([place(Composition(p.formula)) for p in some]).reshape(-1, 2)
            axes.plot(*points.T, zorder=3 if on else 2, **look)
    x, y = place(crystal[0]).tolist()
    axes.plot([x], [y], zorder=5, **_STAR)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.margins(0.12)
    _legend(figure)
    names = {e: e for e in elements} | {p.formula: p.drawn for p in sorted(stable, key=lambda p: p.formula)}
    labels = [(*place(Composition(formula)).tolist(), name) for formula, name in names.items()]
    place_labels(figure, axes, [(x, y, ""), *labels])
    return figure


_STYLES: dict[bool, dict[str, Any]] = {
    True: {"ls": "", "marker": "o", "markersize": 6, "color": INK, "markeredgecolor": INK, "label": "known"},
    False: {
        "ls": "", "marker": "s", "markersize": 5.5, "color": ROUND_COLOURS[2],
        "markeredgecolor": ROUND_COLOURS[2], "label": "hypothetical*",
    },
}  # fmt: skip
_STAR: dict[str, Any] = {
    "ls": "", "marker": "*", "markersize": 15, "color": HIGHLIGHT, "markeredgecolor": INK,
    "markeredgewidth": 0.8, "label": "this crystal",
}  # fmt: skip


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles, labels = figure.axes[0].get_legend_handles_labels()
    there = [
        (h, t)
        for h, t in zip(handles, labels, strict=True)
        if isinstance(h, Line2D) and np.size(h.get_xdata())
    ]
    figure.legend(*zip(*there, strict=True), loc="outside upper left", ncols=3)
