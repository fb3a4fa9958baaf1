"""Screening and refinement: what each ranker's choice is worth, before and after a generator learns from it.

    python reproduce/refinement.py reproduce/small.toml --data FOLDER --out FOLDER

The shape of the paper's Tables 1 and 2. Many crystals are drawn; those that are valid, unique and novel are
ranked by each ranker, without relaxing any; the best are relaxed and judged (what the choice is worth), the
base generator is fine-tuned on them, and what it then draws is judged under the same protocol, where a
match with a crystal that it was fine-tuned on is not novel. A choice at random of the same size is the
control. FOLDER holds mp20_bt.parquet, mp20_hull.parquet and peers/diffcsp_mp20_first2000.parquet. An arm's
rounds are those of ``crysjepa discover``, with another choice, and --out is a run directory: a run that was
killed goes on from there; another configuration needs another folder, but arms may be added to a plan. At
the end stand refinement.json, refinement.md, refinement.svg and, where arms differ in k or 𝒩 alone,
sweep.svg.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import draw_sweep, sweep_lines
from page_tables import page
from plan import NO_FORMULA_TWICE, SOURCES, Arm, Plan
from steps import best

from crysjepa import api, datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.loop import prepare
from crysjepa.discovery.means import Means
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.rates import crystal_metrics
from crysjepa.evaluation.reference import Known
from crysjepa.evaluation.result_files import with_checksum
from crysjepa.generators.base import Generator, Sampler, load_generator
from crysjepa.generators.constraints import Constraints
from crysjepa.nn.training import TrainSettings
from crysjepa.ranking.registry import ranker_info
from crysjepa.report.rate_bars import draw_rates
from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.files import file_hash, read_json, write_json, write_text
from crysjepa.runtime.run_directory import Run
from crysjepa.runtime.threads import default_processes
from crysjepa.stages.evaluate import Evaluate
from crysjepa.stages.finetune import Finetune
from crysjepa.stages.generate import Generate
from crysjepa.stages.keep import Keep
from crysjepa.stages.relax import Relax
from crysjepa.stages.round import Round, one_round
from crysjepa.stages.score import Score
from crysjepa.stages.stage import Runner, Stage


class Experiment:
    """The rounds of every arm in one run directory; what arms have in common is one folder of it."""

    def __init__(self, plan: Plan, data: Path, out: Path, device: str) -> None:
        self.plan, self.out, self.device = plan, out, device
        known, hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
        self.peer = data / "peers" / "diffcsp_mp20_first2000.parquet"
        config = DiscoverConfig(
            reference=str(known), hull=str(hull), protocol=plan.judging, seed=plan.seed,
            generator=plan.generator if plan.base_steps is None else str(out / "base.safetensors"),
        )  # fmt: skip
        self.means = Means.of(config, out, device, tell)
        self.rows: list[dict[str, Any]] = []
        files = [p for p in (known, hull, self.peer, self.means.jepa_path) if p.exists()]
        files += [] if plan.base_steps else [self.means.generator_path]
        # arms are free to come and go: their folders are named by what they are
        own = plan.model_dump(mode="json", exclude={"arms"})
        self.directory = Run(out, own, {p.name: file_hash(p) for p in files})

    def run(self) -> dict[str, Any]:
        """Every row of the tables."""
        plan = self.plan
        self.prepare()
        for distinct in sorted({False, *(arm.distinct for arm in plan.arms)}):
            name = f"base, {NO_FORMULA_TWICE}" if distinct else "base"
            self.row(name, "base", self.sample(self.base, plan.seed + 2, distinct))
        if plan.peers and self.peer.exists():
            read = Keep(output="generated.parquet", pick=lambda _: first(self.peer, plan.peers))
            self.row("DiffCSP", "DiffCSP", Round(generate=read, judge=self.judging("judged", None)))
        for arm in plan.arms:
            self.arm(arm)
        return self.write()

    def prepare(self) -> None:
        """The base and elemental references; what rankers lack is better said now than when all is drawn."""
        steps = self.plan.base_steps
        if steps is not None:
            settings = TrainSettings(
                steps=steps, batch_size=128, learning_rate=2e-3, warmup=300, checkpoint_every=250
            )
            config, path = self.means.config, self.means.generator_path
            train = partial(api.train, config.reference, path, settings=settings, seed=config.seed)
            self.directory.stage("train base", [path.name], partial(train, device=self.device))
        self.directory.stage("prepare", ["references.json"], partial(prepare, self.means))
        for ranker in {arm.ranker for arm in self.plan.arms}:
            self.means.ranker_by(ranker)

    def arm(self, arm: Arm) -> None:
        """Its rounds, and what its generator draws in the end."""
        before, with_metadata = None, {"arm": arm.model_dump()}
        learning = arm.label.removesuffix(f", {NO_FORMULA_TWICE}")  # which is of what is judged
        for number in range(arm.rounds):
            name = f"{learning}, round {number + 1}" if number else arm.choice
            round_ = self.round_of(arm, number, before)
            judged = self.row(f"chosen by {name}", arm.folder(number), round_, before, **with_metadata)
            if before is not None:  # ids are unique within a round only
                judged = CandidateTable(judged.frame.assign(id=f"round-{number + 1}-" + judged.frame["id"]))
            before = judged if before is None else CandidateTable.concatenate([before, judged])
        last = self.sample(
            self.tuned(arm, arm.rounds), self.plan.seed + 3, arm.distinct, before,
            self.finetune(arm, arm.rounds),
        )  # fmt: skip
        self.row(f"refined by {arm.label}", arm.folder(arm.rounds), last, before, **with_metadata)

    def row(
        self, name: str, folder: str, round_: Round, before: CandidateTable | None = None, **more: Any
    ) -> CandidateTable:
        """Run the stages of a round, and add what they found to the tables; a result folder, as well."""
        at = Runner(self.directory, folder, tell, name)
        table, last = one_round(at, round_, before), round_.judge[-1]
        assert isinstance(last, Evaluate)
        path = at.path(last.output).with_name("metrics.json")
        protocol = {**last.evaluator.describe(), "stability_judged": True}
        metrics = {**crystal_metrics(table), "protocol": protocol}
        write_json(path, with_checksum(metrics, table))
        fresh = table.column("new_prototype", table.ok_ids) if "new_prototype" in table else []
        kept = ("num_crystals", "intervals", *RATE_LETTERS, "vsun_at_0", "new_prototype", "protocol")
        found = {
            "name": name,
            **{k: metrics.get(k) for k in kept},
            "hits_in_new_prototypes": float(np.mean([bool(f) for f in fresh])) if fresh else None,
            "folder": str(path.parent.relative_to(self.out)),
            **more,
        }
        if all(row["folder"] != found["folder"] for row in self.rows):  # arms may share a round
            self.rows.append(found)
            self.write()
        return table

    # -- the stages of a round -------------------------------------------------------------

    def round_of(self, arm: Arm, number: int, before: CandidateTable | None) -> Round:
        """The best of what is valid, unique and novel as drawn, by the arm's ranker: relaxed and judged."""
        by_hull = ranker_info(arm.ranker).needs_hull
        generate = Generate(
            source=self.tuned(arm, number) if number else partial(self.source, arm),
            num=arm.pool if number else self.plan.pool,  # the first is for all arms
            seed=self.plan.seed + 1 + 10 * number,
            device=self.device,
        )
        choose = (
            Evaluate(output="as-drawn.parquet", evaluator=self.judge(before, relax=False)),
            Score(
                output=f"scored-{arm.ranker}.parquet", ranker=partial(self.means.ranker_by, arm.ranker),
                support=HullSupport(self.means.hull) if by_hull else None,
            ),
            Keep(output=f"{arm.chosen}/chosen.parquet", pick=partial(best, num=arm.select, pool=arm.pool)),
        )  # fmt: skip
        finetune = self.finetune(arm, number) if number else None
        judge = self.judging(arm.chosen, before)
        return Round(finetune=finetune, generate=generate, choose=choose, judge=judge)

    def sample(
        self,
        source: Callable[[], Sampler],
        seed: int,
        distinct: bool,
        before: CandidateTable | None = None,
        finetune: Finetune | None = None,
    ) -> Round:
        """A round that chooses nothing: what a generator is worth."""
        folder = "sample-distinct" if distinct else "sample"
        generate = Generate(
            output=f"{folder}/generated.parquet", source=source, num=self.plan.sample, seed=seed,
            constraints=Constraints(distinct=distinct), device=self.device,
        )  # fmt: skip
        return Round(finetune=finetune, generate=generate, judge=self.judging(folder, before))

    def judging(self, folder: str, before: CandidateTable | None) -> tuple[Stage, ...]:
        """Relax and judge into a folder."""
        judge = self.judge(before)
        return (
            Relax(output=f"{folder}/relaxed.parquet", evaluator=judge),
            Evaluate(output=f"{folder}/crystals.parquet", evaluator=judge, with_metadata=True),
        )

    def finetune(self, arm: Arm, number: int) -> Finetune:
        """The generator of the round before learns from what was chosen in all rounds so far."""
        return Finetune(
            generator=self.tuned(arm, number - 1) if number > 1 else self.base,
            select=self.fit,
            settings=self.plan.finetune.model_copy(update={"steps": arm.steps}),
            seed=self.plan.seed + number - 1,
            device=self.device,
        )

    def base(self) -> Generator:
        """The generator that is refined."""
        return self.means.generator(0)

    def tuned(self, arm: Arm, number: int) -> Callable[[], Generator]:
        """The generator of a later round."""
        return partial(load_generator, self.out / arm.folder(number) / "generator.safetensors")

    def source(self, arm: Arm) -> Sampler:
        """Who draws the first round."""
        source = "generator" if arm.source == "base" else arm.source
        config = self.means.config.model_copy(update={"source": source})
        return replace(self.means, config=config).sampler(0)

    def fit(self, table: CandidateTable) -> list[str]:
        """Relaxed crystals to learn from: found V.S.U.N., or all that converged."""
        if self.plan.learn_from == "vsun":
            return table.ok_ids
        columns = (table.ids, table.column("converged"), table.column("valid"))
        return [i for i, converged, valid in zip(*columns, strict=True) if converged and valid]

    def judge(self, before: CandidateTable | None, relax: bool = True) -> Evaluator:
        """By the plan's protocol; nothing is novel that the generator learnt from."""
        judge = replace(self.means.evaluator, processes=default_processes(self.device))
        if before is not None and (ids := self.fit(before)):
            table = CandidateTable.from_crystals(before.crystals(ids))
            learnt = Known(table, self.means.known.scale, "finetuning_set.parquet")
            index = Evaluator.prepare(judge.protocol, learnt, None, None).reference
            judge = replace(judge, finetuned_on=index, names=(judge.names[0], learnt.name))
        if relax:
            return judge
        # to know the valid, unique and novel takes no prototypes, which take minutes
        protocol = judge.protocol.model_copy(update={"relax": False, "prototypes": False})
        return replace(judge, protocol=protocol, hull=None, references=None)

    def write(self) -> dict[str, Any]:
        """The tables so far."""
        stages = read_json(self.directory.path("run.json"))["stages"]
        ways = [(a.ranker, source) for source in SOURCES for a in self.plan.arms]
        scored = {f"{r}, {source}": f"{source}/score: scored-{r}.parquet" for r, source in ways}
        found = {
            "plan": self.plan.model_dump(mode="json"),
            "rows": self.rows,
            "seconds": {way: stages[name]["seconds"] for way, name in scored.items() if name in stages},
        }
        write_json(self.out / "refinement.json", found)
        write_text(self.out / "refinement.md", page(found))
        draw_rates(self.rows, self.out / "refinement.svg")
        if any(sweep_lines(self.rows, field) for field in ("select", "pool")):
            draw_sweep(self.rows, self.out / "sweep.svg")
        return found


def first(source: Path, num: int) -> CandidateTable:
    """The first crystals of a file."""
    return CandidateTable.from_crystals(datasets.load(str(source)).crystals()[:num])


_told: dict[str, int] = {}


def tell(stage: str, done: int, total: int) -> None:
    """Progress in tenths, with the time."""
    if (tenth := 10 * done // max(total, 1)) != _told.get(stage):
        _told[stage] = tenth
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {stage} {done} of {total}\n")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, help="TOML file")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    plan = Plan.model_validate(tomllib.loads(args.plan.read_text(encoding="utf-8")))
    try:
        found = Experiment(plan, args.data, args.out, args.device).run()
    except RunError as error:
        sys.exit(str(error))
    sys.stdout.write(page(found))


if __name__ == "__main__":
    main()
