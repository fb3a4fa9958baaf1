"""One protocol for judging crystals: relax, give them energies against a hull, decide V, S, U and N.

``crysjepa evaluate`` and every round of ``crysjepa discover`` go through :class:`Judge`, so that their
numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from crysjepa import datasets
from crysjepa.candidates import CandidateTable
from crysjepa.energy.hull import ASSUMED_SCALE, Hull
from crysjepa.energy.references import (
    ElementalReferences,
    ScaleMismatch,
    check_scales,
    fit_references,
    load_references,
    read_references,
)
from crysjepa.evaluate.metrics import crystal_metrics, evaluate_table, load_hull, scale_of
from crysjepa.nn.checkpoint import file_hash
from crysjepa.relax.force_fields import force_field_info, get_force_field
from crysjepa.relax.relax import RelaxSettings, relax_crystals
from crysjepa.run import Run, read_json, write_json
from crysjepa.screen.matching import FormulaIndex

Report = Callable[[str, int, int], None]
"""progress(stage, done, total)"""

_FITTED_ON = 600
"""Crystals whose energies a fit of elemental references computes: some 6 for each element."""


class Protocol(BaseModel):
    """How crystals are judged; two results agree on all of this or cannot be compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    force_field: str = "chgnet"
    relax: bool = True
    relaxation: RelaxSettings = RelaxSettings(fmax=0.1, max_steps=150)
    e_above_hull_max: float = Field(0.1, description="eV/atom; stable at or below")
    min_hull_entries: int = Field(0, ge=0, description="compounds that the hull must know to call one stable")
    elemental_references: str | None = Field(None, description="JSON file; by default shipped, else fitted")
    allow_mixed_scales: bool = False


@dataclass(frozen=True)
class Judge:
    """A protocol with the data that it needs at hand.

    ``hull`` and ``references`` are None when stability is not asked for.
    """

    protocol: Protocol
    reference: FormulaIndex
    hull: Hull | None
    references: ElementalReferences | None
    device: str = "cpu"

    @classmethod
    def prepare(
        cls,
        protocol: Protocol,
        reference: Known,
        hull: Hull | None,
        references: ElementalReferences | None,
        *,
        device: str = "cpu",
    ) -> Judge:
        """Index the reference for matching. Raises ValueError if it has no readable crystals."""
        crystals = reference.table.crystals(reference.table.ok_ids)
        if not len(crystals):
            raise ValueError("the reference has no readable crystals")
        return cls(protocol, FormulaIndex(crystals), hull, references, device)

    def relax(self, table: CandidateTable, shards: Path, progress: Report | None = None) -> CandidateTable:
        """Relax every row that is still ``ok``."""
        done = relax_crystals(
            table.crystals(table.ok_ids),
            force_field=self.protocol.force_field,
            settings=self.protocol.relaxation,
            device=self.device,
            shards=shards,
            progress=(lambda n, total: progress("relax", n, total)) if progress else None,
        )
        return done.apply_to(table)

    def judge(self, table: CandidateTable, progress: Report | None = None) -> CandidateTable:
        """Decide validity, uniqueness, novelty and, given energies and a hull, stability."""
        return evaluate_table(
            table,
            reference=self.reference,
            hull=self.hull,
            references=self.references,
            e_above_hull_max=self.protocol.e_above_hull_max,
            min_hull_entries=self.protocol.min_hull_entries,
            allow_mixed_scales=self.protocol.allow_mixed_scales,
            progress=progress,
        )

    def describe(self) -> dict[str, Any]:
        """What the results are relative to: for ``metrics.json``."""
        found: dict[str, Any] = {
            **self.protocol.model_dump(mode="json"),
            "matcher": "pymatgen StructureMatcher, default tolerances",
            "novelty_set": self.reference.crystals.content_hash(),
            "novelty_set_size": len(self.reference.crystals),
        }
        if self.protocol.relax:
            info = force_field_info(self.protocol.force_field)
            found["force_field_version"] = info.version
        if self.hull is not None and self.references is not None:
            found |= {
                "hull": self.hull.source,
                "hull_scale": self.hull.scale,
                "hull_scale_stated": self.hull.scale_stated,
                "hull_compounds": len(self.hull),
                "elemental_references": self.references.source,
                "elemental_references_mae": self.references.mae,
            }
        return found


@dataclass(frozen=True)
class Known:
    """A reference: its table, and the scale of its formation energies."""

    table: CandidateTable
    scale: str

    @classmethod
    def load(cls, name_or_path: str | Path) -> Known:
        """From a data set's name or a path; the scale is what a Parquet file states, or the assumed one."""
        return cls(datasets.load(str(name_or_path)), scale_of(name_or_path) or ASSUMED_SCALE)


