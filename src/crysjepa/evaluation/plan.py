"""What an evaluation is of: protocol, known crystals, hull and the energies that come with the crystals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.energy.columns import stated_in, telling_columns
from crysjepa.energy.elemental_references import check_scales
from crysjepa.energy.hull import ASSUMED_SCALE, Hull
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.given import EnergyOrigin, Given, check_formation_energies
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.published import fingerprints_id
from crysjepa.evaluation.reference import Known, find_references, model_of
from crysjepa.evaluation.trust import closable, trust_inputs, usable_judges
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.progress import StageProgress


@dataclass(frozen=True)
class Plan:
    """What an evaluation is of, found out before any work; ``inputs`` are the hashes that decide its results.

    ``given``: crystals are judged by the ``formation_energy_per_atom`` that they come with.
    """

    protocol: Protocol
    known: Known
    tuned: Known | None
    hull: Hull | None
    origin: EnergyOrigin | None
    given: bool
    scale: str | None
    inputs: dict[str, str]

    def evaluator(self, *, device: str, processes: int, progress: StageProgress | None) -> Evaluator:
        """The protocol with its data. Raises ValueError where energies cannot be compared with the hull."""
        protocol, hull, references = self.protocol, self.hull, None
        if hull is not None and protocol.relax:
            references = find_references(protocol, hull, self.known, device=device, progress=progress)
            check_scales(references.scale, hull.scale, allow_mixed=protocol.allow_mixed_scales)
            if (trust := protocol.trust) is not None:
                usable_judges(trust, protocol, hull, self.known, device)
                if trust.close is not None:
                    closable(hull)
        return Evaluator.prepare(
            protocol, self.known, hull, references,
            device=device, finetuned_on=self.tuned, processes=processes,
        )  # fmt: skip

    def about(self, evaluator: Evaluator) -> dict[str, Any] | None:
        """What the table's file says of its energies."""
        if not self.protocol.relax:
            return None if self.scale is None else {"scale": self.scale}
        metadata = evaluator.energies()
        if self.origin is not None:
            metadata["energies"]["version"] = self.origin.version
        return metadata


def plan_of(
    crystals: Given,
    reference: str | Path,
    hull: str | Path | Hull | None,
    protocol: Protocol,
    finetuned_on: str | Path | None,
    device: str,
) -> Plan:
    """Raises ValueError for what contradicts itself, and for energies that the hull cannot judge."""
    table, origin, scale = crystals.table, crystals.origin, crystals.scale
    if protocol.trust is not None and not protocol.relax:
        raise ValueError(
            "a closed hull and further judges need energies: leave out --no-relax, or --close and --judges"
        )
    if origin is not None and hull is not None and not protocol.relax:  # as they are, and nothing is relaxed
        protocol = protocol.model_copy(update={"relax": True, "force_field": origin.force_field})
    if origin is not None and not origin.fits(protocol):
        origin = None
    if origin is not None:
        protocol = protocol.model_copy(update={"relaxation": origin.relaxation})
    given = hull is not None and not protocol.relax
    if given:
        check_formation_energies(table)
        told = {name: table.column(name) for name in telling_columns(map(str, table.frame.columns))}
        scale = stated_in(told, "the crystals", scale)
    known = Known.load(reference)
    tuned = None if finetuned_on is None else Known.load(finetuned_on)
    found = None
    if protocol.relax or hull is not None:
        found = hull if isinstance(hull, Hull) else known.hull_or_default(hull)
    inputs = protocol_inputs(protocol, known, found, device) | {"crystals": table.content_hash()}
    if given and found is not None:
        stated = "" if scale else " (assumed, for the file states none)"
        check_scales(
            scale or ASSUMED_SCALE, found.scale, allow_mixed=protocol.allow_mixed_scales,
            given=f"the crystals' formation energies{stated}",
        )  # fmt: skip
    inputs["energies"] = "computed" if origin is None and not given else "given"
    if origin is not None:
        _check_version(inputs.get("force_field"), origin)
        inputs["force_field"] = origin.version
    if protocol.relax:
        inputs |= trust_inputs(protocol)
    if tuned is not None:
        inputs["finetuning_set"] = tuned.table.content_hash()
    return Plan(protocol, known, tuned, found, origin, given, scale, inputs)


def protocol_inputs(protocol: Protocol, known: Known, hull: Hull | None, device: str) -> dict[str, str]:
    """Hashes of what a protocol reads, and the device: a run goes on only with the same."""
    found = {"reference": known.table.content_hash(), "device": device}
    if protocol.relax:
        found["force_field"] = force_field_info(protocol.force_field).version
    if hull is not None:
        found["hull"] = hull.content_hash
    if protocol.fingerprints is not None:
        found["fingerprints"] = fingerprints_id(protocol.fingerprints)
    if protocol.elemental_references is not None:
        found["elemental_references"] = file_hash(protocol.elemental_references)
    return found


def _check_version(here: str | None, origin: EnergyOrigin) -> None:
    """Raises ValueError if energies are of another model than the one whose references would be used."""
    if here is not None and model_of(here) != model_of(origin.version):
        raise ValueError(
            f"the energies are of {origin.force_field} {origin.version}, and here is {here}, with other "
            "elemental references: relax anew (--relax), or judge with the version that made them"
        )
