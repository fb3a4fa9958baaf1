"""What the stages of a run take: known crystals, generators, rankers, the evaluator. Made when needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from crysjepa.discovery.config import DiscoverConfig
from crysjepa.energy.elemental_references import ElementalReferences, read_references
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.run import Evaluator, Known, find_references
from crysjepa.generators.base import Generator, Sampler
from crysjepa.generators.plug_ins import PlugIn, provenance
from crysjepa.generators.registry import GeneratorOptions, make_generator, plug_in_of
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.generators.substitution.proposals import SubstitutionConfig
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.properties.aims import Aims
from crysjepa.ranking.context import labels
from crysjepa.ranking.registry import Ranker, RankerContext, make_ranker, ranker_info
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.progress import StageProgress
from crysjepa.stages.rank import Means as RankingMeans
from crysjepa.weights import shipped


@dataclass(frozen=True)
class Means:
    """What a configuration names, loaded; ``folder`` is the run directory."""

    config: DiscoverConfig
    folder: Path
    known: Known
    hull: Hull
    device: str
    report: StageProgress

    @classmethod
    def of(cls, config: DiscoverConfig, folder: Path, device: str, report: StageProgress) -> Means:
        """Load the known crystals and the hull; a generator that cannot learn is not refined."""
        known = Known.load(config.reference)
        means = cls(config, folder, known, known.hull_or_default(config.hull), device, report)
        return replace(means, config=config.model_copy(update={"rounds": 0})) if means.fixed else means

    @property
    def generator_path(self) -> Path:
        """The base model."""
        return Path(self.config.generator) if self.config.generator else shipped("generator")

    @property
    def jepa_path(self) -> Path:
        """The embedding's checkpoint."""
        return Path(self.config.jepa) if self.config.jepa else shipped("jepa")

    @property
    def generator_origin(self) -> str:
        """What decides what the base model draws: a checkpoint's hash, or where a plug-in is from."""
        name, saved = plug_in_of(self.config.generator)
        return file_hash(self.generator_path) if name is None else provenance(name, saved)

    @property
    def generator_file(self) -> str:
        """What a refined generator is kept as; what a plug-in writes is its own matter."""
        return "generator.safetensors" if plug_in_of(self.config.generator)[0] is None else "generator.model"

    @cached_property
    def fixed(self) -> str | None:
        """Why the generator cannot be refined, for people; None if it can be."""
        if plug_in_of(self.config.generator)[0] is None:
            return None
        made = self.generator(0)
        lacks = made.lacks if isinstance(made, PlugIn) else ()
        return f"it has no method {' and no method '.join(lacks)}" if lacks else None

    def generator(self, round_: int, folder: str = "") -> Generator:
        """The model of a round: the base model, or what was fine-tuned for it, in a folder of the round's."""
        name, _ = plug_in_of(self.config.generator)
        own: str | Path = self.folder / f"round-{round_}" / folder / self.generator_file
        if round_:
            source = own if name is None else f"{name}@{own}"
        else:
            source = self.generator_path if name is None else str(self.config.generator)
        return make_generator(source, GeneratorOptions(parents=self.config.reference))

    def sampler(self, round_: int) -> Sampler:
        """What a round's crystals are drawn from."""
        if round_ == 0 and self.config.source == "substitution":
            return SubstitutionGenerator.of(self.known.table, self.known.name, SubstitutionConfig())
        return self.generator(round_)

    def find_references(self, force_field: str | None = None) -> ElementalReferences:
        """Elemental references of the protocol's force field, or of another, fitted if need be."""
        protocol = self.config.protocol
        if force_field is not None:
            changes = {"force_field": force_field, "elemental_references": None}
            protocol = protocol.model_copy(update=changes)
        return find_references(protocol, self.hull, self.known, device=self.device, progress=self.report)

    @cached_property
    def evaluator(self) -> Evaluator:
        """The protocol, with the data that it needs."""
        references = read_references(self.folder / "references.json")
        return Evaluator.prepare(self.config.protocol, self.known, self.hull, references, device=self.device)

    @cached_property
    def aims(self) -> Aims | None:
        """What else is wanted of crystals."""
        return self.config.aims(self.device)

    @cached_property
    def jepa(self) -> CrysJepa:
        """The embedding."""
        return CrysJepa.load(self.jepa_path)

    @cached_property
    def ranker(self) -> Ranker:
        """By which crystals are scored."""
        return self.ranker_by(self.config.ranker)

    @cached_property
    def screener(self) -> Ranker | None:
        """By which it is decided what to relax; None where everything is."""
        if self.config.oversample == 1:
            return None
        try:
            return self.ranker_by(self.config.screen_by)
        except ValueError as error:
            raise ValueError(
                f"{self.config.screen_by} cannot choose what to relax ({error}): set screen_by to another "
                "ranker, or oversample = 1, in the file of --config"
            ) from error

    def ranking(self) -> RankingMeans:
        """What ranking takes."""
        reference = self.evaluator.reference.crystals
        return RankingMeans(self.ranker, self.jepa, self._context.jepa_index, reference, self.device)

    def ranker_notes(self) -> list[str]:
        """What the rankers say of their scores, each note once."""
        used = [r for r in (self.ranker, self.screener) if r is not None]
        return list(dict.fromkeys(note for ranker in used for note in ranker.notes))

    @cached_property
    def _context(self) -> RankerContext:
        reference = self.evaluator.reference.crystals
        return RankerContext(
            reference,
            labels(self.known.table, reference),
            self.known.scale,
            self.hull,
            self.jepa,
            self.evaluator.references,
            allow_mixed_scales=self.config.protocol.allow_mixed_scales,
            index=self.folder / "reference-index.arrow",
            min_hull_entries=self.config.protocol.min_hull_entries,
            seed=self.config.seed,
            device=self.device,
            progress=self.report,
        )

    def ranker_by(self, name: str) -> Ranker:
        """The ranker of that name, with what a run has for it."""
        info, context = ranker_info(name), self._context
        if info.force_field and info.name != self.config.protocol.force_field:
            context = replace(context, elemental_references=self.find_references(info.name))
        return make_ranker(name, context)  # rankers of one context share the reference's embeddings
