"""Known crystals, and the elemental references that a force field needs to speak of formation energies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.columns import UnclearColumns, stated_in, telling_columns
from crysjepa.energy.corrections import corrections_by
from crysjepa.energy.elemental_references import (
    MIX,
    MP2020,
    ElementalReferences,
    ScaleMismatch,
    check_scales,
    fit_references,
    load_references,
    read_references,
)
from crysjepa.energy.hull import ASSUMED_SCALE, Hull
from crysjepa.energy.known_hull import NAME, SCALE
from crysjepa.energy.load_hull import hull_or_default, scale_of
from crysjepa.evaluation.given import energies_of
from crysjepa.evaluation.protocol import Protocol
from crysjepa.relaxation.force_fields.registry import force_field_info, get_force_field, is_model
from crysjepa.runtime.files import write_text
from crysjepa.runtime.progress import StageProgress

PLAIN_SCALE = f"{ASSUMED_SCALE}_uncorrected"
_FITTED_ON = 600
"""Crystals whose energies a fit of elemental references computes: some 6 for each element."""


@dataclass(frozen=True)
class Known:
    """A reference: its table, the scale of its formation energies, and what it is called.

    ``scale_stated`` is False where the file does not state the scale and it was assumed; ``computed`` is True
    where the file says that its energies are a force field's: such are no competitors in a hull of DFT's.
    """

    table: CandidateTable
    scale: str
    name: str = ""
    scale_stated: bool = True
    computed: bool = False

    @classmethod
    def load(cls, name_or_path: str | Path) -> Known:
        """From a data set's name or a path; the scale is what a Parquet file states, or the assumed one."""
        path = Path(name_or_path)
        own = path.name == NAME and str(name_or_path) != NAME  # called as the bundled data set is
        table = datasets.load(str(name_or_path))
        scale = _scale(table, path.name, scale_of(name_or_path))
        return cls(
            table,
            scale or ASSUMED_SCALE,
            f"./{NAME}" if own else path.name,
            scale is not None,
            str(name_or_path) != NAME and energies_of(name_or_path) is not None,
        )

    def hull_or_default(self, hull: str | Path | None) -> Hull:
        """The hull of that name or path; by default the bundled one and this reference's energies."""
        table = self.table
        if self.computed:
            table = CandidateTable(table.frame.drop(columns="formation_energy_per_atom", errors="ignore"))
        return hull_or_default(hull, table, self.scale, self.name, scale_stated=self.scale_stated)

    def crystals(self) -> Crystals:
        """Those that could be read. Raises ValueError if there are none."""
        found = self.table.crystals(self.table.ok_ids)
        if not len(found):
            raise ValueError("the reference has no readable crystals")
        return found


def _scale(table: CandidateTable, name: str, scale: str | None) -> str | None:
    """The scale that is stated, or that its columns tell; unclear ones are refused where they make a hull."""
    told = {column: table.column(column) for column in telling_columns(map(str, table.frame.columns))}
    try:
        return stated_in(told, name, scale)
    except UnclearColumns:
        return scale


def find_references(
    protocol: Protocol,
    hull: Hull,
    known: Known,
    *,
    device: str = "cpu",
    progress: StageProgress | None = None,
) -> ElementalReferences:
    """Elemental references on the hull's scale: from a file, the hull's own, shipped, or fitted on the known
    crystals (on the bundled ones, if these have no energies on that scale).

    A fit is kept in the cache folder. It evaluates up to 600 of them (those with
    ``formation_energy_per_atom``) with the force field, as they are, and is only as good as their labels; its
    error is recorded. Where the force field speaks of plain DFT energies and the labels have the Materials
    Project's corrections, those of 2020 are added first.

    Raises
    ------
    ScaleMismatch
        If the file, or a hull of a force field's own energies, belongs to another force field, or the labels
        to fit on are on another scale than the hull, unless ``protocol.allow_mixed_scales``.
    FileNotFoundError
        If none are shipped and there are no formation energies to fit on.
    """
    if protocol.elemental_references is not None:
        found = read_references(protocol.elemental_references)
        return _own(found, protocol, f"{protocol.elemental_references} holds references")
    if hull.references is not None:
        return _own(hull.references, protocol, f"{hull.source} is a hull of energies")
    try:
        return load_references(protocol.force_field, hull.scale)
    except FileNotFoundError:
        without = "formation_energy_per_atom" not in known.table
        if (without or known.scale != hull.scale) and hull.scale == SCALE:
            known = Known.load(NAME)
        elif without:
            raise
    check_scales(known.scale, hull.scale, allow_mixed=protocol.allow_mixed_scales)
    info = force_field_info(protocol.force_field)
    what = "\0".join((info.name, info.version, info.scale, known.scale, known.table.content_hash()))
    kept = datasets.cache_folder() / "references" / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
    if kept.is_file():
        try:
            return read_references(kept)
        except (ValueError, TypeError, KeyError):  # cut short, or of another version
            kept.unlink()
    found = fitted_references(protocol.force_field, known, device, progress)
    if info.version != "unknown" and ":" not in info.name:  # a calculator by import path may have changed
        try:
            write_text(kept, found.to_json())
        except OSError:  # a cache folder that cannot be written to costs time, not results
            return found
    return found


def _own(found: ElementalReferences, protocol: Protocol, what: str) -> ElementalReferences:
    """The references, if they belong to the protocol's force field."""
    info = force_field_info(protocol.force_field)
    same = found.force_field == info.name and model_of(found.version) in (None, model_of(info.version))
    same = same or is_model(info.name, found.force_field, model_of(found.version) or "")
    if not (same or protocol.allow_mixed_scales):
        raise ScaleMismatch(
            f"{what} of the force field {found.force_field!r} {found.version or ''}, not of {info.name!r} "
            f"{info.version}: judge by --force-field {found.force_field}, or make some for this one; {MIX}"
        )
    return found


def model_of(version: str | None) -> str | None:
    """A force field's version without that of the library in brackets."""
    return None if version is None else version.rsplit(" (", 1)[0]


def fitted_references(
    name: str, known: Known, device: str, progress: StageProgress | None
) -> ElementalReferences:
    force_field, table = get_force_field(name, device), known.table
    energies = table.column("formation_energy_per_atom", table.ok_ids)
    labelled = [i for i, e in zip(table.ok_ids, energies, strict=True) if e is not None]
    order = np.random.default_rng(0).permutation(len(labelled))
    crystals = table.crystals([labelled[i] for i in sorted(order[:_FITTED_ON])])
    totals: dict[str, float] = {}
    for done, crystal in enumerate(crystals, start=1):
        prediction = force_field.evaluate(crystal.to_atoms())[0]
        if not isinstance(prediction, str):
            totals[crystal.ids[0]] = prediction.energy / int(crystal.num_atoms[0])
        if progress is not None:
            progress("fit elemental references", done, len(crystals))
    fit = crystals.select(list(totals))
    corrections = MP2020 if (force_field.scale, known.scale) == (PLAIN_SCALE, ASSUMED_SCALE) else None
    added = corrections_by(corrections, fit)
    fitted = fit_references(
        fit.compositions(),
        [totals[i] + c for i, c in zip(fit.ids, added, strict=True)],
        table.column("formation_energy_per_atom", fit.ids),
        force_field=name,
        scale=known.scale,
        source=f"fitted on {len(totals)} crystals of the reference",
        corrections=corrections,
    )
    return replace(fitted, version=force_field.version)
