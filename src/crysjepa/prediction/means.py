"""What structure prediction takes: prototypes, the flow, Crys-JEPA, the hull. Loaded when needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from crysjepa import datasets
from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.judge_names import further_judges, parse_judges
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.generators.base import load_generator
from crysjepa.generators.flow.sampling import FlowSampler
from crysjepa.generators.substitution.parents import Parents
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.prediction.settings import PredictSettings
from crysjepa.prediction.target import Target
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.progress import StageProgress
from crysjepa.weights import shipped


@dataclass(frozen=True)
class Means:
    """What a formula and the settings name; all but ``target`` serves any formula."""

    target: Target
    settings: PredictSettings
    known: Known
    hull: Hull
    prototypes: Prototypes
    flow: FlowSampler
    model: CrysJepa
    references: ElementalReferences
    device: str = "cpu"
    processes: int | None = None
    report: StageProgress | None = None

    @classmethod
    def of(
        cls,
        formula: str,
        settings: PredictSettings,
        *,
        device: str = "cpu",
        processes: int | None = None,
        report: StageProgress | None = None,
    ) -> Means:
        """Load everything.

        Raises UsageError for a formula that cannot be predicted (:meth:`Target.parse`), an element without
        an elemental reference of the force field, a generator that is no flow, and a Crys-JEPA that predicts
        no energies.
        """
        target = Target.parse(formula, settings.max_sites)
        known = Known.load(settings.parents)
        hull = known.hull_or_default(settings.hull)
        references = find_references(_protocol(settings), hull, known, device=device, progress=report)
        _, reason = references.formation_energy_per_atom(target.composition, 0.0)
        if reason is not None:
            raise UsageError(f"{target.formula} cannot be given a formation energy: {reason}")
        prototypes = Prototypes.of(
            Parents.of(known.table, settings.parents),
            max_sites=settings.max_sites,
            cache=datasets.cache_folder() / "prototypes",
        )
        return cls(
            target, settings, known, hull, prototypes, _flow(settings), _model(settings), references,
            device, processes, report,
        )  # fmt: skip

    def inputs(self) -> dict[str, str]:
        """Hashes of all that decides the results, beside the settings."""
        info = force_field_info(self.settings.force_field)
        return {
            "parents": self.known.table.content_hash(),
            "hull": self.hull.content_hash,
            "generator": file_hash(_flow_path(self.settings)),
            "jepa": self.model.content_hash,
            "force_field": f"{info.name} {info.version}",
            "device": self.device,
            "judges": ", ".join(f"{n} {force_field_info(n).version}" for n in self.judges),
        }

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """Force fields beside the first. Raises as :func:`crysjepa.evaluation.judge_names.further_judges`."""
        names = self.settings.judges
        if names in ("", "none"):
            return ()
        named = None if names == "auto" else parse_judges(names)
        return further_judges(named, self.settings.force_field)[0]

    @cached_property
    def evaluator(self) -> Evaluator:
        """What the search for competitors takes."""
        return Evaluator.prepare(
            _protocol(self.settings), self.known, self.hull, self.references, device=self.device
        )

    def known_crystals(self) -> Crystals:
        """Those of the formula."""
        crystals, key = self.known.crystals(), self.target.key
        return crystals[[row for row, found in enumerate(reduced_formulas(crystals)) if found == key]]

    def notes(self) -> list[str]:
        """What to beware of."""
        shares: Mapping[int, float] = dict(enumerate(self.flow.element_shares.tolist()))
        unseen = [e for e, z in zip(self.target.composition.elements, self.target.counts, strict=True)
                  if not shares.get(z)]  # fmt: skip
        found = [f"the flow saw no {', '.join(map(str, unseen))} in training"] if unseen else []
        return [*found, *([note] if (note := self.target.unusual()) else [])]


def _protocol(settings: PredictSettings) -> Protocol:
    return Protocol(
        force_field=settings.force_field,
        relaxation=settings.relaxation,
        elemental_references=settings.elemental_references,
    )


def _flow_path(settings: PredictSettings) -> Path:
    return Path(settings.generator) if settings.generator else shipped("generator")


def _flow(settings: PredictSettings) -> FlowSampler:
    found = load_generator(_flow_path(settings))
    if not isinstance(found, FlowSampler):
        raise UsageError(f"{settings.generator} is no flow: only a flow's templates can be filled")
    return replace(found, steps=settings.flow_steps)


def _model(settings: PredictSettings) -> CrysJepa:
    model = CrysJepa.load(settings.jepa)
    if not (model.has_energies and model.invariant):
        raise UsageError(
            "this Crys-JEPA predicts no energies after relaxation, by which candidates are ranked"
        )
    return model
