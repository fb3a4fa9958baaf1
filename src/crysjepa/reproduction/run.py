"""Carry a plan out: every step is a verb of the command line, and one that is done is not done again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable
from crysjepa.jepa.network import Objective
from crysjepa.ranking.registry import ranker_info
from crysjepa.report.reproduction import write_reproduction
from crysjepa.reproduction.deviations import deviations
from crysjepa.reproduction.inputs import Inputs
from crysjepa.reproduction.plan import DISTANCE, FINGERPRINT, RANDOM, Arm, Plan
from crysjepa.reproduction.results import Row, base_row, refined_row
from crysjepa.runtime.files import write_json
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.run_directory import locked, versions
from crysjepa.workflows.diagnose import diagnose
from crysjepa.workflows.evaluate import evaluate, tradeoff
from crysjepa.workflows.generate import generate
from crysjepa.workflows.screen import screen
from crysjepa.workflows.train import finetune, pretrain, train

MAP_CRYSTALS = 100_000
"""Of Fig. 3, at full scale."""
ANY_HEIGHT = 1000.0
"""eV/atom above the hull, which nothing is: energies beyond 20 eV/atom fail before."""
PAPERS_LOSS: Objective = "info-nce"
OTHER_LOSSES: dict[str, Objective] = {"fig-8": "info-nce-unweighted", "fig-9": "sigreg"}


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A plan, where its files go, and how it is carried out."""

    plan: Plan
    out: Path
    data: Path | None = None
    device: str = "auto"
    processes: int | None = None
    overwrite: bool = False
    progress: StageProgress | None = None
    _made: dict[Path, None] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def inputs(self) -> Inputs:
        """What is read."""
        return Inputs(self.data, self.progress)

    def run(self) -> Path:
        """All of it; the page's path. What was done by an earlier call is kept."""
        plan = self.plan
        self.inputs.check(plan)
        _held = locked(self.out)
        self.pool()
        self.judge_pool()
        rows: list[Row] = [base_row(self.out / "base", plan.batch_size)]
        self.write(rows)
        sizes: set[tuple[str, float, int]] = set()
        for arm in plan.arms:
            vun, best = self.num_best(arm)
            if arm.swept and (arm.ranker, arm.share, best) in sizes:
                continue  # another share comes to as many
            sizes.add((arm.ranker, arm.share, best))
            if best >= vun:
                note(f"{arm.label}: all of {vun} V.U.N. crystals are learnt from, there is nothing to choose")
            chosen = self.chosen(arm, plan.seeds[0])
            if chosen is None:
                note(f"{arm.label} chose nothing: no V.U.N. crystal has a score")
                continue
            folders = [self.refined(arm, seed) for seed in plan.seeds]
            learnt = CandidateTable.read(chosen)
            rows.append(refined_row(arm, rows[0], learnt, vun, folders, self.out / "base", plan.batch_size))
            self.write(rows)
        if plan.figures:
            self.figures(rows)
        return self.write(rows)

    # -- the steps -------------------------------------------------------------------------

    def jepa(self, objective: Objective = PAPERS_LOSS) -> Path:
        """Crys-JEPA, pretrained on crystals with energies."""
        if self.plan.jepa is not None and objective == PAPERS_LOSS:
            return Path(self.plan.jepa)
        name = "jepa" if objective == PAPERS_LOSS else f"jepa-{objective}"
        path = self.out / f"{name}.safetensors"

        def work() -> None:
            small, folder = self.inputs.small, self.out / "pretraining"
            sources = [small(s, folder / f"{n}.parquet") for n, s in enumerate(self.plan.pretraining)]
            pretrain(
                sources, path, size=self.plan.size, objective=objective, settings=self.plan.pretrain,
                **self.how(f"Crys-JEPA, {objective}"),
            )  # fmt: skip

        return self.once(path, work)

    def base(self) -> Path:
        """The base model, trained on the training crystals."""
        if self.plan.generator is not None:
            return Path(self.plan.generator)
        path = self.out / "base.safetensors"
        work = partial(
            train, self.inputs.source(self.plan.training), path, size=self.plan.size,
            lattice_noise=self.plan.lattice_noise, settings=self.plan.train, **self.how("the base model"),
        )  # fmt: skip
        return self.once(path, work)

    def pool(self) -> None:
        """𝒩 crystals, relaxed; V.U.N. against the training crystals, however high they lie above its hull."""
        path, folder = self.out / "pool.parquet", self.out / "pool"
        generate(self.plan.num, path, generator=self.base(), processes=self.processes, **self.how("the pool"))
        anything = self.plan.protocol.model_copy(update={"e_above_hull_max": ANY_HEIGHT, "batch_size": None})
        training = self.inputs.source(self.plan.training)
        evaluate(path, folder, reference=training, protocol=anything, **self.comparing("the pool"))

    def judge_pool(self) -> None:
        """The pool again, by the yardstick that all generators are judged by."""
        evaluate(
            self.out / "pool", self.out / "base", reference=self.inputs.source(self.plan.reference),
            hull=self.inputs.source(self.plan.hull), protocol=self.plan.protocol,
            **self.comparing("the base model"),
        )  # fmt: skip

    def part_of_pool(self, arm: Arm) -> CandidateTable:
        """What an arm may choose from; its V.U.N. crystals are those with status ok."""
        pool = CandidateTable.read(self.out / "pool" / "crystals.parquet")
        return CandidateTable(pool.frame.iloc[: math.ceil(arm.share * len(pool))].reset_index(drop=True))

    def num_best(self, arm: Arm) -> tuple[int, int]:
        """How many V.U.N. crystals there are, and how many of them an arm chooses."""
        vun = len(self.part_of_pool(arm).ok_ids)
        return vun, max(self.plan.at_least, math.ceil(arm.keep * vun))

    def chosen(self, arm: Arm, seed: int) -> Path | None:
        """The best V.U.N. crystals by the arm's ranker, with structures; None where none has a score.

        Only a random choice depends on the seed.
        """
        seed = seed if arm.ranker == RANDOM else self.plan.seeds[0]
        path = self.out / "refined" / arm.folder / f"choice-{seed}" / "chosen.parquet"
        found = self.once(path, lambda: self.choose(arm, seed, path))
        return found if len(CandidateTable.read(found)) else None

    def choose(self, arm: Arm, seed: int, path: Path) -> None:
        """Rank a part of the pool, and write the best."""
        pool, (_, best) = self.part_of_pool(arm), self.num_best(arm)
        part = path.with_name("pool.parquet")
        pool.write(part)
        if arm.ranker == FINGERPRINT:
            self.nearest(pool, best, path)
            return
        training = self.inputs.source(self.plan.training)
        screen(
            part, training, path, by=arm.ranker, seed=seed, best=best,
            hull=training if ranker_info(arm.ranker).needs_hull else None,
            jepa=self.jepa() if arm.ranker == DISTANCE else None,
            **self.how(f"choice by {arm.label}"),
        )  # fmt: skip

    def nearest(self, pool: CandidateTable, best: int, path: Path) -> None:
        """The V.U.N. crystals nearest to any training crystal by 𝒟 of appendix D.4."""
        self.trend(self.out / "base")
        found = pq.read_table(self.out / "base" / "tradeoff.parquet", columns=["id", "fingerprint_distance"])
        distance = dict(zip(*(column.to_pylist() for column in found.columns), strict=True))
        ranked = sorted((d, i) for i in pool.ok_ids if (d := distance.get(i)) is not None)[:best]
        CandidateTable.from_crystals(pool.crystals([i for _, i in ranked])).write(path)

    def refined(self, arm: Arm, seed: int) -> Path:
        """The base model fine-tuned on what was chosen, what it draws, and the verdict: the folder of it."""
        folder, label = self.out / "refined" / arm.folder / f"seed-{seed}", f"{arm.label}, seed {seed}"
        model, drawn, judged = folder / "generator.safetensors", folder / "drawn.parquet", folder / "judged"
        learnt = self.chosen(arm, seed)
        assert learnt is not None  # there was something to choose from
        folder.mkdir(parents=True, exist_ok=True)
        finetune(
            learnt, model, generator=self.base(), settings=self.plan.finetune, seed=seed, **self.how(label)
        )
        generate(
            self.plan.num_refined, drawn, generator=model, seed=1000 + seed, processes=self.processes,
            **self.how(label),
        )  # fmt: skip
        evaluate(
            drawn, judged, reference=self.inputs.source(self.plan.reference), finetuned_on=learnt,
            hull=self.inputs.source(self.plan.hull), protocol=self.plan.protocol, **self.comparing(label),
        )  # fmt: skip
        return judged

    # -- tables and figures ----------------------------------------------------------------

    def write(self, rows: list[Row]) -> Path:
        """The tables so far, as JSON, Markdown and a page."""
        found = {
            "plan": self.plan.model_dump(mode="json"),
            "rows": [row.as_dict() for row in rows],
            "deviations": [d._asdict() for d in deviations(self.plan)],
            "versions": versions(),
        }
        write_json(self.out / "reproduction.json", found)
        return write_reproduction(self.out)

    def figures(self, rows: list[Row]) -> None:
        """Trends along the distance (Fig. 1b, 5a), and the embedding (Fig. 3; 8 and 9)."""
        for row in rows:
            if row.ranker in (None, DISTANCE) and not row.swept:
                self.optional(f"trends of the {row.label}", partial(self.trend, self.out / row.folders[0]))
        losses = {"fig-3": PAPERS_LOSS, **(OTHER_LOSSES if self.plan.ablations else {})}
        for name, objective in losses.items():
            self.optional(f"map of {name}", partial(self.map, name, objective))

    def map(self, name: str, objective: Objective) -> None:
        """The embedding that was trained by an objective, as numbers and figures; kept with its model."""
        model, page = self.jepa(objective), self.out / name / "diagnosis.html"
        if page.exists() and page.stat().st_mtime_ns >= model.stat().st_mtime_ns:
            return
        diagnose(
            model, self.inputs.source(self.plan.pretraining[0]), self.out / name,
            max_crystals=max(500, round(MAP_CRYSTALS * self.plan.scale)), device=self.device,
            progress=self.labelled(name),
        )  # fmt: skip

    def trend(self, folder: Path) -> Path:
        """Rates along 𝒟 from the training crystals; kept as long as no crystal is judged anew."""
        page, crystals = folder / "tradeoff.html", folder / "crystals.parquet"
        if page.exists() and page.stat().st_mtime_ns >= crystals.stat().st_mtime_ns:
            return page
        training, report = self.inputs.source(self.plan.training), self.labelled("trends")
        return tradeoff(folder, reference=training, processes=self.processes or 1, progress=report)

    def optional(self, what: str, work: Callable[[], object]) -> None:
        """A figure, or a note of what it lacks."""
        try:
            work()
        except (ImportError, ValueError) as error:
            note(f"no {what}: {error}")

    # -- what steps share ------------------------------------------------------------------

    def once(self, path: Path, work: Callable[[], object]) -> Path:
        """What ``work`` writes, made or found once in a call: with ``overwrite`` it is made anew once."""
        if path not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            work()
            self._made[path] = None
        return path

    def labelled(self, label: str) -> StageProgress | None:
        """Progress that says of which step it is."""
        report = self.progress
        if report is None:
            return None
        return lambda stage, done, total: report(f"{label}: {stage}", done, total)

    def how(self, label: str) -> dict[str, Any]:
        """How a verb is carried out."""
        return {"device": self.device, "overwrite": self.overwrite, "progress": self.labelled(label)}

    def comparing(self, label: str) -> dict[str, Any]:
        """The same, of one that compares crystals."""
        return {**self.how(label), "processes": self.processes}


def reproduce(plan: Plan, out: str | Path, **how: Any) -> Path:
    """The paper's experiment by a plan: tables, figures and a page in ``out``; the page's path.

    Pretrains Crys-JEPA, trains the base model, draws 𝒩 crystals, relaxes them, keeps the V.U.N. ones, chooses
    the best k % by each ranker, fine-tunes on them, and judges what every refined generator draws (section
    4.2). A run that was stopped goes on where it stood.

    Parameters
    ----------
    plan
        See :func:`~crysjepa.reproduction.plan.plan_for`.
    how
        See :class:`Reproduction`: ``data`` is the folder of the named data sets.

    Raises
    ------
    UsageError, DatasetError, ImportError
        Before any work, for what is missing.
    OutputError, RunError
        For what is in ``out`` and was made otherwise, unless ``overwrite``, or with another process at work.
        A changed reference or hull is no reason: what is there is judged anew.
    """
    return Reproduction(plan=plan, out=Path(out), **how).run()
