"""The stages of a prediction: propose, score, evaluate as they are, relax, merge duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crysjepa.closed_hull.rounds import not_credible
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import invalid_structures
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.judge_names import energy_column, slug
from crysjepa.matching.uniqueness import novel, unique
from crysjepa.prediction.choosing import choose, choose_different, without_repeats
from crysjepa.prediction.means import Means
from crysjepa.prediction.proposals import propose
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.formation_energies import Formed, formation_energies
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.runtime.files import write_json
from crysjepa.stages.stage import Stage, Workspace

PROPOSALS = "proposals.json"


@dataclass(frozen=True, kw_only=True)
class Propose(Stage):
    """Known prototypes filled, and templates of the flow."""

    name: ClassVar[str] = "propose"
    output: str = "steps/proposed.parquet"
    means: Means

    @property
    def also(self) -> tuple[str, ...]:
        """What there was to choose from."""
        return (PROPOSALS,)

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """Candidates, valid or not; what keeps too little distance is rejected."""
        means = self.means
        found = propose(
            means.target, means.prototypes, means.flow, means.settings,
            device=means.device, progress=work.progress("draw candidates"),
        )  # fmt: skip
        counts = [{"what": what, "number": number} for what, number in found.counts.items()]
        write_json(work.folder / PROPOSALS, counts)
        table = found.table
        return table.decide("validity", invalid_structures(table.crystals(table.ok_ids)), Status.REJECTED)


@dataclass(frozen=True, kw_only=True)
class Score(Stage):
    """What Crys-JEPA expects each to relax to, and which are worth an evaluation."""

    name: ClassVar[str] = "embed"
    output: str = "steps/scored.parquet"
    means: Means

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """With ``predicted_energy`` (eV/atom, after relaxation) and ``predicted_gain`` (by relaxing)."""
        settings, model, ids = self.means.settings, self.means.model, table.ok_ids
        crystals = table.crystals(ids)
        embedded = JepaEmbedder(model, self.means.device).embed(crystals, work.progress("embed candidates"))
        failures = {ids[row]: reason for row, reason in embedded.failures.items()}
        table = table.decide(self.name, failures, Status.FAILED)
        good = [ids[row] for row in embedded.rows.tolist()]
        predicted, gains = np.zeros(0), np.zeros(0)
        if good:
            predicted, gains = model.energies_after(embedded.vectors)
        by_id = dict(zip(good, predicted.tolist(), strict=True))
        table = table.with_column("predicted_energy", by_id, "Float64")
        table = table.with_column("predicted_gain", dict(zip(good, gains.tolist(), strict=True)), "Float64")
        table = without_repeats(table, self.name, by_id)
        return choose(table, self.name, by_id, settings.static, settings.alike, "energy by the embedding")


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """The force field's energy of what stands, as it stands, and which are worth relaxing."""

    name: ClassVar[str] = "static"
    output: str = "steps/static.parquet"
    means: Means

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """With ``static_energy``, a formation energy in eV/atom."""
        settings = self.means.settings
        still = settings.relaxation.model_copy(update={"max_steps": 0})
        done = energies_of(self.means, table.crystals(table.ok_ids), still, work, "evaluate candidates")
        table = table.decide(self.name, done.failures, Status.FAILED)
        table = table.with_column("static_energy", done.formation, "Float64")
        gains = dict(zip(table.ids, table.column("predicted_gain"), strict=True))
        expected = {i: e - gains[i] for i, e in done.formation.items()}
        table = without_repeats(table, self.name, done.formation)
        return choose_different(
            table, self.name, expected, settings.relaxed, "energy as it stands, less the expected gain"
        )


@dataclass(frozen=True, kw_only=True)
class Relax(Stage):
    """Relaxed structures and their formation energies."""

    name: ClassVar[str] = "relax"
    output: str = "steps/relaxed.parquet"
    means: Means

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """With ``energy_per_atom``, ``formation_energy_per_atom`` (eV/atom) and ``converged``."""
        done = energies_of(
            self.means, table.crystals(table.ok_ids), self.means.settings.relaxation, work, "relax candidates"
        )
        table = table.decide(self.name, done.failures, Status.FAILED).with_structures(done.crystals)
        table = table.with_column("energy_per_atom", done.totals, "Float64")
        table = table.with_column("formation_energy_per_atom", done.formation, "Float64")
        table = table.with_column("converged", done.converged, "boolean")
        predicted = dict(zip(table.ids, table.column("predicted_energy"), strict=True))
        judged = {i: not_credible(e, predicted[i]) for i, e in done.formation.items()}
        holes = {i: reason for i, reason in judged.items() if reason is not None}
        return table.decide(self.name, holes, Status.FAILED)

    def about(self) -> Mapping[str, Any]:
        """Where the energies are from."""
        settings = self.means.settings
        return energy_metadata(force_field_info(settings.force_field), settings.relaxation)


@dataclass(frozen=True, kw_only=True)
class Merge(Stage):
    """Duplicates merged: of crystals that match, the lowest stays."""

    name: ClassVar[str] = "merge"
    output: str = "steps/merged.parquet"
    means: Means

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """With ``same_as``, ``found`` (how many candidates became this one) and ``matches`` (a known one)."""
        ids = table.ok_ids
        energies = dict(zip(ids, table.column("formation_energy_per_atom", ids), strict=True))
        order = sorted(ids, key=energies.__getitem__)
        crystals = table.crystals(ids)
        done = unique(crystals, ranks={i: rank for rank, i in enumerate(order)})
        table = table.decide(self.name, done.failures, Status.FAILED)
        same = {i: other for i, other in done.matches.items() if other is not None}
        table = table.decide(self.name, {i: f"relaxed to {o}" for i, o in same.items()}, Status.REJECTED)
        table = table.with_column("same_as", same, "string")
        times = Counter(same.values())
        kept = table.ok_ids
        table = table.with_column("found", {i: 1 + times[i] for i in kept}, "Int64")
        known = self.means.known_crystals()
        matches = dict.fromkeys(kept)
        if len(known):
            matches |= novel(table.crystals(kept), known).matches
        return table.with_column("matches", matches, "string")


@dataclass(frozen=True, kw_only=True)
class Judge(Stage):
    """Further judges' energies of what is left, as the first force field relaxed it."""

    name: ClassVar[str] = "judge"
    output: str = "steps/judged.parquet"
    means: Means

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """With a column of total energies per atom in eV for each judge; null where it has none."""
        still = self.means.settings.relaxation.model_copy(update={"max_steps": 0})
        for judge in self.means.judges:
            done = relax_crystals(
                table.crystals(table.ok_ids), force_field=judge, settings=still, device=self.means.device,
                processes=self.means.processes, shards=work.folder / f"by-{slug(judge)}",
                progress=work.progress(f"evaluate polymorphs by {judge}"),
            )  # fmt: skip
            energies = {i: record.energy_per_atom for i, record in done.records.items()}
            table = table.with_column(
                energy_column(judge), {**dict.fromkeys(table.ids), **energies}, "Float64"
            )
        return table


def energies_of(
    means: Means, crystals: Crystals, settings: RelaxSettings, work: Workspace, stage: str
) -> Formed:
    """Relaxed, or evaluated as they are; finished chunks are kept in the folder ``chunks``."""
    return formation_energies(
        crystals,
        means.references,
        force_field=means.settings.force_field,
        settings=settings,
        device=means.device,
        processes=means.processes,
        shards=work.folder / "chunks",
        progress=work.progress(stage),
    )
