"""Force fields against DFT: formation energies and energies above hull of known crystals.

    python benchmarks/energies.py --data FOLDER --out FOLDER --force-field chgnet --force-field sevennet-l3i5
    python benchmarks/energies.py --data FOLDER --out FOLDER --num 30 --fit 400    # to try it out

Of --num crystals of mp20_bt (in FOLDER, with mp20_hull), as DFT left them: each force field's formation
energy against the Materials Project's, and how often both say the same of being within 0.1 eV/atom of the
hull. Elemental references are fitted on --fit other crystals of mp20_bt, with the corrections of 2020 added
to force fields that were trained without, and, to see what these do, without them; or they are the force
field's own energies of elemental crystals. Into --out go energies.json and energies.md, and the energies
that were computed: a run that was killed goes on from there, and a force field that needs another
environment is added by a call from there, with the same --out.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from progress import say, tenths

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import corrections_by
from crysjepa.energy.elemental_references import (
    MP2020,
    ElementalReferences,
    fit_references,
    load_references,
)
from crysjepa.energy.hull import ASSUMED_SCALE, Hull
from crysjepa.energy.limits import within
from crysjepa.evaluation.force_field_hull import AS_THEY_ARE, computed_references, elemental_crystals
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.evaluation.reference import PLAIN_SCALE
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import Relaxation, relax_crystals
from crysjepa.runtime.files import (
    file_hash,
    read_json,
    write_json,
    write_text,
)
from crysjepa.runtime.threads import default_processes

SEED = 11
LIMIT = 0.1
"""eV/atom above the hull."""
MIN_COUNT = 15
"""Crystals in which an element must be for its bias to be told."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("energies"), help="default: %(default)s")
    parser.add_argument("--num", type=int, default=1000, help="crystals; default: %(default)s")
    parser.add_argument(
        "--fit", type=int, default=1000, help="others for the references; default: %(default)s"
    )
    parser.add_argument(
        "--force-field", action="append", default=[], help="as often as wanted; default: chgnet"
    )
    parser.add_argument("--processes", type=int, default=default_processes("cpu"))
    args = parser.parse_args()
    table = datasets.load(str(args.data / "mp20_bt.parquet"))
    ids = sorted(table.ok_ids)
    order = np.random.default_rng(SEED).permutation(len(ids))[: args.num + args.fit]
    judged, others = order[: args.num], order[args.num :]
    known = {
        name: table.crystals([ids[i] for i in sorted(rows)])
        for name, rows in (("judged", judged), ("fit", others))
    }
    labels = {
        name: (
            np.array(table.column("formation_energy_per_atom", crystals.ids), dtype=float),
            np.array(table.column("e_above_hull", crystals.ids), dtype=float),
        )
        for name, crystals in known.items()
    }
    hull = Hull.read(args.data / "mp20_hull.parquet")
    heights = np.array([hull.energy(c) for c in known["judged"].compositions()], dtype=float)
    path = args.out / "energies.json"
    known_hash = file_hash(args.data / "mp20_bt.parquet")
    about = {"num": args.num, "fit": args.fit, "hull": hull.content_hash, "crystals": known_hash}
    results = read_json(path) if path.exists() else {**about, "force_fields": {}}
    if any(results.get(k) != v for k, v in about.items()):
        sys.exit(f"{path} is of other crystals or numbers of them: name another --out")
    results["dft"] = against(*labels["judged"], labels["judged"][0], heights)
    for name in args.force_field or ["chgnet"]:
        results["force_fields"][name] = measure(name, known, labels, heights, args)
        write_json(path, results)
        write_text(args.out / "energies.md", page(results))
    sys.stdout.write(page(results))


