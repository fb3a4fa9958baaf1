"""Compare sources of candidates before any screening: one run, one table.

    python benchmarks/generators.py --data FOLDER --out FOLDER
    python benchmarks/generators.py --data FOLDER --out FOLDER --num 10 --relax 5    # to try it out

The flow that ships, with its own steps of sampling and with 256, the paper's diffusion model at a laptop's
size (or --checkpoint NAME=PATH, as often as wanted), substitution into --parents, and DiffCSP's crystals as
the peer. Of --num crystals each: valid, unique, novel against --reference, crystals a second. Of the first
--relax of them, relaxed with CHGNet: stable against mp20_hull, V.S.U.N., and how many have a prototype that
is new to the reference. FOLDER holds mp20_bt.parquet, mp20_hull.parquet and
peers/diffcsp_mp20_first2000.parquet (see benchmarks/README.md). Into --out go generators.json and
generators.md, the crystals and their judgements: a run that was killed goes on from there. Seconds are of
drawing alone, without loading; those of a peer's file are not known. With --speed N, the flow's shortcuts
are measured as well, on one core: steps of sampling against quality (N crystals each), and training of
orbits against training of sites.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from generation.speed import PLAIN_STEPS, draw_steps, measure_speed, speed_page
from progress import say

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.run import evaluate_crystals
from crysjepa.generators.base import Generator
from crysjepa.generators.constraints import Constraints, element_shares
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.from_file import FileGenerator
from crysjepa.generators.registry import GeneratorOptions, make_generator
from crysjepa.generators.sampling import draw, drift
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.generators.substitution.proposals import SubstitutionConfig
from crysjepa.report.style import save_figure
from crysjepa.report.wording import rate_with_interval
from crysjepa.runtime.files import (
    file_hash,
    read_json,
    write_json,
    write_text,
)
from crysjepa.weights import shipped

SEED = 7
FLOW = shipped("generator")
LANTHANIDES = np.arange(57, 72)


@dataclass(frozen=True)
class Source:
    """One line of the table: what it is called, what its crystals depend on, and where they come from."""

    name: str
    key: Mapping[str, Any]
    kind: str | Path
    options: GeneratorOptions
    constraints: Constraints
    timed: bool = True
    steps: int | None = None

    def load(self) -> Generator:
        """The generator; a flow that samples in ``steps``."""
        generator = make_generator(self.kind, self.options)
        if self.steps is not None and isinstance(generator, FlowGenerator):
            generator.steps = self.steps
        return generator


def sources(args: argparse.Namespace) -> list[Source]:
    """What is compared: the peer's crystals as they come, ours without the elements excluded by default."""
    found = []
    anything = Constraints(excluded=frozenset())
    checkpoints = {"flow": FLOW, "DDPM": shipped("ddpm")} | {
        name: Path(path) for name, _, path in (text.partition("=") for text in args.checkpoint)
    }
    for name, path in checkpoints.items():
        if not path.exists():
            sys.exit(f"no weights at {path}: name another with --checkpoint {name}=PATH")
        key: dict[str, Any] = {"weights": file_hash(path)}
        found.append(Source(name, key, path, GeneratorOptions(), Constraints()))
        if name == "flow":
            slow = f"flow, {PLAIN_STEPS} steps"
            key = {**key, "steps": PLAIN_STEPS}
            found.append(Source(slow, key, path, GeneratorOptions(), Constraints(), steps=PLAIN_STEPS))
    parents = args.parents or args.data / "mp20_bt.parquet"
    bold = SubstitutionConfig(**({} if args.temperature is None else {"temperature": args.temperature}))
    key = {"parents": file_hash(parents) if Path(parents).is_file() else str(parents), **asdict(bold)}
    options = GeneratorOptions(parents=parents, substitution=bold)
    found.append(Source("substitution", key, "substitution", options, Constraints()))
    peer = args.data / "peers" / "diffcsp_mp20_first2000.parquet"
    if peer.exists():
        found.append(
            Source("DiffCSP", {"file": file_hash(peer)}, peer, GeneratorOptions(), anything, timed=False)
        )
    return found


def drawn(source: Source, args: argparse.Namespace) -> tuple[CandidateTable, dict[str, Any]]:
    """The crystals of one source and how they were drawn, kept in ``--out``."""
    key = {**source.key, "num": args.num, "seed": SEED}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:12]
    folder = args.out / f"{source.name.replace(', ', '-').replace(' ', '-')}-{digest}"
    path, about = folder / "crystals.parquet", folder / "drawn.json"
    if not (path.exists() and about.exists()):
        say(f"{source.name}: draw {args.num}")
        generator = source.load()
        if source.timed:  # tables that are read and code that is compiled once are not what is measured
            draw(generator, min(2, args.num), source.constraints, seed=SEED + 1, device=args.device)
        start = time.perf_counter()
        samples = draw(
            generator,
            args.num,
            source.constraints,
            seed=SEED,
            device=args.device,
            processes=args.processes,
        )
        seconds = time.perf_counter() - start
        order = [f"gen-{i}" for i in range(args.num)]
        CandidateTable.from_crystals(samples.crystals, samples.failures, stage="generate", order=order).write(
            path
        )
        shares = element_shares(samples.crystals)
        systems = samples.crystals.chemical_systems()
        parents = generator.parents.crystals if isinstance(generator, SubstitutionGenerator) else None
        found = {
            "seconds": seconds if source.timed and not isinstance(generator, FileGenerator) else None,
            "processes": args.processes,
            "asked": samples.counts.asked,
            "drawn": samples.counts.drawn,
            "rejected": dict(samples.counts.rejected),
            "notes": list(samples.counts.notes),
            "drift": drift(samples, generator, source.constraints),
            "chemical_systems": len(set(systems)),
            "elements": int((shares > 0).sum()),
            "lanthanides": with_lanthanides(samples.crystals),
            "lanthanides_of_parents": None if parents is None else with_lanthanides(parents),
        }
        write_json(about, found)
    return CandidateTable.read(path), {"folder": folder, **read_json(about)}


