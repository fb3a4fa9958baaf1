"""The list of crystals on a page: what it shows, filters and offers for download, and what a viewer draws."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from crysjepa.core.crystals import ARROW_SCHEMA
from crysjepa.io.cif.write import file_names
from crysjepa.report.cards import FLAGS, Card, data_link, make_card
from crysjepa.report.objectives import Aim, values_of
from crysjepa.report.results import Results
from crysjepa.report.scripts import OWN, VIEWER, Script, script, shipped

_MOST = 1_400_000
"""Bytes of a file that a link holds: browsers follow no link of more than 2 MB, and base64 adds a third."""


@dataclass(frozen=True)
class CrystalList:
    """Crystals in the order in which the page lists them.

    ``filters`` are the properties that some of them have and some have not. ``table`` and ``cifs`` are links
    that hold all of them as CSV and as a zip of CIFs, "" where that is too long for a link.
    """

    cards: tuple[Card, ...]
    filters: tuple[str, ...]
    table: str
    cifs: str

    @property
    def scenes(self) -> list[Mapping[str, Any] | None]:
        """What the viewer draws of each (:class:`~crysjepa.report.structures.Picture`)."""
        return [card.picture.scene if card.picture else None for card in self.cards]

    @property
    def has_structures(self) -> bool:
        """Whether there is anything to look at in three dimensions."""
        return any(card.picture for card in self.cards)

    @property
    def scripts(self) -> list[Script]:
        """What the page needs: nothing without crystals, and the viewer only with a structure."""
        names = [VIEWER] * self.has_structures + [OWN] * bool(self.cards)
        return [script(name) for name in names]

    @property
    def licence(self) -> str:
        """Of the viewer, which the page hands on; "" without it."""
        return shipped("3Dmol-LICENSE.txt") if self.has_structures else ""


def crystal_list(
    results: Results, shown: Sequence[tuple[int, Sequence[str]]], aims: Sequence[Aim] = ()
) -> CrystalList:
    """Of rows, each with the criteria that it missed, in this order."""
    cards = tuple(
        replace(make_card(results, row, missed, f"c{i}"), values=values_of(results, aims, row))
        for i, (row, missed) in enumerate(shown)
    )
    counts = {
        flag: sum(flag in card.flags for card in cards)
        for flag, (column, _) in FLAGS.items()
        if column in results.frame
    }
    filters = tuple(flag for flag, count in counts.items() if 0 < count < len(cards))
    rows = [row for row, _ in shown]
    table = _csv(results, rows, cards)
    cifs = _zip(cards)
    return CrystalList(
        cards,
        filters,
        data_link(table, "text/csv;charset=utf-8") if rows and len(table) <= _MOST else "",
        data_link(cifs, "application/zip") if cifs and len(cifs) <= _MOST else "",
    )


def _csv(results: Results, rows: Sequence[int], cards: Sequence[Card]) -> bytes:
    """Every column of the rows but structures, and those that are empty; the CIF's name in the zip."""
    frame = results.frame.iloc[list(rows)].drop(columns=list(ARROW_SCHEMA.names[1:]), errors="ignore")
    frame = frame.assign(formula=[card.formula for card in cards]).dropna(axis="columns", how="all")
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")


def _zip(cards: Sequence[Card]) -> bytes:
    """The CIFs of the crystals that have one, of fixed dates: same crystals, same bytes."""
    there = [card for card in cards if card.text]
    if not there:
        return b""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        names = file_names([PurePosixPath(card.file).stem for card in there])
        for name, card in zip(names, there, strict=True):
            archive.writestr(zipfile.ZipInfo(f"{name}.cif"), card.text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
