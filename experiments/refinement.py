"""Screening and refinement: what each ranker's choice is worth, before and after a generator learns from it.

    python experiments/refinement.py experiments/small.toml --data FOLDER --out FOLDER

The shape of the paper's Tables 1 and 2. Many crystals are drawn; those that are valid, unique and novel are
ranked by each ranker, without relaxing any; the best are relaxed and judged (what the choice is worth), the
base generator is fine-tuned on them, and what it then draws is judged under the same protocol, where a
match with a crystal that it was fine-tuned on is not novel. A choice at random of the same size is the
control. FOLDER holds mp20_bt.parquet, mp20_hull.parquet and peers/diffcsp_mp20_first2000.parquet. Every
step's file stays in --out: a run that was killed goes on from there; another configuration needs another
folder. At the end stand refinement.json, refinement.md and refinement.svg.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from figures import draw_refinement
from pydantic import BaseModel, ConfigDict, Field
from steps import keep_best, keep_ok, percent

from crysjepa import __version__, api, datasets
from crysjepa.candidates import CandidateTable
from crysjepa.evaluate.presets import Protocol, preset
from crysjepa.generate.registry import GeneratorOptions
from crysjepa.nn.checkpoint import file_hash
from crysjepa.nn.parallel import default_processes
from crysjepa.nn.training import TrainSettings
from crysjepa.run import read_json, write_json, write_text
from crysjepa.weights import shipped

RATES = {"valid": "V", "stable": "S", "unique": "U", "novel": "N", "sun": "S.U.N.", "vsun": "V.S.U.N."}


class Plan(BaseModel):
    """What is done, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_steps: int | None = Field(
        None, description="train a flow for so many steps; by default the shipped one"
    )
    source: Literal["base", "substitution"] = Field("base", description="who draws what is ranked")
    pool: int = Field(4000, description="crystals that are drawn and ranked")
    select: int = Field(300, description="of them chosen by each ranker")
    sample: int = Field(500, description="drawn and judged of the base and of each refined generator")
    peers: int = Field(500, description="of DiffCSP's crystals judged")
    rankers: tuple[str, ...] = ("random", "jepa-distance", "jepa-hull", "jepa-relaxed", "chgnet")
    learn_from: Literal["chosen", "vsun"] = Field(
        "chosen", description="all that were chosen and relaxed, or those found V.S.U.N. then"
    )
    finetune: TrainSettings = TrainSettings(
        steps=600, batch_size=64, learning_rate=5e-4, warmup=20, ema_decay=0.99, checkpoint_every=100
    )
    judging: Protocol = preset("strict")
    seed: int = 0