def with_lanthanides(crystals: Crystals) -> float:
    """Share of the crystals that hold a lanthanide."""
    parts = np.split(crystals.atomic_numbers, crystals.offsets[1:-1]) if len(crystals) else []
    return float(np.mean([np.isin(part, LANTHANIDES).any() for part in parts])) if parts else 0.0


def judged(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    """All numbers of one source."""
    table, about = drawn(source, args)
    folder: Path = about.pop("folder")
    reference = str(args.reference or args.data / "mp20_bt.parquet")
    say(f"{source.name}: judge {len(table)} as they are")
    plain = evaluate_crystals(
        table,
        reference=reference,
        hull=None,
        out=folder / "as-drawn",
        protocol=Protocol(relax=False),
        processes=args.processes,
    )
    first = CandidateTable(table.frame.iloc[: args.relax].reset_index(drop=True))
    say(f"{source.name}: relax and judge {len(first)}")
    relaxed = evaluate_crystals(
        first,
        reference=reference,
        hull=str(args.hull or args.data / "mp20_hull.parquet"),
        out=folder / "relaxed",
        protocol=Protocol(prototypes=True),
        device=args.device,
        processes=args.processes,
        progress=report(source.name),
    )
    return {"name": source.name, **about, "as_drawn": plain, "relaxed": relaxed}


COLUMNS = ("valid", "unique", "novel")
RELAXED = ("stable", "vsun", "vsun_at_0", "new_prototype")
HEAD = (
    "source", "V", "U", "N", "crystals a second (processes)", "drawn again", "chemical systems",
    "with lanthanides", "relaxed", "S", "V.S.U.N.", "V.S.U.N. on the hull", "new prototypes",
)  # fmt: skip


def page(results: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The table, and what it is relative to."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for r in results:
        again = sum(r["rejected"].values())
        cells = [
            r["name"],
            *(rate_with_interval(r["as_drawn"], name) for name in COLUMNS),
            "–" if r["seconds"] is None else f"{r['asked'] / r['seconds']:.3g} ({r['processes']})",
            f"{again} ({100 * again / max(r['drawn'], 1):.0f} %)",
            f"{r['chemical_systems']}",
            f"{100 * r['lanthanides']:.0f} %"
            + (f" (parents: {100 * before:.0f} %)" if (before := r["lanthanides_of_parents"]) else ""),
            str(r["relaxed"]["num_crystals"]),
            *(rate_with_interval(r["relaxed"], name) for name in RELAXED),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [
        "",
        f"V, U, N and crystals a second are of {args.num} crystals as they were drawn, S and what follows of "
        f"the first {args.relax} after relaxation ({results[0]['relaxed']['protocol']['force_field']}, "
        f"at most {results[0]['relaxed']['protocol']['e_above_hull_max']} eV/atom above the hull). "
        "Rates in percent; in brackets, Wilson intervals of 95 %. "
        f"On {args.device}; nothing else should run where crystals a second count.",
    ]
    notes += [f"\n{r['name']}: {line}." for r in results for line in [*r["notes"], *r["drift"]]]
    return "\n".join(lines + notes) + "\n"


def report(name: str) -> Any:
    """Progress of one source, in tenths."""
    last: dict[str, int] = {}

    def tell(stage: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if last.get(stage) != tenth:
            last[stage] = tenth
            say(f"{name}: {stage} {done} of {total}")

    return tell


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("generators"), help="default: %(default)s")
    parser.add_argument("--num", type=int, default=1000, help="crystals of each; default: %(default)s")
    parser.add_argument("--relax", type=int, default=200, help="of them relaxed; default: %(default)s")
    parser.add_argument(
        "--checkpoint", action="append", default=[], metavar="NAME=PATH",
        help="another generator's weights, as often as wanted; flow=PATH replaces the shipped one",
    )  # fmt: skip
    parser.add_argument("--parents", help="of substitution; by default mp20_bt.parquet")
    parser.add_argument("--temperature", type=float, help="of substitution")
    parser.add_argument("--reference", help="novelty is against it; by default mp20_bt.parquet")
    parser.add_argument("--hull", help="by default mp20_hull.parquet")
    parser.add_argument("--only", action="append", default=[], help="only the sources of this name")
    parser.add_argument(
        "--processes", type=int, default=1, help="of drawing and judging; default: %(default)s"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--speed", type=int, default=0, help="crystals for each number of steps; 0: none")
    args = parser.parse_args()
    if any("=" not in text for text in args.checkpoint):
        parser.error("--checkpoint takes NAME=PATH")
    chosen = [s for s in sources(args) if not args.only or s.name in args.only]
    if not chosen:
        parser.error("--only names none of the sources")
    results = [judged(source, args) for source in chosen]
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"seed": SEED, "num": args.num, "sources": results}
    text = page(results, args)
    if args.speed:
        say("the flow's shortcuts")
        found["speed"] = measure_speed(
            FlowGenerator.load(Path(dict(c.split("=", 1) for c in args.checkpoint).get("flow", FLOW))),
            args.speed,
            reference=str(args.reference or args.data / "mp20_bt.parquet"),
            hull=str(args.hull or args.data / "mp20_hull.parquet"),
            seed=SEED,
            say=say,
        )
        text += "\n" + speed_page(found["speed"])
        save_figure(draw_steps(found["speed"]), args.out / "generators.svg")
    write_json(args.out / "generators.json", found)
    write_text(args.out / "generators.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
