"""The page of a run: tables from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from shared import say

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.criteria import batches_of
from crysjepa.report.rate_bars import draw_rates
from crysjepa.report.wording import rate_with_interval

BATCH = 500


def page(out: Path, judged: list[Path]) -> None:
    """``training_on_a_gpu.md`` and ``vsun.svg``, from what lies in ``out`` and from folders of ``judge``.

    A row of the table has the name of its folder.
    """
    speed = json.loads((out / "speed.json").read_text(encoding="utf-8"))
    lines = [
        f"`reproduce/gpu/run.py` on one {speed['device']} (torch {speed['torch']}): "
        f"{speed['bf16_tflops']:.0f} TFLOP/s in a large bf16 product, "
        f"{speed['copy_gb_per_s']:.0f} GB/s in a copy.",
        "",
        "| model | parameters | batch | trained a second | ms a step | of the ceiling | drawn a second |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in speed["models"]:
        drawn = f"{row['sampled_per_s']:.0f}" if "sampled_per_s" in row else "–"
        lines.append(
            f"| {row['name']} | {row['parameters'] / 1e6:.1f} M | {row['batch']} | "
            f"{row['trained_per_s']:.0f} | {row['ms_a_step']:.1f} | {100 * row['training_mfu']:.1f} % | "
            f"{drawn} |"
        )
    for path in sorted(out.rglob("*.curve.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        last = found["curve"][-1]
        parts = ", ".join(f"{k} {v:.3f}" for k, v in last.items() if k != "step")
        name = path.name.removesuffix(".curve.json").removesuffix(".safetensors")
        lines += ["", f"`{name}`: {last['step']} steps in {found['seconds']} s; {parts}."]
    for path in sorted(out.rglob("finetune-curve.json")):
        last = json.loads(path.read_text(encoding="utf-8"))[-1]
        parts = ", ".join(f"{k} {v:.3f}" for k, v in last.items() if k != "step")
        lines += ["", f"`{path.parent.name}`: {last['step']} steps; {parts}."]
    for path in sorted(out.rglob("*.time.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        line = f"{found['num']} crystals in {found['seconds']:.0f} s, {found['processes']} processes"
        lines += ["", f"`{path.name.removesuffix('.time.json')}`: {line}, {found['device']}."]
    rows = [
        {"name": folder.name, **json.loads((folder / "metrics.json").read_text(encoding="utf-8"))}
        for folder in judged
    ]
    tables = [CandidateTable.read(folder / "crystals.parquet") for folder in judged]
    lines += ["", *rates_table(rows, tables)]
    if rows:
        draw_rates(rows, out / "vsun.svg")
    (out / "training_on_a_gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"wrote {out / 'training_on_a_gpu.md'}")


def rates_table(rows: list[dict[str, Any]], tables: list[CandidateTable]) -> list[str]:
    """Rates of each row, with Wilson intervals, in percent; beside them what its table of crystals says."""
    names = {
        "valid": "V", "stable": "S", "unique": "U", "novel": "N", "vsun": "V.S.U.N.",
        "vsun_at_0": "V.S.U.N. on the hull", "new_prototype": "new prototypes",
    }  # fmt: skip
    alone = f"V.S.U.N., each {BATCH} by themselves"
    columns = ["", "crystals", *names.values(), alone, "hits in new prototypes", "median steps"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row, table in zip(rows, tables, strict=True):
        rates = [rate_with_interval(row, name) for name in names]
        fresh = [bool(v) for v in table.column("new_prototype", table.ok_ids)]
        steps = np.median([s for s in table.column("relax_steps") if s is not None])
        hits = f"{100 * np.mean(fresh):.0f} %" if fresh else "–"
        rates.append(f"{100 * vsun_by_batch(table):.1f}")
        lines.append(f"| {row['name']} | {len(table)} | {' | '.join(rates)} | {hits} | {steps:.0f} |")
    return lines


def vsun_by_batch(table: CandidateTable) -> float:
    """The share that is V.S.U.N. where duplicates count among each :data:`BATCH` crystals alone: what is the
    same in many is seldom the same in few, so that sets of different sizes can be compared.
    """
    rows = table.frame
    first = rows["duplicate_of"].fillna(rows["id"])
    again = first.groupby([rows["id"].map(batches_of(table.ids, BATCH)), first]).cumcount() > 0
    hits = rows[["valid", "stable", "novel"]].fillna(False).astype(bool).all(axis=1)
    return float((hits & ~again).mean())