def find_references(
    protocol: Protocol, hull: Hull, known: Known, *, device: str = "cpu", progress: Report | None = None
) -> ElementalReferences:
    """Elemental references on the hull's scale: from a file, shipped, or fitted on the known crystals.

    The fit evaluates up to 600 of them (those with ``formation_energy_per_atom``) with the force field, as
    they are, and is only as good as their labels; its error is recorded.

    Raises
    ------
    ScaleMismatch
        If the file belongs to another force field, or the labels to fit on are on another scale than the
        hull, unless ``protocol.allow_mixed_scales``.
    FileNotFoundError
        If none are shipped and there are no formation energies to fit on.
    """
    if protocol.elemental_references is not None:
        found = read_references(protocol.elemental_references)
        if found.force_field != protocol.force_field and not protocol.allow_mixed_scales:
            raise ScaleMismatch(
                f"{protocol.elemental_references} holds references for the force field "
                f"{found.force_field!r}, not {protocol.force_field!r}: fit some for it, or set "
                "allow_mixed_scales in --config"
            )
        return found
    try:
        return load_references(protocol.force_field, hull.scale)
    except FileNotFoundError:
        if "formation_energy_per_atom" not in known.table:
            raise
    check_scales(known.scale, hull.scale, allow_mixed=protocol.allow_mixed_scales)
    return _fitted(protocol.force_field, known, device, progress)


def _fitted(name: str, known: Known, device: str, progress: Report | None) -> ElementalReferences:
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
    return fit_references(
        crystals.select(list(totals)).compositions(),
        list(totals.values()),
        table.column("formation_energy_per_atom", list(totals)),
        force_field=name,
        scale=known.scale,
        source=f"fitted on {len(totals)} crystals of the reference",
    )


def evaluate_crystals(
    table: CandidateTable,
    *,
    reference: str | Path,
    hull: str | Path | None,
    out: Path,
    protocol: Protocol | None = None,
    device: str = "cpu",
    progress: Report | None = None,
) -> dict[str, Any]:
    """Judge a table of crystals and write ``crystals.parquet`` and ``metrics.json`` into ``out``.

    Parameters
    ----------
    reference, hull
        A file, folder or data set name. Without a hull, or without relaxation, stability is not computed
        (null), and neither are S.U.N. and V.S.U.N.

    Returns
    -------
    dict
        What ``metrics.json`` holds: ``num_crystals``, the fractions ``valid``, ``stable``, ``unique``,
        ``novel``, ``sun``, ``vsun`` over all crystals, their intervals, and the protocol.
    """
    protocol = protocol or Protocol()
    known = Known.load(reference)
    found_hull = load_hull(hull) if hull is not None and protocol.relax else None
    own = protocol_inputs(protocol, known, found_hull, device) | {"crystals": table.content_hash()}
    run = Run(out, {"evaluate": protocol.model_dump(mode="json")}, own)

    def work() -> None:
        references = None
        if found_hull is not None:
            references = find_references(protocol, found_hull, known, device=device, progress=progress)
        judge = Judge.prepare(protocol, known, found_hull, references, device=device)
        fresh = table.undecided()
        relaxed = judge.relax(fresh, out / "relax", progress) if protocol.relax else fresh
        judged = judge.judge(relaxed, progress)
        if judge.hull is None:
            judged = _without(judged, "stable", "e_above_hull")
        write_json(
            run.path("metrics.json"),
            {**crystal_metrics(judged), "protocol": judge.describe(), "device": device},
        )
        for name, dtype in (("stable", "boolean"), ("e_above_hull", "Float64")):
            judged = judged if name in judged else judged.with_column(name, {}, dtype)
        judged.write(run.path("crystals.parquet"))

    run.stage("evaluate", ["crystals.parquet", "metrics.json"], work)
    return read_json(run.path("metrics.json"))


def protocol_inputs(protocol: Protocol, known: Known, hull: Hull | None, device: str) -> dict[str, str]:
    """Hashes of what a protocol reads, and the device: a run goes on only with the same."""
    found = {"reference": known.table.content_hash(), "device": device}
    if hull is not None:
        found["hull"] = hull.content_hash
    if protocol.elemental_references is not None:
        found["elemental_references"] = file_hash(protocol.elemental_references)
    return found


def _without(table: CandidateTable, *columns: str) -> CandidateTable:
    return CandidateTable(table.frame.drop(columns=[c for c in columns if c in table]))