def measure(
    name: str,
    known: dict[str, Crystals],
    labels: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    heights: NDArray[np.float64],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Everything about one force field."""
    info = force_field_info(name)
    energies, rates = {}, {}
    for part, crystals in known.items():
        start = time.perf_counter()
        done = static(name, crystals, part, args)
        seconds = [s for s in done.seconds().values() if s is not None]
        rates[part] = len(seconds) / sum(seconds) if seconds else None
        energies[part] = of(done, crystals)
        say(f"{name}: {part}, {time.perf_counter() - start:.0f} s, {len(done.failures)} without an energy")
    added = {
        part: corrections_by(MP2020 if info.scale == PLAIN_SCALE else None, c) for part, c in known.items()
    }
    dft, above = labels["judged"]
    totals = energies["judged"]
    fitted = {
        c: fit_references(
            known["fit"].compositions(), list(energies["fit"] + (added["fit"] if c else 0)),
            list(labels["fit"][0]), force_field=name, scale=ASSUMED_SCALE, source="mp20_bt", corrections=c,
        )
        for c in ([None] if info.scale != PLAIN_SCALE else [MP2020, None])
    }  # fmt: skip
    ways = {f"fitted, {c or 'nothing added'}": references for c, references in fitted.items()}
    try:
        ways["shipped"] = load_references(name, ASSUMED_SCALE)
    except FileNotFoundError:
        say(f"{name}: no references ship for it")
    ways["own elements"] = computed_references(
        static(name, elemental_crystals(known["judged"]), "elements", args),
        MP2020 if info.scale == PLAIN_SCALE else None,
    )
    numbers = {}
    for way, references in ways.items():
        extra = added["judged"] if references.corrections else 0.0
        found = formation(known["judged"], totals + extra, references)
        numbers[way] = against(dft, above, found, heights)
        if way == next(iter(ways)):
            numbers[way] |= details(known["judged"], found - dft)
    return {
        "version": info.version,
        "scale": info.scale,
        "crystals_a_second": rates["judged"],
        "ways": numbers,
    }


def static(name: str, crystals: Crystals, part: str, args: argparse.Namespace) -> Relaxation:
    """Energies of crystals as they are, kept in ``--out``."""
    return relax_crystals(
        crystals, force_field=name, settings=AS_THEY_ARE, processes=args.processes,
        shards=args.out / "computed" / name.replace("/", "-"), progress=tenths(f"{name}: {part}"),
    )  # fmt: skip


def of(done: Relaxation, crystals: Crystals) -> NDArray[np.float64]:
    """Energies (eV/atom) in the order of the crystals, NaN where there is none."""
    found = {i: r.energy_per_atom for i, r in done.records.items() if i not in done.failures}
    return np.array([found.get(i, np.nan) for i in crystals.ids])


def formation(
    crystals: Crystals, totals: NDArray[np.float64], references: ElementalReferences
) -> NDArray[np.float64]:
    """Formation energies in eV/atom, NaN where there is none."""
    found = (
        references.formation_energy_per_atom(c, e)[0]
        for c, e in zip(crystals.compositions(), totals, strict=True)
    )
    return np.array([np.nan if e is None else e for e in found])


def against(
    dft: NDArray[np.float64],
    above: NDArray[np.float64],
    found: NDArray[np.float64],
    heights: NDArray[np.float64],
) -> dict[str, Any]:
    """Errors against DFT, and how often both agree on being near the hull; no energy is no agreement."""
    error = found - dft
    own = found - heights
    agree = within(own, LIMIT) == within(above, LIMIT)
    agree &= np.isfinite(found)
    return {
        "num": len(dft),
        "num_without": int((~np.isfinite(found)).sum()),
        "mae": float(np.nanmean(np.abs(error))),
        "bias": float(np.nanmean(error)),
        "median_absolute": float(np.nanmedian(np.abs(error))),
        "mae_above_hull": float(np.nanmean(np.abs(own - above))),
        "agree": int(agree.sum()),
        "dft_within": int(within(above, LIMIT).sum()),
    }


def details(crystals: Crystals, error: NDArray[np.float64]) -> dict[str, Any]:
    """Bias by element, and the worst cases."""
    by_element: dict[str, list[float]] = {}
    for composition, e in zip(crystals.compositions(), error, strict=True):
        for element in composition.elements:
            if np.isfinite(e):
                by_element.setdefault(element.symbol, []).append(float(e))
    bias = {k: (float(np.mean(v)), len(v)) for k, v in by_element.items() if len(v) >= MIN_COUNT}
    worst = np.argsort(-np.abs(np.nan_to_num(error)))[:8]
    formulas = crystals.reduced_formulas()
    return {
        "bias_by_element": dict(sorted(bias.items(), key=lambda kv: -abs(kv[1][0]))[:8]),
        "worst": [(crystals.ids[i], formulas[i], float(error[i])) for i in worst],
    }


def page(results: dict[str, Any]) -> str:
    """A table, then for each force field where it is off."""
    lines = [
        "`python benchmarks/energies.py --data FOLDER --out FOLDER --force-field NAME …`",
        "",
        "| force field | elemental references | MAE of E_f (meV/atom) | bias | MAE above hull "
        f"| agree at {LIMIT} eV/atom | without an energy |",
        "|---" * 7 + "|",
        row("DFT itself", "–", results["dft"]),
    ]
    for name, found in results["force_fields"].items():
        lines += [row(f"{name} {found['version']}", way, n) for way, n in found["ways"].items()]
    near = results["dft"]["dft_within"]
    lines += [
        "",
        f"{results['num']} crystals of MP-20 as DFT left them, against the Materials Project's formation "
        f"energies and energies above hull, by which {near} are within {LIMIT} eV/atom. In brackets: Wilson "
        "intervals of 95 %. Energies above hull are against the compounds of MP-20 near the hull; what that "
        f"alone costs is in the first row. Fitted: on {results['fit']} other crystals; MP2020: with the "
        "corrections of 2020 added; own elements: the force field's energies of elemental crystals as they "
        "are. Errors are of the crystals that have an energy; one without agrees with nothing.",
    ]
    for name, found in results["force_fields"].items():
        first = next(iter(found["ways"].values()))
        bias = ", ".join(f"{e} {1000 * b:+.0f} ({n})" for e, (b, n) in first["bias_by_element"].items())
        worst = ", ".join(f"{formula} ({id_}) {1000 * e:+.0f}" for id_, formula, e in first["worst"])
        lines += [
            "",
            f"{name}, meV/atom: largest bias by element (crystals with it) {bias}; worst {worst}.",
        ]
        if found["crystals_a_second"]:
            lines[-1] += f" {found['crystals_a_second']:.1f} crystals a second of one core, with forces."
    return "\n".join(lines) + "\n"


def row(name: str, way: str, n: dict[str, Any]) -> str:
    """A line of the table."""
    low, high = wilson_interval(n["agree"], n["num"])
    share = f"{100 * n['agree'] / n['num']:.1f} % ({100 * low:.1f}–{100 * high:.1f})"
    errors = f"{1000 * n['mae']:.0f} | {1000 * n['bias']:+.0f} | {1000 * n['mae_above_hull']:.0f}"
    return f"| {name} | {way} | {errors} | {share} | {n['num_without']} |"


if __name__ == "__main__":
    main()
