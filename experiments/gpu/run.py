"""A generator trained, drawn from, refined and judged within minutes of one GPU.

    python experiments/gpu/run.py measure --data FOLDER --out OUT
    python experiments/gpu/run.py train   --data FOLDER --out OUT --minutes 3
    python experiments/gpu/run.py sample  --model OUT/flow.safetensors --num 20000 --out OUT/samples.parquet
    python experiments/gpu/run.py relax   OUT/samples.parquet --out OUT/judged.shards --processes 15
    python experiments/gpu/run.py judge   OUT/samples.parquet --data FOLDER --out OUT/judged
    python experiments/gpu/run.py screen  OUT/samples.parquet --data FOLDER --out OUT/chosen.parquet
    python experiments/gpu/run.py refine  --model OUT/flow.safetensors --lessons OUT/chosen.parquet \\
        --replay FOLDER/mp20_bt.parquet FOLDER/mpts52.parquet --out OUT/refined.safetensors
    python experiments/gpu/run.py page    OUT/judged OUT/judged-refined --out OUT

FOLDER holds mp20_bt.parquet, mpts52.parquet and mp20_hull.parquet. ``measure`` gives the speed of training
and sampling at the paper's sizes and at a quarter of them, beside what the chip can do. ``train`` first times
some steps and then takes as many as fit into the minutes; it goes on from its state when it was killed.
``relax`` does so under the preset ``strict``, in batches on the GPU, and keeps finished chunks: it can be
stopped on one machine, and ``judge`` goes on from there on another. ``--device cpu --toy`` tries all of it at
toy size.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from page import page
from shared import Clock, keep, name_of, say
from speed import measure
from train_default_weights import generator_crystals

from crysjepa import api, datasets
from crysjepa.candidates import CandidateTable
from crysjepa.canonical import canonicalise
from crysjepa.crystals import Crystals
from crysjepa.evaluate.presets import Protocol, preset
from crysjepa.generate.flow import FlowConfig
from crysjepa.generate.flow_generator import FlowGenerator, settle_all
from crysjepa.generate.registry import load_checkpoint
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.nn.parallel import default_processes
from crysjepa.nn.training import TrainSettings
from crysjepa.relax.relax import RelaxSettings, relax_crystals
from crysjepa.screen.filters import reduced_formulas

FLOW = FlowConfig(InvariantConfig(layers=6, width=224, channels=28, degrees=(192, 72, 72, 40), hidden=320))
"""Some four times the parameters of the flow that a laptop trains."""
TOY = FlowConfig(InvariantConfig(layers=2, width=32, channels=8, degrees=(16, 8, 8, 8), hidden=32))
TRAINING = TrainSettings(
    batch_size=2048, learning_rate=2e-3, warmup=300, ema_decay=0.999, checkpoint_every=1000, record_every=100
)
REFINING = TrainSettings(
    steps=3000, batch_size=2048, learning_rate=1e-3, warmup=100, ema_decay=0.998, checkpoint_every=1000,
    record_every=50,
)  # fmt: skip
TOO_GOOD = -0.3
"""eV/atom; what is expected further below the hull is more likely an error."""
PILOT = 150
"""Steps that are timed before the number of steps is chosen."""


def tables(data: Path) -> list[Path]:
    """What generators learn from."""
    return [data / "mp20_bt.parquet", data / "mpts52.parquet"]


def train(
    data: Path, out: Path, device: str, toy: bool, minutes: float, wanted: int | None, after: Path | None
) -> None:
    """The flow, for so many minutes, or for so many steps."""
    path = out / "flow.safetensors"
    crystals = generator_crystals(tables(data)[: 1 if toy else 2])
    if toy:
        crystals = crystals[:200]
    config = TOY if toy else FLOW
    settings = TRAINING.model_copy(update={"batch_size": 32} if toy else {})
    settled = settle_all(crystals, symmetric=config.symmetric)
    say(f"{len(crystals)} crystals")
    chosen = out / "steps.json"
    while after is not None and not after.exists():
        time.sleep(0.5)
    if wanted is not None:
        keep(chosen, {"steps": wanted})
    if not chosen.exists():
        steps = 20 if toy else PILOT
        pilot = settings.model_copy(update={"steps": steps})
        clock = Clock(steps // 2)
        FlowGenerator.train(crystals, config, pilot, settled=settled, device=device, progress=clock)
        ms = 1000 * clock.seconds / clock.steps
        keep(chosen, {"steps": max(1, int(60000 * minutes / ms)), "ms_a_step": ms})
    found = json.loads(chosen.read_text(encoding="utf-8"))
    say(f"{found['steps']} steps, as {chosen} has it")
    generator, training = FlowGenerator.train(
        crystals,
        config,
        settings.model_copy(update={"steps": found["steps"]}),
        settled=settled,
        device=device,
        state=out / "flow.state",
        progress=lambda done, total: None if done % 1000 else say(f"{done} of {total} steps"),
    )
    card = {
        "num_crystals": len(crystals),
        "data": [p.name for p in tables(data)],
        "seconds": round(training.seconds),
        "device": name_of(device),
        "last": training.curve[-1],
    }
    generator.save(path, dtype=torch.bfloat16, card=card)
    keep(out / "flow.curve.json", {"seconds": round(training.seconds), "curve": training.curve})
    say(f"trained in {training.seconds:.0f} s: {training.curve[-1]}")


def sample(model: Path, num: int, out: Path, device: str, seed: int) -> None:
    """Crystals as Parquet."""
    started = time.perf_counter()
    done = api.generate(num, out, generator=model, seed=seed, device=device)
    seconds = time.perf_counter() - started
    keep(out.with_suffix(".json"), {"num": num, "seconds": seconds, "device": name_of(device)})
    say(f"{num} drawn in {seconds:.0f} s: {done.counts()}")


def relaxed(source: Path, shards: Path, device: str, processes: int | None) -> None:
    """Relax under the preset ``strict``, finished chunks into a folder."""
    table = datasets.load(str(source))
    started, last = time.perf_counter(), [0.0]

    def report(done: int, total: int) -> None:
        if time.perf_counter() - last[0] > 5 or done == total:
            last[0] = time.perf_counter()
            say(f"{source.stem}: relaxed {done} of {total}, {time.perf_counter() - started:.0f} s")

    relax_crystals(
        table.crystals(table.ok_ids), settings=strict().relaxation, device=device, processes=processes,
        shards=shards, progress=report,
    )  # fmt: skip


def strict() -> Protocol:
    """The preset, in chunks that keep a GPU busy."""
    found = preset("strict")
    chunks = RelaxSettings(**found.relaxation.model_dump() | {"chunk_size": 48, "chunk_sites": 1200})
    return found.model_copy(update={"relaxation": chunks})


def judge(
    source: Path, data: Path, out: Path, device: str, processes: int | None, finetuned_on: Path | None
) -> None:
    """What ``crysjepa evaluate --preset strict`` finds, after :func:`relaxed` here or on another machine."""
    shards = out.with_name(f"{out.name}.shards")
    relaxed(source, shards, device, processes)
    found = api.evaluate(
        source, out, reference=data / "mp20_bt.parquet", hull=data / "mp20_hull.parquet", protocol=strict(),
        finetuned_on=finetuned_on, shards=shards, device=device,
        processes=processes or default_processes("cpu"),
    )  # fmt: skip
    say(f"{source.stem}: V.S.U.N. {found['vsun']}, {found['intervals']['vsun']}")


def screen(source: Path, data: Path, out: Path, num: int) -> None:
    """The best by ``jepa-relaxed``, each formula once; none that the hull says too little about."""
    ranked = out.with_name(f"{out.stem}-ranked.parquet")
    reference, hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
    api.screen(source, reference, ranked, by="jepa-relaxed", hull=hull, device="cpu")
    table = datasets.load(str(source))
    rows = pq.read_table(ranked, columns=["id", "score", "rank"]).to_pylist()
    likely = sorted((r["rank"], r["id"]) for r in rows if r["score"] is not None and r["score"] > TOO_GOOD)
    crystals = table.crystals([id_ for _, id_ in likely])
    first: dict[object, str] = {}
    for id_, formula in zip(crystals.ids, reduced_formulas(crystals), strict=True):
        first.setdefault(formula, id_)
    kept = list(first.values())[:num]
    CandidateTable.from_crystals(table.crystals(kept)).write(out)
    say(f"kept {len(kept)} of {len(table.ids)}")


def refine(
    model: Path,
    lessons: list[Path],
    replay: list[Path],
    out: Path,
    device: str,
    steps: int,
    after: Path | None,
) -> None:
    """The model, trained on with these crystals, and with those that it was trained on before."""
    base = load_checkpoint(model)
    assert isinstance(base, FlowGenerator)
    parts = [generator_crystals(replay)] if replay else []
    symmetric = base.flow.config.symmetric
    settled = settle_all(parts[0], symmetric=symmetric) if parts else []
    while after is not None and not after.exists():
        time.sleep(0.5)
    for path in lessons:
        table = datasets.load(str(path))
        parts.append(canonicalise(table.crystals(table.ok_ids))[0])
        settled += settle_all(parts[-1], symmetric=symmetric)
        say(f"{len(parts[-1])} of {path.name}")
    crystals = Crystals.concatenate(
        [part.with_ids([f"{i}-{id_}" for id_ in part.ids]) for i, part in enumerate(parts)]
    )
    settings = REFINING.model_copy(update={"steps": steps, "checkpoint_every": max(steps // 50 * 50, 50)})
    tuned, training = base.finetune(
        crystals, settings, settled=settled, device=device,
        progress=lambda done, total: None if done % 500 else say(f"{done} of {total} steps"),
    )  # fmt: skip
    card = {
        "num_crystals": len(crystals),
        "data": [p.name for p in (*replay, *lessons)],
        "seconds": round(training.seconds),
        "device": name_of(device),
        "last": training.curve[-1],
    }
    tuned.save(out, dtype=torch.bfloat16, card=card)
    keep(out.with_suffix(".curve.json"), {"seconds": round(training.seconds), "curve": training.curve})
    say(f"refined in {training.seconds:.0f} s: {training.curve[-1]}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(dest="stage", required=True)
    names = ("measure", "train", "sample", "screen", "relax", "judge", "refine", "page")
    measuring, training, sampling, screening, relaxing, judging, refining, telling = (
        stages.add_parser(name) for name in names
    )
    for stage in (measuring, training, screening, judging):
        stage.add_argument("--data", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=3.0)
    training.add_argument("--steps", type=int, help="instead of as many as fit into the minutes")
    for stage in (training, refining):
        stage.add_argument("--after", type=Path, help="wait for this file before the GPU is used")
    screening.add_argument("source", type=Path)
    screening.add_argument("--num", type=int, default=3000)
    for stage in (sampling, refining):
        stage.add_argument("--model", type=Path, required=True)
    sampling.add_argument("--num", type=int, default=20_000)
    sampling.add_argument("--seed", type=int, default=0)
    for stage in (relaxing, judging):
        stage.add_argument("source", type=Path)
        stage.add_argument("--processes", type=int, help="on a GPU too, which one process does not fill")
    judging.add_argument("--finetuned-on", type=Path)
    refining.add_argument("--lessons", type=Path, nargs="+", required=True)
    refining.add_argument("--replay", type=Path, nargs="*", default=[], help="tables of the first training")
    refining.add_argument("--steps", type=int, default=REFINING.steps)
    telling.add_argument("judged", type=Path, nargs="*")
    for stage in (measuring, training, sampling, screening, relaxing, judging, refining, telling):
        stage.add_argument("--out", type=Path, required=True)
        stage.add_argument("--device", default="cuda")
        stage.add_argument("--toy", action="store_true", help="as small as it gets")
    chosen = parser.parse_args()
    if chosen.stage == "measure":
        crystals = generator_crystals(tables(chosen.data)[:1])
        measure(crystals[:300] if chosen.toy else crystals, chosen.out, chosen.device, chosen.toy)
    elif chosen.stage == "train":
        train(chosen.data, chosen.out, chosen.device, chosen.toy, chosen.minutes, chosen.steps, chosen.after)
    elif chosen.stage == "sample":
        sample(chosen.model, chosen.num, chosen.out, chosen.device, chosen.seed)
    elif chosen.stage == "screen":
        screen(chosen.source, chosen.data, chosen.out, chosen.num)
    elif chosen.stage == "relax":
        relaxed(chosen.source, chosen.out, chosen.device, chosen.processes)
    elif chosen.stage == "page":
        page(chosen.out, chosen.judged)
    elif chosen.stage == "judge":
        judge(chosen.source, chosen.data, chosen.out, chosen.device, chosen.processes, chosen.finetuned_on)
    else:
        refine(
            chosen.model, chosen.lessons, chosen.replay, chosen.out, chosen.device, chosen.steps, chosen.after
        )


if __name__ == "__main__":
    main()
