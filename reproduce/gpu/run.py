"""A generator trained, drawn from, refined and judged within minutes of one GPU.

    python reproduce/gpu/run.py measure --data FOLDER --out OUT
    python reproduce/gpu/run.py train   --data FOLDER --out OUT --minutes 3
    python reproduce/gpu/run.py jepa    PACKED.parquet --out OUT/jepa.safetensors --minutes 3 --large
    python reproduce/gpu/run.py sample  --model OUT/flow.safetensors --num 20000 --out OUT/flow.parquet
    python reproduce/gpu/run.py rounds  --model OUT/flow.safetensors --data FOLDER --out OUT/rounds \\
        --num 20000 12000 12000 --keep 3000 --steps 500
    python reproduce/gpu/run.py sample  --model OUT/rounds/round-3/generator.safetensors --num 5000 \\
        --out OUT/refined.parquet
    python reproduce/gpu/run.py relax   OUT/refined.parquet --out OUT/refined.shards --processes 14
    python reproduce/gpu/run.py judge   OUT/refined.parquet --data FOLDER --out OUT/refined \\
        --finetuned-on OUT/rounds/round-3/finetuning_set.parquet
    python reproduce/gpu/run.py page    OUT/refined --out OUT

FOLDER holds mp20_bt.parquet, mpts52.parquet and mp20_hull.parquet. ``measure`` gives the speed of training
and sampling at the paper's sizes and at a quarter of them, beside what the chip can do. ``train`` first times
some steps and then takes as many as fit into the minutes; it goes on from its state when it was killed. Each
of the ``rounds`` draws, keeps the best by Crys-JEPA and trains on with all that was kept, and with known
crystals: those of ``crysjepa discover``, in a run directory, which go on where they stood. ``relax`` does so
under the preset ``strict``, in batches on the GPU, and keeps finished chunks: it can be stopped on one
machine, and ``judge`` goes on from there on another. ``jepa`` trains as ``train`` does, on a table that
``data/jepa_data.py`` and ``data/jepa_teacher.py`` made. ``--device cpu --toy`` tries all of it with toy
networks; how much is drawn and learnt from is for the numbers to say.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from page import page
from rounds import Plan, rounds
from shared import Clock, keep, keep_model, keep_time, say, wait
from speed import measure

from crysjepa import api, datasets
from crysjepa.datasets.training_tables import generator_crystals
from crysjepa.evaluation.protocol import Protocol, preset
from crysjepa.generators.constraints import Constraints
from crysjepa.generators.flow.generator import FlowGenerator, settle_all
from crysjepa.generators.flow.paths import FlowConfig
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import SMALL as SMALL_JEPA
from crysjepa.jepa.network import JepaConfig
from crysjepa.jepa.packed import pretrain_packed
from crysjepa.nn.training import TrainSettings
from crysjepa.relaxation.relax import default_workers, relax_crystals
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.threads import default_processes

FLOW = FlowConfig(InvariantConfig(layers=6, width=224, channels=28, degrees=(192, 72, 72, 40), hidden=320))
"""Some four times the parameters of the flow that a laptop trains."""
TOY = FlowConfig(InvariantConfig(layers=2, width=32, channels=8, degrees=(16, 8, 8, 8), hidden=32))
LARGE_JEPA = JepaConfig(
    InvariantConfig(layers=4, width=256, channels=32, degrees=(224, 80, 80, 48), hidden=320),
    SMALL_JEPA.objective,
)
TRAINING = TrainSettings(
    batch_size=2048, learning_rate=2e-3, warmup=300, ema_decay=0.999, checkpoint_every=1000, record_every=100
)
EMBEDDING = TrainSettings(
    batch_size=1024, warmup=300, final_learning_rate=0.005, precision="32-true", checkpoint_every=1000,
    record_every=100,
)  # fmt: skip
PILOT = 150
"""Steps that are timed before the number of steps is chosen."""


def tables(data: Path) -> list[Path]:
    """What generators learn from."""
    return [data / "mp20_bt.parquet", data / "mpts52.parquet"]


def train(
    data: Path, out: Path, device: str, toy: bool, minutes: float, wanted: int | None, after: Path | None
) -> None:
    """The flow, for so many minutes, or for so many steps."""
    crystals = generator_crystals(tables(data)[: 1 if toy else 2])
    if toy:
        crystals = crystals[:200]
    config = TOY if toy else FLOW
    settings = TRAINING.model_copy(update={"batch_size": 32} if toy else {})
    settled = settle_all(crystals, symmetric=config.symmetric)
    say(f"{len(crystals)} crystals")

    def fit(settings: TrainSettings, progress: Progress, state: Path | None = None) -> Any:
        return FlowGenerator.train(
            crystals, config, settings, settled=settled, device=device, state=state, progress=progress
        )

    wait(after)
    settings = _within(minutes, wanted, settings, fit, out / "steps.json", toy)
    generator, training = fit(settings, _tell, out / "flow.state")
    names = [p.name for p in tables(data)]
    keep_model(generator, training, out / "flow.safetensors", len(crystals), names, device)
    say(f"trained in {training.seconds:.0f} s: {training.curve[-1]}")


def train_embedding(
    table: Path, out: Path, device: str, toy: bool, minutes: float, wanted: int | None, peak: float,
    init: Path | None, large: bool,
) -> None:  # fmt: skip
    """Crys-JEPA, for so many minutes, or for so many steps, on what ``data/jepa_data.py pack`` made."""
    config = LARGE_JEPA if large and not toy else SMALL_JEPA
    settings = EMBEDDING.model_copy(update={"learning_rate": peak} | ({"batch_size": 32} if toy else {}))

    def fit(settings: TrainSettings, progress: Progress, state: Path | None = None) -> Any:
        starting = CrysJepa.load(init) if init else None
        return pretrain_packed(
            table, config, settings, init=starting, device=device, state=state, progress=progress
        )

    settings = _within(minutes, wanted, settings, fit, out.with_suffix(".steps.json"), toy)
    model, training = fit(settings, _tell, out.with_name(f"{out.name}.state"))
    keep_model(model, training, out, pq.read_metadata(table).num_rows, [table.name], device)
    say(f"{out} is trained")


def _within(
    minutes: float, wanted: int | None, settings: TrainSettings, fit: Any, kept: Path, toy: bool
) -> TrainSettings:
    """Settings with as many steps as fit into the minutes, which a file remembers; or with those wanted."""
    if wanted is not None:
        keep(kept, {"steps": wanted})
    if not kept.exists():
        steps = 20 if toy else PILOT
        clock = Clock(steps // 2)
        fit(settings.model_copy(update={"steps": steps}), clock)
        ms = 1000 * clock.seconds / clock.steps
        keep(kept, {"steps": max(1, int(60000 * minutes / ms)), "ms_a_step": ms})
    found = json.loads(kept.read_text(encoding="utf-8"))
    say(f"{found['steps']} steps, as {kept} has it")
    return settings.model_copy(update={"steps": found["steps"]})


def _tell(done: int, total: int) -> None:
    if done % 1000 == 0:
        say(f"{done} of {total} steps")


def sample(
    model: Path, num: int, out: Path, device: str, seed: int, processes: int | None, distinct: bool
) -> None:
    """Crystals as Parquet."""
    started, processes = time.perf_counter(), processes or default_processes(device)
    done = api.generate(
        num, out, generator=model, seed=seed, device=device, processes=processes,
        constraints=Constraints(distinct=distinct),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    keep_time(out, num, seconds, processes, device)
    say(f"{num} drawn in {seconds:.0f} s: {done.counts()}")


def relaxed(source: Path, shards: Path, device: str, processes: int | None) -> None:
    """Relax under the preset ``strict``, finished chunks into a folder."""
    table = datasets.load(str(source))
    started, last = time.perf_counter(), [0.0]
    found: list[int] = []  # how many are done after each chunk; the first, those of an earlier run

    def report(done: int, total: int) -> None:
        found.append(done)
        if time.perf_counter() - last[0] > 5 or done == total:
            last[0] = time.perf_counter()
            say(f"{source.stem}: relaxed {done} of {total}, {time.perf_counter() - started:.0f} s")

    processes = processes or default_workers(device)
    relax_crystals(
        table.crystals(table.ok_ids), settings=strict().relaxation, device=device, processes=processes,
        shards=shards, progress=report,
    )  # fmt: skip
    if new := found[-1] - found[0]:
        keep_time(shards, new, time.perf_counter() - started, processes, device)


def strict() -> Protocol:
    """The preset, in the chunks of a GPU wherever it goes on."""
    found = preset("strict")
    return found.model_copy(update={"relaxation": found.relaxation.on("cuda")})


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


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(dest="stage", required=True)
    names = ("measure", "train", "jepa", "sample", "rounds", "relax", "judge", "page")
    measuring, training, embedding, sampling, refining, relaxing, judging, telling = map(
        stages.add_parser, names
    )
    for stage in (measuring, training, refining, judging):
        stage.add_argument("--data", type=Path, required=True)
    for stage in (training, embedding):
        stage.add_argument("--minutes", type=float, default=3.0)
        stage.add_argument("--steps", type=int, help="instead of as many as fit into the minutes")
    embedding.add_argument("table", type=Path)
    embedding.add_argument("--init", type=Path, help="to go on from; its size is the size")
    embedding.add_argument("--large", action="store_true")
    embedding.add_argument("--peak", type=float, default=3e-3, help="learning rate; default: %(default)s")
    for stage in (training, refining):
        stage.add_argument("--after", type=Path, help="wait for this file before the GPU is used")
    for stage in (sampling, refining):
        stage.add_argument("--model", type=Path, required=True)
    sampling.add_argument("--num", type=int, default=20_000)
    sampling.add_argument("--seed", type=int, default=0)
    sampling.add_argument("--distinct", action="store_true", help="no formula twice")
    refining.add_argument("--num", type=int, nargs="+", default=[20_000], help="drawn in each round")
    refining.add_argument("--keep", type=int, default=3000, help="of them, in each round")
    refining.add_argument("--by", default="jepa-hull", help="ranker; default: %(default)s")
    refining.add_argument("--drift", type=float, default=1.0, help="of elements; default: %(default)s")
    refining.add_argument("--beside", type=Path, nargs="*", default=[], help="crystals to learn beside them")
    refining.add_argument("--replay", type=int, default=6000, help="known crystals to learn beside them")
    refining.add_argument("--steps", type=int, default=500, help="in each round")
    for stage in (relaxing, judging):
        stage.add_argument("source", type=Path)
    for stage in (sampling, refining, relaxing, judging):
        stage.add_argument("--processes", type=int, help="on a GPU too, which one process does not fill")
    judging.add_argument("--finetuned-on", type=Path)
    telling.add_argument("judged", type=Path, nargs="*")
    for stage in stages.choices.values():
        stage.add_argument("--out", type=Path, required=True)
        stage.add_argument("--device", default="cuda")
        stage.add_argument("--toy", action="store_true", help="as small as it gets")
    args = parser.parse_args()
    if args.stage == "measure":
        crystals = generator_crystals(tables(args.data)[:1])
        measure(crystals[:300] if args.toy else crystals, args.out, args.device, args.toy)
    elif args.stage == "train":
        train(args.data, args.out, args.device, args.toy, args.minutes, args.steps, args.after)
    elif args.stage == "jepa":
        train_embedding(
            args.table, args.out, args.device, args.toy, args.minutes, args.steps, args.peak, args.init,
            args.large,
        )  # fmt: skip
    elif args.stage == "sample":
        sample(args.model, args.num, args.out, args.device, args.seed, args.processes, args.distinct)
    elif args.stage == "rounds":
        wait(args.after)
        plan = Plan(args.num, args.keep, args.by, args.drift, args.replay, args.steps)
        known = tables(args.data)
        rounds(plan, args.model, args.data, known, args.beside, args.out, args.device, args.processes)
    elif args.stage == "relax":
        relaxed(args.source, args.out, args.device, args.processes)
    elif args.stage == "judge":
        judge(args.source, args.data, args.out, args.device, args.processes, args.finetuned_on)
    else:
        page(args.out, args.judged)


if __name__ == "__main__":
    main()
