"""One protocol for judging crystals: relax, give them energies against a hull, decide V, S, U and N.

``crysjepa evaluate`` and every round of ``crysjepa discover`` go through :class:`Judge`, so that their
numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from crysjepa import datasets
from crysjepa.candidates import CandidateTable
from crysjepa.energy.hull import Hull
from crysjepa.energy.references import (
    ElementalReferences,
    fit_references,
    load_references,
    read_references,
)
from crysjepa.evaluate.metrics import crystal_metrics, evaluate_table, load_hull
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
        cls, protocol: Protocol, reference: CandidateTable, hull: Hull | None, *, device: str = "cpu"
    ) -> Judge:
        """Find the elemental references that go with force field and hull (they are fitted if need be)."""
        crystals = reference.crystals(reference.ok_ids)
        if not len(crystals):
            raise ValueError("the reference has no readable crystals")
        chosen = None
        if hull is not None and protocol.relax:
            chosen = find_references(protocol, hull, reference, device)
        return cls(protocol, FormulaIndex(crystals), hull if protocol.relax else None, chosen, device)

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


def find_references(
    protocol: Protocol, hull: Hull, labelled: CandidateTable, device: str = "cpu"
) -> ElementalReferences:
    """Elemental references on the hull's scale: from a file, shipped, or fitted on ``labelled``.

    The fit evaluates up to 600 crystals of ``labelled`` (those with ``formation_energy_per_atom``) with the
    force field as they are, and is only as good as their labels; its error is recorded.

    Raises
    ------
    FileNotFoundError
        If none are shipped and ``labelled`` has no formation energies to fit on.
    """
    if protocol.elemental_references is not None:
        return read_references(protocol.elemental_references)
    try:
        return load_references(protocol.force_field, hull.scale)
    except FileNotFoundError:
        if "formation_energy_per_atom" not in labelled:
            raise
    force_field = get_force_field(protocol.force_field, device)
    energies = labelled.column("formation_energy_per_atom", labelled.ok_ids)
    known = [i for i, e in zip(labelled.ok_ids, energies, strict=True) if e is not None]
    order = np.random.default_rng(0).permutation(len(known))
    crystals = labelled.crystals([known[i] for i in sorted(order[:_FITTED_ON])])
    predictions = force_field.evaluate(crystals.to_atoms())
    good = [i for i, p in enumerate(predictions) if not isinstance(p, str)]
    fitted = crystals[good]
    return fit_references(
        fitted.compositions(),
        [predictions[i].energy / int(crystals.num_atoms[i]) for i in good],  # type: ignore[union-attr]
        labelled.column("formation_energy_per_atom", fitted.ids),
        force_field=force_field.name,
        scale=hull.scale,
        source=f"fitted on {len(fitted)} crystals of the reference",
    )


def evaluate_crystals(
    table: CandidateTable,
    *,
    reference: str | Path,
    hull: str | Path | None,
    out: Path,
    protocol: Protocol | None = None,
    inputs: Mapping[str, str] | None = None,
    device: str = "cpu",
    progress: Report | None = None,
) -> dict[str, Any]:
    """Judge a table of crystals and write ``crystals.parquet`` and ``metrics.json`` into ``out``.

    Parameters
    ----------
    reference, hull
        A file, folder or data set name. Without a hull, or without relaxation, stability is not computed
        (null), and neither are S.U.N. and V.S.U.N.
    inputs
        Hashes of the inputs: a directory made from others is refused.

    Returns
    -------
    dict
        What ``metrics.json`` holds: ``num_crystals``, the fractions ``valid``, ``stable``, ``unique``,
        ``novel``, ``sun``, ``vsun`` over all crystals, their intervals, and the protocol.
    """
    protocol = protocol or Protocol()
    known = datasets.load(str(reference))
    found_hull = load_hull(hull) if hull is not None and protocol.relax else None
    config = {"evaluate": protocol.model_dump(mode="json")}
    own = {"reference": known.crystals().content_hash(), "crystals": table.crystals().content_hash()}
    if found_hull is not None:
        own["hull"] = found_hull.content_hash
    run = Run(out, config, {**own, **(inputs or {})})

    def work() -> None:
        judge = Judge.prepare(protocol, known, found_hull, device=device)
        relaxed = judge.relax(table, out / "relax", progress) if protocol.relax else table
        judged = judge.judge(relaxed, progress)
        for name in ("stable", "e_above_hull"):
            if name not in judged:
                judged = judged.with_column(name, {}, "boolean" if name == "stable" else "Float64")
        judged.write(run.path("crystals.parquet"))
        computed = judged if judge.hull is not None else _without(judged, "stable", "e_above_hull")
        write_json(run.path("metrics.json"), {**crystal_metrics(computed), "protocol": judge.describe()})

    run.stage("evaluate", ["crystals.parquet", "metrics.json"], work)
    return read_json(run.path("metrics.json"))


def _without(table: CandidateTable, *columns: str) -> CandidateTable:
    return CandidateTable(table.frame.drop(columns=list(columns)))
