"""Carry a plan out: every step is a verb of the command line, and one that is done is not done again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.datasets import DatasetError
from crysjepa.evaluation.protocol import Protocol
from crysjepa.jepa.network import Objective
from crysjepa.report.reproduction import write_reproduction
from crysjepa.reproduction.deviations import deviations
from crysjepa.reproduction.plan import DISTANCE, FINGERPRINT, RANDOM, Plan
from crysjepa.reproduction.results import Arm, Row, base_row, refined_row
from crysjepa.runtime.files import write_json
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.run_directory import versions
from crysjepa.workflows.diagnose import diagnose
from crysjepa.workflows.evaluate import evaluate, tradeoff
from crysjepa.workflows.generate import generate
from crysjepa.workflows.screen import screen
from crysjepa.workflows.train import finetune, pretrain, train

MAP_CRYSTALS = 100_000
"""Of Fig. 3, at full scale."""
ANY_HEIGHT = 1000.0
"""eV/atom above the hull, which nothing is: energies beyond 20 eV/atom fail before."""
SWEEP = (0.25, 0.5, 2.0, 4.0)
"""Shares k of Fig. 7, as multiples of the plan's."""
SHARES = (0.25, 0.5)
"""Of 𝒩, as far as Fig. 7 goes below the plan's."""
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
    _chosen: set[Path] = field(default_factory=set, init=False, repr=False)

    def run(self) -> Path:
        """All of it; the page's path. What was done by an earlier call is kept."""
        plan = self.plan
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(self.out / "plan.json", plan.model_dump(mode="json"))
        for name in (plan.training, plan.reference, plan.hull):
            self.source(name)  # what is missing is better said now than in a day
        self.pool()
        rows: list[Row] = [base_row(self.out / "base", self.judged())]
        self.write(rows)
        for arm in self.arms():
            chosen = self.chosen(arm, plan.seeds[0])
            if chosen is None:
                note(f"{arm.label} chose nothing: no V.U.N. crystal has a score")
                continue
            folders = [self.refined(arm, seed) for seed in plan.seeds]
            learnt = CandidateTable.read(chosen)
            rows.append(refined_row(arm, rows[0], learnt, folders, self.out / "base"))
            self.write(rows)
        self.figures(rows)
        return self.write(rows)

    def arms(self) -> list[Arm]:
        """What chooses, and how much: the rankers, and for Fig. 7 other shares and pools."""
        plan = self.plan
        found = [Arm(name, plan.keep) for name in plan.rankers]
        if plan.ablations and DISTANCE in plan.rankers:
            found += [Arm(DISTANCE, min(1.0, plan.keep * times), swept=True) for times in SWEEP]
            found += [Arm(DISTANCE, plan.keep, share, swept=True) for share in SHARES]
        return found

    # -- the steps -------------------------------------------------------------------------

    def jepa(self, objective: Objective = PAPERS_LOSS) -> Path:
        """Crys-JEPA, pretrained on crystals with energies."""
        if self.plan.jepa is not None and objective == PAPERS_LOSS:
            return Path(self.plan.jepa)
        name = "jepa" if objective == PAPERS_LOSS else f"jepa-{objective}"
        path, sources = self.out / f"{name}.safetensors", [self.source(s) for s in self.plan.pretraining]
        pretrain(
            sources, path, size=self.plan.size, objective=objective, settings=self.plan.pretrain,
            **self.how(f"Crys-JEPA, {objective}"),
        )  # fmt: skip
        return path

    def base(self) -> Path:
        """The base model, trained on the training crystals."""
        if self.plan.generator is not None:
            return Path(self.plan.generator)
        path = self.out / "base.safetensors"
        train(
            self.source(self.plan.training), path, size=self.plan.size, settings=self.plan.train,
            **self.how("the base model"),
        )  # fmt: skip
        return path

    def pool(self) -> Path:
        """𝒩 crystals, relaxed; V.U.N. against the training crystals. Their stability plays no part."""
        path, folder = self.out / "pool.parquet", self.out / "pool"
        generate(self.plan.num, path, generator=self.base(), processes=self.processes, **self.how("the pool"))
        anything = self.protocol().model_copy(update={"e_above_hull_max": ANY_HEIGHT, "batch_size": None})
        training = self.source(self.plan.training)
        evaluate(path, folder, reference=training, protocol=anything, **self.comparing("the pool"))
        return folder

    def judged(self) -> dict[str, Any]:
        """The pool again, by the yardstick that all generators are judged by."""
        return evaluate(
            self.out / "pool", self.out / "base", reference=self.source(self.plan.reference),
            hull=self.source(self.plan.hull), protocol=self.protocol(), **self.comparing("the base model"),
        )  # fmt: skip

    def chosen(self, arm: Arm, seed: int) -> Path | None:
        """The best of the V.U.N. crystals by the arm's ranker, with structures; None where none has a score.

        Only a random choice depends on the seed.
        """
        seed = seed if arm.ranker == RANDOM else self.plan.seeds[0]
        path = self.out / "refined" / arm.folder / f"choice-{seed}" / "chosen.parquet"
        if path in self._chosen:
            return path
        pool = CandidateTable.read(self.out / "pool" / "crystals.parquet")
        pool = CandidateTable(pool.frame.iloc[: math.ceil(arm.share * len(pool))].reset_index(drop=True))
        best = max(self.plan.at_least, math.ceil(arm.keep * len(pool.ok_ids)))
        part = path.with_name("pool.parquet")
        part.parent.mkdir(parents=True, exist_ok=True)
        if not part.exists():
            pool.write(part)
        if arm.ranker == FINGERPRINT:
            self.nearest(pool, best, path)
        else:
            screen(
                part, self.source(self.plan.training), path, by=arm.ranker, hull=self.hull_of_rankers(),
                jepa=self.jepa() if arm.ranker == DISTANCE else None, seed=seed, best=best,
                **self.how(f"choice by {arm.label}"),
            )  # fmt: skip
        if not len(CandidateTable.read(path)):
            return None
        self._chosen.add(path)
        return path

    def nearest(self, pool: CandidateTable, best: int, path: Path) -> None:
        """The nearest to any training crystal by 𝒟 of appendix D.4, of all that were drawn."""
        self.trend(self.out / "base")
        found = CandidateTable.read(self.out / "base" / "tradeoff.parquet")
        distance = dict(zip(found.ids, found.column("fingerprint_distance"), strict=True))
        ranked = sorted((d, i) for i in pool.ok_ids if (d := distance.get(i)) is not None)[:best]
        CandidateTable.from_crystals(pool.crystals([i for _, i in ranked])).write(path)

    def refined(self, arm: Arm, seed: int) -> Path:
        """The base model fine-tuned on what was chosen, what it draws, and the verdict: the folder of it."""
        folder, label = self.out / "refined" / arm.folder / f"seed-{seed}", f"{arm.label}, seed {seed}"
        model, drawn, learnt = (
            folder / "generator.safetensors",
            folder / "drawn.parquet",
            self.chosen(arm, seed),
        )
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
            drawn, folder / "judged", reference=self.source(self.plan.reference), finetuned_on=learnt,
            hull=self.source(self.plan.hull), protocol=self.protocol(), **self.comparing(label),
        )  # fmt: skip
        return folder / "judged"

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
        """The embedding that was trained by an objective, as numbers and figures."""
        diagnose(
            self.jepa(objective), self.source(self.plan.pretraining[0]), self.out / name,
            max_crystals=max(500, round(MAP_CRYSTALS * self.plan.scale)), device=self.device,
            progress=self.labelled(name),
        )  # fmt: skip

    def trend(self, folder: Path) -> Path:
        """Rates along 𝒟 from the training crystals; what is there is kept."""
        if (folder / "tradeoff.html").exists():
            return folder / "tradeoff.html"
        training = self.source(self.plan.training)
        return tradeoff(
            folder, reference=training, processes=self.processes or 1, progress=self.labelled("trends")
        )

    def optional(self, what: str, work: Callable[[], object]) -> None:
        """A figure, or a note of the package that it lacks."""
        try:
            work()
        except ImportError as error:
            note(f"no {what}: {error}")

    # -- what steps share ------------------------------------------------------------------

    def protocol(self) -> Protocol:
        """By what all generators are judged."""
        plan = self.plan
        return Protocol(
            preset="paper", force_field=plan.force_field, relaxation=plan.relaxation,
            batch_size=plan.batch_size, elemental_references=plan.elemental_references,
        )  # fmt: skip

    def source(self, name: str) -> str:
        """A path as it is, or a data set's file in the folder of the data. Raises DatasetError."""
        if Path(name).exists():
            return name
        if self.data is not None and (self.data / name).exists():
            return str(self.data / name)
        try:
            if datasets.info(name).bundled:
                return name
            return str(datasets.fetch(name, folder=self.data, report=self.progress))
        except DatasetError as error:
            raise DatasetError(
                f"{error}. Or name crystals of your own: training, pretraining, reference and hull are "
                "settings of --config"
            ) from error

    def hull_of_rankers(self) -> str:
        """Rankers know the training crystals alone (Table 2), where these have energies."""
        training = self.source(self.plan.training)
        known = datasets.load(training)
        if "formation_energy_per_atom" in known:
            return training
        return self.source(self.plan.hull)

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
    """
    return Reproduction(plan=plan, out=Path(out), **how).run()
