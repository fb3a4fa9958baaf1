"""A protocol with the data that it needs at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crysjepa import __version__
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.criteria import evaluate_table
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.grades import KnownFormulas
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.prototypes import PrototypeIndex, mark_prototypes
from crysjepa.evaluation.published import fingerprints_file, with_published
from crysjepa.evaluation.reference import Known
from crysjepa.matching.by_name import MATCHINGS, STRUCTURE_MATCHER, Index, index_by
from crysjepa.matching.uniqueness import FormulaIndex
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import relax_crystals
from crysjepa.runtime.progress import StageProgress

_VERDICTS = ("pymatgen", "smact", "moyopy", "ase", "numpy", "scipy")
"""Packages whose version may change a verdict."""


@dataclass(frozen=True)
class Evaluator:
    """A protocol with the data that it needs at hand.

    ``hull`` and ``references`` are None when stability is not asked for; ``finetuned_on`` is what the
    generator was fine-tuned on, if it was. ``processes`` decide nothing but the time it takes.
    """

    protocol: Protocol
    reference: Index
    hull: Hull | None
    references: ElementalReferences | None
    device: str = "cpu"
    finetuned_on: Index | None = None
    names: tuple[str, str] = ("", "")
    processes: int = 1
    known: KnownFormulas | None = None

    @classmethod
    def prepare(
        cls,
        protocol: Protocol,
        reference: Known,
        hull: Hull | None,
        references: ElementalReferences | None,
        *,
        device: str = "cpu",
        finetuned_on: Known | None = None,
        processes: int = 1,
    ) -> Evaluator:
        """Index the reference for matching. Raises ValueError if it has no readable crystals, or the file of
        ``protocol.fingerprints`` no hashes."""
        if protocol.fingerprints is not None:
            fingerprints_file(protocol.fingerprints)
        known = _index(reference.crystals(), protocol)
        tuned = None if finetuned_on is None else _index(finetuned_on.crystals(), protocol)
        names = (reference.name, "" if finetuned_on is None else finetuned_on.name)
        own = None if reference.name == NAME else known.crystals
        return cls(
            protocol, known, hull, references, device, tuned, names, processes, KnownFormulas.of(own, hull)
        )

    def relax(
        self, table: CandidateTable, shards: Path, progress: StageProgress | None = None
    ) -> CandidateTable:
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

    def energies(self) -> dict[str, Any]:
        """Where the energies of :meth:`relax` are from: for a file's metadata."""
        return energy_metadata(force_field_info(self.protocol.force_field), self.protocol.relaxation)

    def evaluate(self, table: CandidateTable, progress: StageProgress | None = None) -> CandidateTable:
        """Decide validity, uniqueness, novelty and, given energies and a hull, stability."""
        judged = evaluate_table(
            table,
            reference=self.reference,
            finetuned_on=self.finetuned_on,
            known=self.known,
            hull=self.hull,
            references=self.references,
            rules=replace(self.protocol.rules, processes=self.processes),
            progress=progress,
        )
        if self.protocol.fingerprints is not None:
            judged = with_published(
                judged, self.protocol.fingerprints, processes=self.processes, progress=progress
            )
        if self.protocol.prototypes:
            known = self.reference
            if not isinstance(known, FormulaIndex):
                known = FormulaIndex(known.crystals, matcher=self.protocol.matcher())
            judged = mark_prototypes(
                judged, PrototypeIndex(known), processes=self.processes, progress=progress
            )
        return judged

    def describe(self) -> dict[str, Any]:
        """What the results are relative to: for ``metrics.json``."""
        protocol = self.protocol
        found: dict[str, Any] = {
            **protocol.model_dump(mode="json"),
            "matcher": _matcher_description(protocol),
            "novelty_set": self.reference.crystals.content_hash(),
            "novelty_set_name": self.names[0],
            "novelty_set_size": len(self.reference.crystals),
            "versions": {"crysjepa": __version__, **{name: version(name) for name in _VERDICTS}},
        }
        if self.finetuned_on is not None:
            found |= {
                "finetuning_set": self.finetuned_on.crystals.content_hash(),
                "finetuning_set_name": self.names[1],
                "finetuning_set_size": len(self.finetuned_on.crystals),
            }
        if protocol.relax:
            info = force_field_info(protocol.force_field)
            found |= {"force_field_version": info.version, "force_field_scale": info.scale}
            found["functional"] = info.functional
        if self.hull is not None:
            found |= {
                "hull": self.hull.source,
                "hull_hash": self.hull.content_hash,
                "hull_scale": self.hull.scale,
                "hull_scale_stated": self.hull.scale_stated,
                "hull_compounds": len(self.hull),
                "hull_left_out": self.hull.left_out,
            }
        if self.hull is not None and self.references is not None:
            found |= {
                "elemental_references": self.references.source,
                "elemental_references_mae": self.references.mae,
                "elemental_references_method": self.references.method,
                "energy_corrections": self.references.corrections,
            }
        return found


def _index(crystals: Crystals, protocol: Protocol) -> Index:
    return index_by(protocol.matching, crystals, matcher=protocol.matcher())


def _matcher_description(protocol: Protocol) -> str:
    if protocol.matching != STRUCTURE_MATCHER:
        return str(MATCHINGS[protocol.matching])
    if (protocol.ltol, protocol.stol, protocol.angle_tol) == (0.2, 0.3, 5.0):
        return "pymatgen StructureMatcher, default tolerances"
    return (
        f"pymatgen StructureMatcher, ltol {protocol.ltol}, stol {protocol.stol}, angle {protocol.angle_tol}°"
    )
