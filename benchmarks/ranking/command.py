"""The benchmark from data to page: every part in turn, each kept on disk as soon as it is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import system_names
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.registry import RankerContext
from crysjepa.report.style import save_figure
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.run_directory import versions
from ranking.data import SCALE, Labelled, evenly, read_hull, read_known, read_wbm, split_valid
from ranking.distances import References, variant_scores
from ranking.figure import draw_figure
from ranking.fingerprints import fingerprint_bench
from ranking.metrics import Ranked, judge_rankings, perfect_found, stable
from ranking.page import write_page
from ranking.relaxed import (
    FORCE_FIELD,
    SETTINGS,
    draw_sets,
    labelled_sets,
    make_labels,
    read_labels,
    write_labels,
)
from ranking.scales import refitted, scheme_shift
from ranking.scoring import Bench, Scores, installed_force_fields, say, with_fitted_references
from ranking.store import RANKING, Store, code_hash
from ranking.timing import FULL, QUICK, measure

Floats = NDArray[np.float64]

LIMITS = (0.1, 0.0)
"""eV/atom above the hull: what counts as stable."""
BEST = (0.01, 0.05, 0.1)
RELAXED = (0.1, 0.2, 0.5)
BASELINES = ("chgnet", "composition")
ENERGIES = ("jepa-hull", "jepa-relaxed", "composition", "chgnet")
"""Rankings in eV/atom above the hull, whose elemental references can be fitted."""
GRID = np.linspace(0.0, 1.0, 201)
QUICK_WBM, QUICK_GENERATED = 500, 100
SUBSET, QUICK_SUBSET = 250, 100
"""Crystals of WBM for the slow: fingerprints, and force fields beside CHGNet."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    data: Path
    out: Path
    labels: Path
    jepa: Path | None = None
    generator: Path | None = None
    quick: bool = False
    threads: int = 1
    first: int | None = None


@dataclass(frozen=True)
class Inputs:
    """What all parts share."""

    options: Options
    store: Store
    known: Labelled
    hull: Hull
    wbm: Labelled
    context: RankerContext

    @classmethod
    def read(cls, options: Options) -> Inputs:
        """Read the data. Raises OSError or ValueError where a file is missing or is something else."""
        known, hull, wbm = read_known(options.data), read_hull(options.data), read_wbm(options.data)
        index = options.out / "index" / code_hash(RANKING)[:16]  # so that preparing it is always measured
        index.mkdir(parents=True, exist_ok=True)
        context = RankerContext(
            known.crystals,
            known.formation_energies,
            scale=SCALE,
            hull=hull,
            jepa=options.jepa,
            index=index,
        )
        if options.quick:
            wbm = wbm[evenly(len(wbm.crystals), QUICK_WBM)]
        return cls(options, Store(options.out / "kept"), known, hull, wbm, context)


def run_benchmark(options: Options) -> dict[str, Any]:
    """All of it; returns what ``screening.json`` holds."""
    torch.set_num_threads(options.threads)
    inputs = Inputs.read(options)
    bench = Bench.set_up(inputs.context, inputs.store)
    generated, invalid = _generated(inputs)
    slow_rows = evenly(len(inputs.wbm.crystals), QUICK_SUBSET if options.quick else SUBSET)
    slow = _slow_benches(inputs, inputs.wbm.crystals[slow_rows])
    results: dict[str, Any] = {
        "quick": options.quick,
        "versions": versions(),
        "jepa": {"origin": bench.context.model.origin, "hash": bench.context.model.content_hash},
        "data": {"known": len(inputs.known.crystals), "hull": len(inputs.hull)},
        "rankers": _about([bench, *slow]),
        "missing": {n: why for b in (bench, *slow) for n, why in b.missing.items()},
    }
    results["wbm"], results["wbm_subset"] = _on_wbm(inputs, bench, slow, slow_rows)
    results["wbm_one_scale"], results["wbm_refitted"] = _on_one_scale(inputs, bench)
    results["distances"] = _distances(inputs, bench)
    results["relaxed"] = _before_relaxation(inputs, bench, generated, invalid)
    scored = bench.score("chgnet", generated["DiffCSP"], "DiffCSP").values
    timed = generated["DiffCSP"][np.isfinite(scored)]
    results["timing"] = measure([bench, *slow], timed, QUICK if options.quick else FULL, inputs.store)
    write_json(options.out / "screening.json", results)
    results = read_json(options.out / "screening.json")
    save_figure(draw_figure(results), options.out / "screening.svg")
    write_page(results, options.out / "screening.md")
    return results