class Experiment:
    """The steps; each writes one file, and is skipped where that is there."""

    def __init__(self, plan: Plan, data: Path, out: Path, device: str) -> None:
        self.plan, self.out, self.device = plan, out, device
        self.known, self.hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
        self.peer = data / "peers" / "diffcsp_mp20_first2000.parquet"
        self.processes = default_processes(device)
        saved = out / "plan.json"
        own = {
            "plan": plan.model_dump(mode="json"),
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

    def drawn(self, name: str, num: int, generator: Path | str | None, seed: int) -> Path:
        """Crystals of a generator."""
        path = self.out / f"{name}.parquet"
        return self.step(
            f"draw {name}",
            path,
            lambda: api.generate(
                num,
                path,
                generator=generator,
                options=GeneratorOptions(parents=self.known),
                seed=seed,
                device=self.device,
                processes=self.processes,
            ),
        )

    def judged(self, name: str, source: Path, finetuned_on: Path | None = None, relax: bool = True) -> Path:
        """A folder of ``crysjepa evaluate``."""
        out = self.out / "judged" / name
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

    def candidates(self) -> Path:
        """The valid, unique and novel of the pool, as they were drawn."""
        source = "substitution" if self.plan.source == "substitution" else self.base()
        pool = self.drawn("pool", self.plan.pool, source, self.plan.seed + 1)
        out = self.judged("pool", pool, relax=False)
        path = self.out / "candidates.parquet"

        return self.step("keep V.U.N.", path, lambda: keep_ok(out, path))

    def chosen(self, ranker: str) -> Path:
        """The best by a ranker."""
        candidates, ranked = self.candidates(), self.out / f"ranked-{ranker}.parquet"
        self.step(
            f"rank by {ranker}",
            ranked,
            lambda: api.screen(
                candidates,
                self.known,
                ranked,
                by=ranker,
                hull=self.hull,
                seed=self.plan.seed,
                device=self.device,
            ),
        )
        path = self.out / f"chosen-{ranker}.parquet"
        return self.step(
            f"choose by {ranker}", path, lambda: keep_best(candidates, ranked, self.plan.select, path)
        )

    def refined(self, ranker: str) -> Path:
        """The base generator, fine-tuned on what the ranker chose."""
        lessons, path = self.lessons(ranker), self.out / f"refined-{ranker}.safetensors"
        base = self.base()
        return self.step(
            f"fine-tune by {ranker}",
            path,
            lambda: api.finetune(
                lessons, path, generator=base, settings=self.plan.finetune, seed=self.plan.seed,
                device=self.device,
            ),
        )  # fmt: skip

    def lessons(self, ranker: str) -> Path:
        """Relaxed crystals to learn from."""
        out = self.judged(f"chosen by {ranker}", self.chosen(ranker))
        path = self.out / f"lessons-{ranker}.parquet"

        def work() -> None:
            table = CandidateTable.read(out / "crystals.parquet")
            if self.plan.learn_from == "vsun":
                ids = table.ok_ids
            else:
                kept = zip(table.ids, table.column("converged"), strict=True)
                ids = [i for i, converged in kept if converged]
            CandidateTable.from_crystals(table.crystals(ids)).write(path)

        return self.step(f"lessons of {ranker}", path, work)

    # -- all of it -------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Every row of the tables."""
        plan, rows = self.plan, []
        base = self.drawn("base", plan.sample, self.base(), plan.seed + 2)
        rows.append(self.row("base", self.judged("base", base)))
        if plan.peers and self.peer.exists():
            path = self.out / "DiffCSP.parquet"
            self.step("read DiffCSP", path, lambda: first(self.peer, plan.peers, path))
            rows.append(self.row("DiffCSP", self.judged("DiffCSP", path)))
        for ranker in plan.rankers:
            chosen = self.judged(f"chosen by {ranker}", self.chosen(ranker))
            rows.append({**self.row(f"chosen by {ranker}", chosen), "ranker": ranker})
        for ranker in plan.rankers:
            sample = self.drawn(f"refined-{ranker}", plan.sample, self.refined(ranker), plan.seed + 3)
            name = f"refined by {ranker}"
            out = self.judged(name, sample, finetuned_on=self.lessons(ranker))
            rows.append({**self.row(name, out), "ranker": ranker})
            self.write(rows)
        return self.write(rows)

    def row(self, name: str, folder: Path) -> dict[str, Any]:
        """One line of the table."""
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        kept = ("num_crystals", "intervals", *RATES, "vsun_at_0", "new_prototype", "protocol")
        table = CandidateTable.read(folder / "crystals.parquet")
        hits = [i for i, s in zip(table.ids, table.column("status"), strict=True) if s == "ok"]
        fresh = table.column("new_prototype", hits) if "new_prototype" in table else []
        return {
            "name": name,
            **{k: metrics.get(k) for k in kept},
            "hits_in_new_prototypes": float(np.mean([bool(f) for f in fresh])) if fresh else None,
        }

    def write(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The tables so far."""
        found = {"plan": self.plan.model_dump(mode="json"), "rows": rows, "seconds": self.seconds}
        write_json(self.out / "refinement.json", found)
        write_text(self.out / "refinement.md", page(found))
        draw_refinement(found, self.out / "refinement.svg")
        return found


def first(source: Path, num: int, out: Path) -> None:
    """The first crystals of a file."""
    CandidateTable.from_crystals(datasets.load(str(source)).crystals()[:num]).write(out)


def page(found: dict[str, Any]) -> str:
    """The table, the time of each ranker, and what it is relative to."""
    rows, plan, seconds = found["rows"], found["plan"], found["seconds"]
    head = [
        "",
        "crystals",
        *RATES.values(),
        "V.S.U.N. on the hull",
        "times the base",
        "hits in new prototypes",
    ]
    base = rows[0]["vsun"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row["name"], str(row["num_crystals"]), *(percent(row, n) for n in (*RATES, "vsun_at_0"))]
        own = base and row["name"].startswith("refined")
        cells.append(f"{row['vsun'] / base:.2f}" if own else "–")
        share = row["hits_in_new_prototypes"]
        cells.append("–" if share is None else f"{100 * share:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    times = ", ".join(
        f"{r} {seconds[f'rank by {r}']:.0f}" for r in plan["rankers"] if f"rank by {r}" in seconds
    )
    protocol = rows[0]["protocol"]
    who = "substitution" if plan["source"] == "substitution" else "the base"
    base_is = f"a flow trained for {plan['base_steps']} steps" if plan["base_steps"] else "the shipped flow"
    learnt = "that converged" if plan["learn_from"] == "chosen" else "found V.S.U.N."
    lines += [
        "",
        f"{plan['pool']} crystals drawn by {who}; of those valid, unique and novel as drawn, "
        f"{plan['select']} chosen by each ranker; {base_is} fine-tuned for {plan['finetune']['steps']} steps "
        f"on those of them {learnt}, relaxed. In percent of all crystals of the row (those chosen were "
        "valid, unique and novel before they were relaxed), with Wilson intervals of 95 %. "
        f"Preset {protocol['preset']}, {protocol['force_field']}, hull {protocol['hull']}; what matches a "
        f"crystal that the generator was fine-tuned on is not novel. Seconds of ranking: {times}.",
    ]
    return "\n".join(lines) + "\n"


def say(line: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def teller(name: str) -> Callable[[str, int, int], None]:
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
