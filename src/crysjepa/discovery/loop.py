"""The screening-and-refinement loop (section 4.2): generate, relax, keep V.U.N., rank, fine-tune, again.

Of what is generated, only what a ranker expects most of is relaxed: that is where the time goes. With
``oversample = 1`` everything is, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable, Status, write_parquet
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.discovery.choosing import is_enough, lessons, narrowed, with_replay, worth_relaxing
from crysjepa.discovery.closing import last_look
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.summary import round_name, run_metrics
from crysjepa.energy.elemental_references import ElementalReferences, read_references
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.given import energies_told
from crysjepa.evaluation.probability import expected_confirmations
from crysjepa.evaluation.protocol import Trust
from crysjepa.evaluation.run import Judge, Known, Report, find_references, protocol_inputs
from crysjepa.evaluation.trust import trust_inputs, usable_judges
from crysjepa.generators.base import Generator, Sampler, load_generator
from crysjepa.generators.sampling import draw
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.generators.substitution.proposals import SubstitutionConfig
from crysjepa.io import write_cif
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.embeddings import embedding_table, read_embeddings
from crysjepa.nn.checkpoint import file_hash
from crysjepa.ranking.context import labels
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.jepa import HullEnergy, MeanDistance
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.ranking.registry import Ranker, RankerContext, make_ranker, ranker_info
from crysjepa.ranking.selection import mark_repeats, with_nearest, with_shortlist
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.report.page import write_report
from crysjepa.runtime.run_directory import Run, read_json, write_json, write_text
from crysjepa.runtime.threads import default_processes
from crysjepa.weights import shipped


def discover_crystals(
    config: DiscoverConfig, out: Path, *, device: str = "cpu", progress: Report | None = None
) -> Path:
    """Run the loop into ``out``; a run that was interrupted goes on where it stood.

    Writes ``candidates.parquet`` (a row for every crystal that was worth relaxing), ``metrics.json``,
    ``report.html``, ``shortlist/*.cif``, and beside them each round's own files: ``drawn.parquet`` has a row
    for every crystal that was generated. Returns the path of the page.
    """
    if config.preset.startswith("paper") and not (config.generator and config.jepa):
        raise ValueError(
            f"{config.preset} needs models of the paper's size: train them with `crysjepa train --size paper`"
            " and `crysjepa pretrain --size paper`, and name them with --generator and --jepa"
        )
    loop = _Loop(config, out, device, progress or (lambda stage, done, total: None))
    loop.prepare()
    for round_ in range(config.rounds + 1):
        loop.generate(round_)
        loop.narrow(round_)
        loop.relax(round_)
        loop.judge(round_)
        loop.control(round_)
        if round_ == config.rounds or loop.enough(round_):
            break
        loop.refine(round_)
    loop.conclude(round_ + 1)
    return out / "report.html"


class _Loop:
    """The stages; each reads what earlier ones wrote, so that a resumed run takes the same path."""

    def __init__(self, config: DiscoverConfig, out: Path, device: str, report: Report) -> None:
        self.config, self.device, self.report = config, device, report
        self.generator_path = Path(config.generator) if config.generator else shipped("generator")
        self.jepa_path = Path(config.jepa) if config.jepa else shipped("jepa")
        self.known = Known.load(config.reference)
        self.hull = self.known.hull_or_default(config.hull)
        inputs = protocol_inputs(config.protocol, self.known, self.hull, device)
        models = {"generator": file_hash(self.generator_path), "jepa": file_hash(self.jepa_path)}
        models |= trust_inputs(config.protocol)
        self.run = Run(out, config.model_dump(mode="json"), inputs | models)

    # -- stages ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Elemental references, fitted if need be."""

        def work() -> None:
            found = find_references(
                self.config.protocol, self.hull, self.known, device=self.device, progress=self.report
            )
            write_text(self.run.path("references.json"), found.to_json())
            if (trust := self.config.protocol.trust) is not None:  # better said now than after all is done
                usable_judges(trust, self.config.protocol, self.hull, self.known, self.device)

        self.run.stage("prepare", ["references.json"], work)
        _ = self.ranker, self.screener  # what they lack is better said now than when all is drawn

    def generate(self, round_: int) -> None:
        """Draw crystals from the source, or from the model that the round before refined."""
        target = f"round-{round_}/generated.parquet"

        def work() -> None:
            prefix, num = round_name(round_), self._num(round_) * self.config.oversample
            samples = draw(
                self._sampler(round_),
                num,
                seed=self.config.seed + 1000 * round_,
                device=self.device,
                prefix=prefix,
                processes=default_processes(self.device),
                progress=self._progress("generate", round_),
            )
            order = [f"{prefix}-{i}" for i in range(num)]
            table = CandidateTable.from_crystals(
                samples.crystals, samples.failures, stage="generate", order=order
            )
            table.write(self.run.path(target))

        self.run.stage(f"generate-{round_}", [target], work)

    def narrow(self, round_: int) -> None:
        """Keep those that the ranker expects most of, if more were drawn than are to be relaxed."""
        targets = [f"round-{round_}/{name}.parquet" for name in ("screened", "drawn")]

        def work() -> None:
            drawn = CandidateTable.read(self.run.path(f"round-{round_}/generated.parquet"))
            if self.screener is None:
                kept = drawn
            else:
                scores = self.screener.score(drawn.crystals(drawn.ok_ids))
                kept = worth_relaxing(
                    drawn,
                    scores,
                    self._num(round_),
                    known=self.judge_by.known,
                    support=HullSupport(self.hull),
                )
                drawn = narrowed(drawn, kept, scores, self.config.screen_by)
            kept.write(self.run.path(targets[0]))
            drawn.write(self.run.path(targets[1]))

        self.run.stage(f"narrow-{round_}", targets, work)

    def relax(self, round_: int) -> None:
        """Relax what is left."""
        target = f"round-{round_}/relaxed.parquet"

        def work() -> None:
            table = CandidateTable.read(self.run.path(f"round-{round_}/screened.parquet"))
            shards = self.run.path(f"round-{round_}/relax")
            self.judge_by.relax(table, shards, self._staged(round_)).write(self.run.path(target))

        self.run.stage(f"relax-{round_}", [target], work)

    def control(self, round_: int) -> None:
        """What the chosen crystals are compared with: some of what was drawn, at random, judged alike."""
        if self.config.oversample == 1 or not self.config.control:
            return
        target = f"round-{round_}/control.parquet"

        def work() -> None:
            drawn = CandidateTable.read(self.run.path(f"round-{round_}/generated.parquet"))
            rng = np.random.default_rng((self.config.seed, 3, round_))
            rows = np.sort(rng.permutation(len(drawn))[: self.config.control])
            table = CandidateTable(drawn.frame.iloc[rows].reset_index(drop=True))
            report = self._staged(round_, "at random")
            relaxed = self.judge_by.relax(table, self.run.path(f"round-{round_}/control-relax"), report)
            self.judge_by.judge(relaxed, report).write(self.run.path(target), self.judge_by.energies())

        self.run.stage(f"control-{round_}", [target], work)

    def judge(self, round_: int) -> None:
        """V, U and N, and S for the record; scores, nearest known crystals and embeddings."""
        targets = [f"round-{round_}/judged.parquet", f"round-{round_}/embeddings.parquet"]

        def work() -> None:
            relaxed = CandidateTable.read(self.run.path(f"round-{round_}/relaxed.parquet"))
            judged = self.judge_by.judge(relaxed, self._staged(round_))
            table, embedded, embeddings = self._score(judged, round_)
            table.write(self.run.path(targets[0]))
            write_parquet(embedding_table(embedded.ids, embeddings), self.run.path(targets[1]))

        self.run.stage(f"judge-{round_}", targets, work)

    def refine(self, round_: int) -> None:
        """Fine-tune on the best ``keep`` of the V.U.N. crystals by the ranker; no force field decides."""
        targets = [f"round-{round_}/selected.parquet", f"round-{round_ + 1}/generator.safetensors"]

        def work() -> None:
            judged = CandidateTable.read(self.run.path(f"round-{round_}/judged.parquet"))
            chosen, _ = canonicalise(judged.crystals(self._lessons(judged)))
            write_parquet(chosen.to_arrow(), self.run.path(targets[0]))
            generator = self._generator(round_)
            if len(chosen):
                crystals = chosen
                if self.config.replay:
                    known, _ = canonicalise(self.judge_by.reference.crystals)
                    crystals = with_replay(chosen, known, self.config.replay, self.config.seed + round_)
                generator, training = generator.finetune(
                    crystals,
                    self.config.finetune,
                    seed=self.config.seed + round_,
                    device=self.device,
                    state=self.run.path(f"round-{round_}/finetune-state.safetensors"),
                    progress=self._progress("finetune", round_),
                )
                write_json(self.run.path(f"round-{round_}/finetune-curve.json"), training.curve)
            generator.save(self.run.path(targets[1]))

        self.run.stage(f"refine-{round_}", targets, work)

    def enough(self, round_: int) -> bool:
        """Whether further rounds are not worth their time (``patience``)."""
        if self.config.patience is None:
            return False
        ended = mark_repeats(self._joined(round_ + 1))
        found = list(zip(ended.column("round"), ended.column("status"), strict=True))
        rates = [found.count((r, Status.OK)) / self._num(r) for r in range(round_ + 1)]
        return is_enough(rates, self.config.patience)

    def conclude(self, rounds: int) -> None:
        """One table, the metrics of each round, the short list and the page."""

        trust = self.config.protocol.trust
        if trust is not None:
            made = ["trusted.parquet", "trust.json", "competitors.parquet"]
            self.run.stage("close", made, lambda: self._close(trust, rounds))

        def work() -> None:
            tables = [self._judged(r) for r in range(rounds)]
            drawn_alone = joined = mark_repeats(self._joined(rounds))
            if trust is not None:
                joined = CandidateTable.read(self.run.path("trusted.parquet"))
            table = self._map(with_shortlist(joined, self.config.shortlist), rounds)
            drawn = [CandidateTable.read(self.run.path(f"round-{r}/drawn.parquet")) for r in range(rounds)]
            counts = [t.counts() for t in drawn]
            at_random = (self.run.path(f"round-{r}/control.parquet") for r in range(rounds))
            controls = [CandidateTable.read(p) if p.exists() else None for p in at_random]
            found = run_metrics(
                self.config, self.judge_by, tables, counts, drawn_alone, self._ranker_notes(), controls
            )
            found["shortlist"] = sum(r is not None for r in table.column("shortlist_rank"))
            if trust is not None:
                told = read_json(self.run.path("trust.json"))
                ranks = zip(table.ids, table.column("shortlist_rank"), strict=True)
                told["expected"] = expected_confirmations(table, [i for i, r in ranks if r is not None])
                found["trust"] = told
            write_json(self.run.path("metrics.json"), found)
            files = self._write_shortlist(table)
            table = table.with_column("cif_file", {**dict.fromkeys(table.ids), **files}, "string")
            table.write(self.run.path("candidates.parquet"), self.judge_by.energies())

        self.run.stage("conclude", ["candidates.parquet", "metrics.json", "reference_map.parquet"], work)
        self.run.stage("report", ["report.html"], lambda: write_report(self.run.folder))

    # -- their parts -----------------------------------------------------------------------

    def _close(self, trust: Trust, rounds: int) -> None:
        """The closed hull and further judges, for the most promising of all rounds."""
        looked = last_look(
            mark_repeats(self._joined(rounds)), self.judge_by, self.known, trust,
            model=self.jepa, work=self.run.path("close"), progress=self.report,
        )  # fmt: skip
        rivals = looked.competitors or CandidateTable.from_crystals(Crystals.empty())
        how = self.config.protocol.relaxation if trust.close is None else trust.close.relaxation
        told = energies_told(force_field_info(self.config.protocol.force_field), how)
        rivals.write(self.run.path("competitors.parquet"), told)
        write_json(self.run.path("trust.json"), looked.told)
        looked.table.write(self.run.path("trusted.parquet"))

    def _num(self, round_: int) -> int:
        return self.config.num if round_ == 0 else self.config.num_refined

    def _judged(self, round_: int) -> CandidateTable:
        return CandidateTable.read(self.run.path(f"round-{round_}/judged.parquet"))

    def _joined(self, rounds: int) -> CandidateTable:
        tables = (self._judged(r) for r in range(rounds))
        return CandidateTable.concatenate(
            t.with_column("round", dict.fromkeys(t.ids, r), "Int64") for r, t in enumerate(tables)
        )

    def _lessons(self, judged: CandidateTable) -> list[str]:
        config = self.config
        return lessons(judged, config.keep, config.drift, self.judge_by.reference.crystals, config.seed)

    def _ranker_notes(self) -> list[str]:
        used = [self.ranker, *([self.screener] if self.screener is not None else [])]
        return list(dict.fromkeys(note for ranker in used for note in ranker.notes))

    def _sampler(self, round_: int) -> Sampler:
        if round_ == 0 and self.config.source == "substitution":
            return SubstitutionGenerator.of(self.known.table, self.known.name, SubstitutionConfig())
        return self._generator(round_)

    def _generator(self, round_: int) -> Generator:
        own = self.run.path(f"round-{round_}/generator.safetensors")
        return load_generator(own if round_ else self.generator_path)

    @cached_property
    def judge_by(self) -> Judge:
        references = read_references(self.run.path("references.json"))
        return Judge.prepare(self.config.protocol, self.known, self.hull, references, device=self.device)

    @cached_property
    def jepa(self) -> CrysJepa:
        return CrysJepa.load(self.jepa_path)

    @cached_property
    def context(self) -> RankerContext:
        reference = self.judge_by.reference.crystals
        return RankerContext(
            reference,
            labels(self.known.table, reference),
            self.known.scale,
            self.hull,
            self.jepa,
            self.judge_by.references,
            allow_mixed_scales=self.config.protocol.allow_mixed_scales,
            index=self.run.path("reference-index.arrow"),
            min_hull_entries=self.config.protocol.min_hull_entries,
            seed=self.config.seed,
            device=self.device,
            progress=self.report,
        )

    def _ranker_references(self, name: str) -> ElementalReferences | None:
        """Elemental references of a ranker, where it is a force field."""
        info, protocol = ranker_info(name), self.config.protocol
        if not info.force_field or info.name == protocol.force_field:
            return self.judge_by.references
        other = protocol.model_copy(update={"force_field": info.name, "elemental_references": None})
        return find_references(other, self.hull, self.known, device=self.device, progress=self.report)

    @cached_property
    def ranker(self) -> Ranker:
        return self._make(self.config.ranker)

    @cached_property
    def screener(self) -> Ranker | None:
        if self.config.oversample == 1:
            return None
        try:
            return self._make(self.config.screen_by)
        except ValueError as error:
            raise ValueError(
                f"{self.config.screen_by} cannot choose what to relax ({error}): set screen_by to another "
                "ranker, or oversample = 1"
            ) from error

    def _make(self, name: str) -> Ranker:
        elements = self._ranker_references(name)
        same = elements is self.context.elemental_references  # which shares the reference's embeddings
        return make_ranker(
            name, self.context if same else replace(self.context, elemental_references=elements)
        )

    @property
    def index(self) -> ReferenceIndex:
        return self.context.jepa_index

    def _score(
        self, judged: CandidateTable, round_: int
    ) -> tuple[CandidateTable, Crystals, NDArray[np.float32]]:
        sound = [i for i, v in zip(judged.ids, judged.column("valid"), strict=True) if v]
        crystals = judged.crystals(sound)
        embedder = JepaEmbedder(self.jepa, self.device)
        embedded = embedder.embed(crystals, self._progress("embed", round_))
        failures = {crystals.ids[row]: reason for row, reason in embedded.failures.items()}
        table = judged.decide("embed", failures, Status.FAILED)
        ranker = self.ranker
        if isinstance(ranker, HullEnergy | MeanDistance) and isinstance(ranker.embedder, JepaEmbedder):
            scores = ranker.score_embedded(crystals, embedded)
        else:
            scores = ranker.score(crystals)
        table = table.with_column("score", {i: s.value for i, s in scores.items()}, "Float64")
        table = table.with_column("num_references", {i: s.num_references for i, s in scores.items()}, "Int64")
        support = {i: s.support_distance for i, s in scores.items()}
        table = table.with_column("support_distance", support, "Float64")
        reasons = {i: s.reason for i, s in scores.items() if s.reason}
        table = table.with_column("score_reason", reasons, "string")
        kept, embeddings = crystals[embedded.rows], embedded.vectors
        table = with_nearest(table, kept, embeddings, self.index, self.judge_by.reference.crystals)
        chosen = set(self._lessons(table))
        table = table.with_column("selected", {i: i in chosen for i in table.ids}, "boolean")
        return table, kept, embeddings

    def _map(self, table: CandidateTable, rounds: int) -> CandidateTable:
        """Two principal components of the reference's embeddings, and where the candidates fall in them."""
        reference = self.index.embeddings.astype(np.float64)
        mean = reference.mean(axis=0)
        axes = np.linalg.svd(reference - mean, full_matrices=False)[2][:2]
        axes = np.pad(axes, ((0, 2 - len(axes)), (0, 0)))  # a reference of one crystal spans no plane
        axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
        xy = (reference - mean) @ axes.T
        background = {"id": list(self.index.ids), "x": xy[:, 0], "y": xy[:, 1]}
        write_parquet(pa.table(background), self.run.path("reference_map.parquet"))
        places: dict[str, NDArray[np.float64]] = {}
        for round_ in range(rounds):
            ids, embeddings = read_embeddings(self.run.path(f"round-{round_}/embeddings.parquet"))
            places |= dict(zip(ids, (embeddings - mean) @ axes.T, strict=True)) if ids else {}
        for column, axis in (("map_x", 0), ("map_y", 1)):
            table = table.with_column(column, {i: float(p[axis]) for i, p in places.items()}, "Float64")
        return table

    def _write_shortlist(self, table: CandidateTable) -> dict[str, str]:
        """A CIF for each crystal of the short list; its path in the run folder by id."""
        listed = {
            i: r for i, r in zip(table.ids, table.column("shortlist_rank"), strict=True) if r is not None
        }
        order = sorted(listed, key=lambda i: listed[i])
        folder = self.run.path("shortlist")
        for stale in folder.glob("*.cif"):
            stale.unlink()
        formulas = table.column("formula", order)
        names = [f"{listed[i]:03d}-{f}-{i}" for i, f in zip(order, formulas, strict=True)]
        folder.mkdir(parents=True, exist_ok=True)
        written, _ = write_cif(table.crystals(order), folder, names=names)
        return {id_: f"{folder.name}/{path.name}" for id_, path in written.items()}

    def _progress(self, stage: str, round_: int | None = None) -> Callable[[int, int], None]:
        label = stage if round_ is None else f"{stage} ({round_name(round_)})"
        return lambda done, total: self.report(label, done, total)

    def _staged(self, round_: int, which: str = "") -> Report:
        name = ", ".join(filter(None, (round_name(round_), which)))
        return lambda stage, done, total: self.report(f"{stage} ({name})", done, total)