def relabel_sets(options: Options) -> None:
    """Relax the generated crystals and write the labels."""
    torch.set_num_threads(1)  # the workers are processes
    store = Store(options.out / "kept")
    sets = draw_sets(options.data, options.generator, store)
    if options.first is not None:
        sets = {name: crystals[: options.first] for name, crystals in sets.items()}
    table = make_labels(sets, read_hull(options.data), options.out / "relax", options.threads)
    write_labels(options.labels, table)
    say(f"{options.labels}: {table.num_rows} crystals")


# -- parts -----------------------------------------------------------------------------------------


def _on_wbm(
    inputs: Inputs, bench: Bench, slow: Sequence[Bench], rows: NDArray[np.int64]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """All but the slow on everything; and all on a part of it, if there is any that is slow."""
    wbm = inputs.wbm
    scores = bench.score_all(wbm.crystals, "wbm")
    whole = judge_set(scores, wbm.e_above_hull, BEST)
    some = wbm.crystals[rows]
    extra = {n: b.score(n, some, "wbm-part") for b in slow for n in b.rankers}
    if not extra:
        return whole, None
    part = {name: Scores(s.values[rows], s.reasons) for name, s in scores.items()} | extra
    return whole, judge_set(part, wbm.e_above_hull[rows], BEST)


def _on_one_scale(inputs: Inputs, bench: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """With the labels on the hull's scale; and with the labels as they are, elemental references refitted."""
    wbm = inputs.wbm

    def make() -> pa.Table:
        say("corrections of WBM's labels")
        return pa.table({"shift": scheme_shift(wbm.crystals)})

    shift = inputs.store.table("scheme-shift", (wbm.crystals.content_hash(),), make)["shift"].to_numpy()
    scores = bench.score_all(wbm.crystals, "wbm")
    moved = judge_set(scores, wbm.e_above_hull + shift, BEST)
    again = {
        name: Scores(refitted(s.values, wbm.e_above_hull, wbm.crystals), s.reasons)
        for name, s in scores.items()
        if name in ENERGIES
    }
    return moved, judge_set(again, wbm.e_above_hull, BEST)


def _slow_benches(inputs: Inputs, crystals: Crystals) -> list[Bench]:
    """A bench for each ranker that needs a context of its own, for these crystals."""
    benches = []
    try:
        benches.append(fingerprint_bench(inputs.context, crystals, inputs.store, inputs.options.threads))
    except ImportError as error:
        benches.append(Bench(inputs.context, inputs.store, missing={"fingerprint": str(error)}))
    for name in installed_force_fields():
        context = with_fitted_references(inputs.context, name, inputs.known, inputs.store)
        benches.append(Bench.set_up(context, inputs.store, [name]))
    return benches


def _distances(inputs: Inputs, bench: Bench) -> dict[str, Any]:
    """Variants of Eq. 11 on the same embeddings and the crystals of WBM."""
    context, wbm = bench.context, inputs.wbm
    index = context.jepa_index
    above = dict(zip(inputs.known.crystals.ids, inputs.known.e_above_hull.tolist(), strict=True))
    done = JepaEmbedder(context.model, context.device).embed(wbm.crystals)
    kept = wbm.crystals[done.rows]

    def make() -> pa.Table:
        say("variants of the distance")
        references = References(
            index.embeddings.astype(np.float64), index.systems, np.array([above[i] for i in index.ids])
        )
        found, learned = variant_scores(references, done.vectors.astype(np.float64), system_names(kept))
        errors = {"error": learned.error, "of_the_mean": learned.of_the_mean}
        table = pa.table({**found, "id": list(kept.ids)})
        return table.replace_schema_metadata({b"learned": json.dumps(errors).encode()})

    table = inputs.store.table("distances", (index.key, wbm.crystals.content_hash()), make)
    learned = json.loads(table.schema.metadata[b"learned"])
    scores = {}
    for name in table.column_names:
        if name != "id":
            values = np.full(len(wbm.crystals), np.inf)
            values[done.rows] = table[name].to_numpy()
            scores[name] = Scores(values, {})
    return judge_set(scores, wbm.e_above_hull, (0.1,), baselines=("Eq. 11",)) | {"learned": learned}


def _generated(inputs: Inputs) -> tuple[dict[str, Crystals], dict[str, dict[str, str]]]:
    """The valid crystals of the generators that have labels, and why the others are not; DiffCSP's anyhow."""
    names = {"DiffCSP"} | labelled_sets(inputs.options.labels)
    sets = draw_sets(inputs.options.data, inputs.options.generator, inputs.store, names=names)
    valid, invalid = {}, {}
    for name, crystals in sets.items():
        some = crystals[:QUICK_GENERATED] if inputs.options.quick else crystals
        valid[name], invalid[name] = split_valid(some)
    return valid, invalid


def _before_relaxation(
    inputs: Inputs,
    bench: Bench,
    generated: Mapping[str, Crystals],
    invalid: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """Crystals scored as generated, judged by what they relax to."""
    path = inputs.options.labels
    if not path.exists():
        return {"reason": f"there is no {path.name} yet: make it with --relabel", "sets": {}}
    sets: dict[str, Any] = {}
    for name, crystals in generated.items():
        labels = read_labels(path, name, crystals, inputs.hull)
        rows = np.flatnonzero(labels.labelled)
        if not len(rows):
            say(f"{name}: none of {len(crystals)} crystals has a label: left out")
            continue
        truth = labels.e_above_hull[rows]
        scores = bench.score_all(crystals, name)
        judged = judge_set({n: Scores(s.values[rows], s.reasons) for n, s in scores.items()}, truth, RELAXED)
        judged |= {
            "num_invalid": len(invalid[name]),
            "num_without_label": int((~labels.labelled).sum()),
            "num_failed": int(np.isnan(truth).sum()),
            "num_not_converged": int((~labels.converged[rows] & np.isfinite(truth)).sum()),
        }
        sets[name] = judged
    return {
        "reason": None if sets else f"no crystal has a label in {path.name}: make it anew with --relabel",
        "force_field": FORCE_FIELD,
        "settings": SETTINGS.model_dump(mode="json"),
        "sets": sets,
    }


# -- pieces ----------------------------------------------------------------------------------------


def judge_set(
    scores: Mapping[str, Scores],
    truth: Floats,
    shares: tuple[float, ...],
    *,
    baselines: tuple[str, ...] = BASELINES,
) -> dict[str, Any]:
    """Numbers, differences to the baselines, and curves of every ranking of one set."""
    values = {name: s.values for name, s in scores.items()}
    rows, bootstrap = judge_rankings(values, truth, limits=LIMITS, shares=shares)
    differences = {
        base: {
            name: bootstrap.difference(name, base, f"auc_{LIMITS[0]:g}").to_dict()
            for name in values
            if name != base
        }
        for base in baselines
        if base in values
    }
    wanted = {f"{limit:g}": stable(truth, limit) for limit in LIMITS}
    return {
        "num": len(truth),
        "base": {limit: float(p.mean()) for limit, p in wanted.items()},
        "perfect": {
            limit: {f"{s:g}": _none(perfect_found(s, p)) for s in shares} for limit, p in wanted.items()
        },
        "shares": list(shares),
        "rows": rows,
        "differences": differences,
        "curves": {name: _curves(v, wanted[f"{LIMITS[0]:g}"]) for name, v in values.items()},
    }


def _curves(values: Floats, positive: NDArray[np.bool_]) -> dict[str, list[float]]:
    """Shares found against shares of the negatives, and of all, at the points of :data:`GRID`."""
    steps = Ranked(values, positive).steps()
    curves = {"roc": steps.roc(), "recall": steps.recall_curve()}
    return {name: np.interp(GRID, x, y).round(5).tolist() for name, (x, y) in curves.items()}


def _about(benches: Sequence[Bench]) -> dict[str, dict[str, Any]]:
    about = {}
    for bench in benches:
        for name, ranker in bench.rankers.items():
            group = "jepa" if name.startswith("jepa") else name
            about[name] = {
                "labels": bench.labels_behind(name),
                "preparation": bench.preparation.get(group),
                "num_reference": len(bench.context.reference),
                "notes": list(ranker.notes),
            }
    return about


def _none(value: float) -> float | None:
    return None if np.isnan(value) else value
