"""The screening-and-refinement loop (section 4.2): generate, relax, keep V.U.N., rank, fine-tune, again.

Of what is generated, only what a ranker expects most of is relaxed: that is where the time goes. With
``oversample = 1`` everything is, as in the paper.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.discovery import conclude
from crysjepa.discovery.aimed import judged_again
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.controls import drawn_at_random, learnt_at_random
from crysjepa.discovery.means import Means
from crysjepa.discovery.summary import round_name
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.run import protocol_inputs
from crysjepa.evaluation.trust import trust_inputs, usable_judges
from crysjepa.ranking.selection import mark_repeats
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.report.page import write_report
from crysjepa.runtime.files import file_hash, write_json, write_text
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.run_directory import Run
from crysjepa.stages.choosing import finetuning_set, is_enough, with_replay
from crysjepa.stages.close import last_look
from crysjepa.stages.evaluate import Evaluate
from crysjepa.stages.finetune import Finetune
from crysjepa.stages.generate import Generate
from crysjepa.stages.measure import Measure
from crysjepa.stages.prescreen import Prescreen
from crysjepa.stages.rank import Rank
from crysjepa.stages.relax import Relax
from crysjepa.stages.round import Round, one_round
from crysjepa.stages.stage import Runner, Stage


def discover_crystals(
    config: DiscoverConfig,
    out: Path,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    progress: StageProgress | None = None,
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
    report = progress or (lambda stage, done, total: None)
    means = Means.of(config, out, device, report)
    if means.fixed:
        note(f"{config.generator} is not refined: {means.fixed}. There is one round, the base round")
    run = Run(out, config.model_dump(mode="json"), _inputs(means), overwrite=overwrite)
    run.stage("prepare", ["references.json"], lambda: prepare(means))
    _ = means.ranker, means.screener  # what they lack is better said now than when all is drawn
    runner, rounds = Runner(run, report=report), list[CandidateTable]()
    while len(rounds) <= means.config.rounds and not _enough(config, rounds):
        rounds.append(_round(runner, means, rounds))
    joined = mark_repeats(_joined(rounds))
    looked_into = _looked_into(run, means, joined)
    run.stage("conclude", conclude.ARTEFACTS, lambda: conclude.conclude(means, rounds, joined, looked_into))
    run.stage("report", ["report.html"], lambda: write_report(run.folder))
    return out / "report.html"


def round_of(means: Means, number: int) -> Round:
    """The stages of a round."""
    config, known = means.config, means.evaluator.reference.crystals
    # elements that were asked for, or that an objective favours, are to be frequent
    drift = None if config.wanted.named or config.objectives else config.drift
    select = partial(finetuning_set, keep=config.keep, drift=drift, known=known, seed=config.seed)
    finetune = None
    if number:
        seed = config.seed + number - 1
        replay = partial(with_replay, known=known, share=config.replay, seed=seed)
        finetune = Finetune(
            generator=partial(means.generator, number - 1), select=select, settings=config.finetune,
            beside=replay if config.replay else None, seed=seed, device=means.device,
            file=means.generator_file,
        )  # fmt: skip
    aims = None if means.aims is None else means.aims.before_relaxation
    prescreen = Prescreen(
        ranker=means.screener, num=_num(config, number),
        by=config.screen_by if aims is None else f"{config.screen_by} and what was asked for",
        known=means.evaluator.known, support=HullSupport(means.hull),
        aims=aims,
    )  # fmt: skip
    judge: tuple[Stage, ...] = (Relax(evaluator=means.evaluator), Evaluate(evaluator=means.evaluator))
    if means.aims is not None:
        judge += (Measure(aims=means.aims),)
    judge += (Rank(means=means.ranking, select=select),)
    return Round(finetune=finetune, generate=generate_of(means, number), choose=(prescreen,), judge=judge)


def generate_of(means: Means, number: int) -> Generate:
    """How a round's crystals are drawn."""
    config = means.config
    return Generate(
        source=partial(means.sampler, number), num=_num(config, number) * config.oversample,
        seed=config.seed + 1000 * number, prefix=round_name(number), device=means.device,
        constraints=config.wanted,
    )  # fmt: skip


def _round(runner: Runner, means: Means, before: list[CandidateTable]) -> CandidateTable:
    """The ranked crystals of the next round."""
    number = len(before)
    at = runner.within(f"round-{number}", round_name(number))
    round_ = round_of(means, number)
    ranked = one_round(at, round_, before[-1] if before else None)
    config = means.config
    if config.control and config.oversample > 1:
        drawn_at_random(at, means, at(round_.generate), number)
    if config.control and config.learning_control and round_.finetune is not None:
        learnt_at_random(at, means, round_.finetune, generate_of(means, number), before[-1], number)
    return ranked


def _inputs(means: Means) -> dict[str, str]:
    """What decides the results beside the configuration: hashes, and where a plug-in is from."""
    models = {"generator": means.generator_origin, "jepa": file_hash(means.jepa_path)}
    protocol = means.config.protocol
    found = protocol_inputs(protocol, means.known, means.hull, means.device) | models | trust_inputs(protocol)
    return found if means.aims is None else found | {"objectives": means.aims.key}


def prepare(means: Means) -> None:
    """Elemental references, fitted if need be. Raises ConstraintError for what no round could draw."""
    limited = means.config.constraints is not None or means.config.objectives
    if limited and hasattr(generator := means.generator(0), "within"):
        generator.within(means.config.wanted)
    write_text(means.folder / "references.json", means.find_references().to_json())
    protocol = means.config.protocol
    if protocol.trust is not None:  # better said now than after all is done
        usable_judges(protocol.trust, protocol, means.hull, means.known, means.device)


def _looked_into(run: Run, means: Means, joined: CandidateTable) -> CandidateTable | None:
    """The closed hull and further judges, for the most promising of all rounds; None if not asked for."""
    protocol = means.config.protocol
    if (trust := protocol.trust) is None:
        return None

    def work() -> None:
        looked = last_look(
            joined, means.evaluator, means.known, trust,
            model=means.jepa, work=run.path("close"), aimed=means.aims is not None, progress=means.report,
        )  # fmt: skip
        rivals = looked.competitors or CandidateTable.from_crystals(Crystals.empty())
        how = protocol.relaxation if trust.close is None else trust.close.relaxation
        rivals.write(
            run.path("competitors.parquet"), energy_metadata(force_field_info(protocol.force_field), how)
        )
        write_json(run.path("trust.json"), looked.metrics)
        table = looked.table
        if means.aims is not None:
            others, _ = usable_judges(trust, protocol, means.hull, means.known, means.device)
            table = judged_again(table, means.aims, others)
        table.write(run.path("trusted.parquet"))

    run.stage("close", ["trusted.parquet", "trust.json", "competitors.parquet"], work)
    return CandidateTable.read(run.path("trusted.parquet"))


def _enough(config: DiscoverConfig, rounds: list[CandidateTable]) -> bool:
    """Whether further rounds are not worth their time (``patience``)."""
    if config.patience is None or not rounds:
        return False
    ended = mark_repeats(_joined(rounds))
    found = list(zip(ended.column("round"), ended.column("status"), strict=True))
    rates = [found.count((r, Status.OK)) / _num(config, r) for r in range(len(rounds))]
    return is_enough(rates, config.patience)


def _joined(rounds: list[CandidateTable]) -> CandidateTable:
    return CandidateTable.concatenate(
        t.with_column("round", dict.fromkeys(t.ids, r), "Int64") for r, t in enumerate(rounds)
    )


def _num(config: DiscoverConfig, round_: int) -> int:
    return config.num if round_ == 0 else config.num_refined
