"""Screening and refinement: what each ranker's choice is worth, before and after a generator learns from it.

    python experiments/refinement.py experiments/small.toml --data FOLDER --out FOLDER

The shape of the paper's Tables 1 and 2. Many crystals are drawn; those that are valid, unique and novel are
ranked by each ranker, without relaxing any; the best are relaxed and judged (what the choice is worth), the
base generator is fine-tuned on them, and what it then draws is judged under the same protocol, where a
match with a crystal that it was fine-tuned on is not novel. A choice at random of the same size is the
control. FOLDER holds mp20_bt.parquet, mp20_hull.parquet and peers/diffcsp_mp20_first2000.parquet. Every
step's file stays in --out: a run that was killed goes on from there; another configuration needs another
folder, but arms may be added to a plan. At the end stand refinement.json, refinement.md, refinement.svg and,
where arms differ in k or 𝒩 alone, sweep.svg.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import draw_refinement, draw_sweep, sweep_lines
from plan import NO_FORMULA_TWICE, Arm, Plan
from steps import keep_best, keep_lessons, keep_ok
from tables import page

from crysjepa import __version__, api, datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.constraints import Constraints
from crysjepa.generators.registry import GeneratorOptions
from crysjepa.nn.training import TrainSettings
from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.runtime.files import (
    file_hash,
    read_json,
    write_json,
    write_text,
)
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.threads import default_processes
from crysjepa.weights import shipped


class Experiment:
    """The steps; each writes one file, and is skipped where that is there."""

    def __init__(self, plan: Plan, data: Path, out: Path, device: str) -> None:
        self.plan, self.out, self.device = plan, out, device
        self.known, self.hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
        self.peer = data / "peers" / "diffcsp_mp20_first2000.parquet"
        self.processes = default_processes(device)
        saved = out / "plan.json"
        own = {
            # arms are free to come and go: their files are named by what they are
            "plan": plan.model_dump(mode="json", exclude={"arms"}),
            "data": {p.name: file_hash(p) for p in (self.known, self.hull, self.peer) if p.exists()},
            "weights": {name: file_hash(shipped(name)) for name in ("generator", "jepa")},
            "crysjepa": __version__,
        }
        if saved.exists() and read_json(saved) != own:
            sys.exit(f"{out} holds another experiment: name another folder")
        write_json(saved, own)
        self.times_path = out / "seconds.json"
        self.seconds: dict[str, float] = read_json(self.times_path) if self.times_path.exists() else {}

    def step(self, name: str, path: Path, work: Callable[[], Any]) -> Path:
        """Do what has not been done, and keep its seconds."""
        if not path.exists():
            say(name)
            started = time.perf_counter()
            work()
            self.seconds[name] = time.perf_counter() - started
            write_json(self.times_path, self.seconds)
        return path

    # -- steps -----------------------------------------------------------------------------

    def base(self) -> Path | None:
        """The generator that is refined; None for the shipped one."""
        if self.plan.base_steps is None:
            return None
        settings = TrainSettings(
            steps=self.plan.base_steps, batch_size=128, learning_rate=2e-3, warmup=300, checkpoint_every=250
        )
        path = self.out / "base.safetensors"
        return self.step(
            "train base",
            path,
            lambda: api.train(self.known, path, settings=settings, seed=self.plan.seed, device=self.device),
        )

    def drawn(
        self, name: str, path: Path, num: int, generator: Path | str | None, seed: int, distinct: bool = False
    ) -> Path:
        """Crystals of a generator."""
        return self.step(
            f"draw {name}",
            path,
            lambda: api.generate(
                num,
                path,
                generator=generator,
                options=GeneratorOptions(parents=self.known),
                constraints=Constraints(distinct=distinct),
                seed=seed,
                device=self.device,
                processes=self.processes,
            ),
        )

    def judged(
        self, name: str, source: Path, out: Path, *, finetuned_on: Path | None = None, relax: bool = True
    ) -> Path:
        """A folder of ``crysjepa evaluate``."""
        # to know the valid, unique and novel takes no prototypes, which take minutes
        changes = {"relax": True} if relax else {"relax": False, "prototypes": False}
        protocol = self.plan.judging.model_copy(update=changes)
        self.step(
            f"judge {name}",
            out / "metrics.json",
            lambda: api.evaluate(
                source, out, reference=self.known, hull=self.hull if relax else None, protocol=protocol,
                finetuned_on=finetuned_on, device=self.device, processes=self.processes,
                progress=teller(name),
            ),
        )  # fmt: skip
        return out

    def candidates(self, arm: Arm, round_: int) -> Path:
        """The valid, unique and novel of what is drawn for a round, as they were drawn."""
        if round_ == 0:  # one for all arms
            name, lessons, num = f"pool by {arm.source}", None, self.plan.pool
            folder = self.out / "pools" / arm.source
            source = self.base() if arm.source == "base" else arm.source
        else:
            folder, name, num = self.folder(arm, round_), f"pool of {arm.slug(round_)}", arm.pool
            lessons, source = self.lessons(arm, round_ - 1), self.refined(arm, round_)
        seed = self.plan.seed + 1 + 10 * round_
        pool = self.drawn(name, folder / "pool.parquet", num, source, seed)
        out = self.judged(name, pool, folder / "judged-pool", finetuned_on=lessons, relax=False)
        path = folder / "candidates.parquet"
        return self.step(f"keep V.U.N. of {name}", path, lambda: keep_ok(out, path))

    def chosen(self, arm: Arm, round_: int) -> Path:
        """The best by the arm's ranker, relaxed and judged: a folder of ``crysjepa evaluate``."""
        candidates, folder = self.candidates(arm, round_), self.folder(arm, round_)
        name = f"{arm.ranker}, {candidates.parent.name}"
        ranked = candidates.with_name(f"ranked-{arm.ranker}.parquet")
        self.step(
            f"rank by {name}",
            ranked,
            lambda: api.screen(
                candidates,
                self.known,
                ranked,
                by=arm.ranker,
                hull=self.hull,
                seed=self.plan.seed,
                device=self.device,
            ),
        )
        path = folder / "chosen.parquet"
        among = candidates.with_name("pool.parquet")
        self.step(
            f"choose {arm.slug(round_)}",
            path,
            lambda: keep_best(candidates, ranked, arm.select, path, among=among, num_drawn=arm.pool),
        )
        lessons = self.lessons(arm, round_ - 1) if round_ else None
        return self.judged(f"chosen {arm.slug(round_)}", path, folder / "judged", finetuned_on=lessons)

    def lessons(self, arm: Arm, round_: int) -> Path:
        """Relaxed crystals to learn from, of this round and of those before."""
        out, path = self.chosen(arm, round_), self.folder(arm, round_) / "lessons.parquet"
        before = self.lessons(arm, round_ - 1) if round_ else None
        learn, prefix = self.plan.learn_from, f"round-{round_ + 1}-" if round_ else ""
        return self.step(
            f"lessons {arm.slug(round_)}",
            path,
            lambda: keep_lessons(out, path, learn_from=learn, before=before, prefix=prefix),
        )

    def refined(self, arm: Arm, rounds: int) -> Path | None:
        """The generator after so many rounds: that of the round before, fine-tuned on all lessons so far."""
        if rounds == 0:
            return self.base()
        lessons, before = self.lessons(arm, rounds - 1), self.refined(arm, rounds - 1)
        slug = arm.model_copy(update={"rounds": rounds}).refined_slug
        path = self.out / "refined" / slug / "generator.safetensors"
        settings = self.plan.finetune.model_copy(update={"steps": arm.steps})
        return self.step(
            f"fine-tune {slug}",
            path,
            lambda: api.finetune(
                lessons, path, generator=before, settings=settings, seed=self.plan.seed + rounds - 1,
                device=self.device,
            ),
        )  # fmt: skip

    def folder(self, arm: Arm, round_: int) -> Path:
        """Where a round's files are."""
        path = self.out / "chosen" / arm.slug(round_)
        path.mkdir(parents=True, exist_ok=True)
        return path

    # -- all of it -------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Every row of the tables."""
        plan, rows = self.plan, []
        for distinct in sorted({False, *(arm.distinct for arm in plan.arms)}):
            name = f"base, {NO_FORMULA_TWICE}" if distinct else "base"
            rows.append(row(name, self.sample_judged(name, self.base(), self.out / "base", 2, distinct)))
        if plan.peers and self.peer.exists():
            path = self.out / "DiffCSP.parquet"
            self.step("read DiffCSP", path, lambda: first(self.peer, plan.peers, path))
            rows.append(row("DiffCSP", self.judged("DiffCSP", path, self.out / "judged-DiffCSP")))
        listed = set()
        for arm in plan.arms:
            for round_ in range(arm.rounds):
                out = self.chosen(arm, round_)
                if out not in listed:
                    listed.add(out)
                    learning = arm.label.removesuffix(f", {NO_FORMULA_TWICE}")  # which is of what is judged
                    name = f"{learning}, round {round_ + 1}" if round_ else arm.choice
                    rows.append(row(f"chosen by {name}", out, arm=arm.model_dump()))
                    self.write(rows)
            rows.append(row(f"refined by {arm.label}", self.refined_judged(arm), arm=arm.model_dump()))
            self.write(rows)
        return self.write(rows)

    def refined_judged(self, arm: Arm) -> Path:
        """What the arm's generator draws, judged."""
        generator, folder = self.refined(arm, arm.rounds), self.out / "refined" / arm.refined_slug
        lessons = self.lessons(arm, arm.rounds - 1)
        return self.sample_judged(f"refined by {arm.label}", generator, folder, 3, arm.distinct, lessons)

    def sample_judged(
        self,
        name: str,
        generator: Path | str | None,
        folder: Path,
        seed: int,
        distinct: bool,
        lessons: Path | None = None,
    ) -> Path:
        """What a generator draws, judged: a folder of ``crysjepa evaluate``."""
        ending = "-distinct" if distinct else ""
        path, num = folder / f"sample{ending}.parquet", self.plan.sample
        sample = self.drawn(name, path, num, generator, self.plan.seed + seed, distinct)
        return self.judged(name, sample, folder / f"judged{ending}", finetuned_on=lessons)

    def write(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The tables so far."""
        found = {"plan": self.plan.model_dump(mode="json"), "rows": rows, "seconds": self.seconds}
        write_json(self.out / "refinement.json", found)
        write_text(self.out / "refinement.md", page(found))
        draw_refinement(found, self.out / "refinement.svg")
        if any(sweep_lines(rows, field) for field in ("select", "pool")):
            draw_sweep(rows, self.out / "sweep.svg")
        return found


def row(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """One line of the table."""
    metrics = read_json(folder / "metrics.json")
    kept = ("num_crystals", "intervals", *RATE_LETTERS, "vsun_at_0", "new_prototype", "protocol")
    table = CandidateTable.read(folder / "crystals.parquet")
    hits = [i for i, s in zip(table.ids, table.column("status"), strict=True) if s == "ok"]
    fresh = table.column("new_prototype", hits) if "new_prototype" in table else []
    return {
        "name": name,
        **{k: metrics.get(k) for k in kept},
        "hits_in_new_prototypes": float(np.mean([bool(f) for f in fresh])) if fresh else None,
        **more,
    }


def first(source: Path, num: int, out: Path) -> None:
    """The first crystals of a file."""
    CandidateTable.from_crystals(datasets.load(str(source)).crystals()[:num]).write(out)


def say(line: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def teller(name: str) -> StageProgress:
    """Progress in tenths."""
    last: dict[str, int] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if (tenth := 10 * done // max(total, 1)) != last.get(stage):
            last[stage] = tenth
            say(f"{name}: {stage} {done} of {total}")

    return tell


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
    found = Experiment(plan, args.data, args.out, args.device).run()
    sys.stdout.write(page(found))


if __name__ == "__main__":
    main()
