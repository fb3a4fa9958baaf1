"""DFT has the last word: a short list and a control, every phase that competes, one setting of GPAW.

    python reproduce/dft/last_word.py choose    --work FOLDER
    python reproduce/dft/last_word.py judge     --work FOLDER
    python reproduce/dft/last_word.py calculate --work FOLDER [--processes 2] [--wait]
    python reproduce/dft/last_word.py keep      --work FOLDER
    python reproduce/dft/last_word.py table

``choose`` draws crystals, takes a control at random and a short list of the same draw, and names what
competes. Where ``crysjepa compete FOLDER/to_close.parquet --out FOLDER/closed`` has run, ``choose`` once more
takes the short list and the competing phases from the closed hull. ``judge`` asks SevenNet too, and
``choose`` once more takes its answers. ``calculate`` works off the queue, from where the committed files stand; stopped, it goes on;
with ``--wait`` it takes what ``choose`` adds later. ``keep`` writes ``crystals.parquet`` and
``calculations.parquet`` beside this file, and ``table`` makes ``table.json`` and ``table.md`` of these two
alone: it needs neither GPAW nor the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeping import HERE, JUDGES, keep, read, seed
from tabling import Verdict, agreement, chance_agreement, judge, row, shares

from crysjepa.core.candidates import CandidateTable
from crysjepa.runtime.files import write_json, write_text

COUNTS = ("num", "agree", "both_stable", "judge_alone", "dft_alone", "neither")
GROUPS = ("short list", "control", "list before the hull was closed")


def choose(work: Path) -> None:
    """Draw, choose and judge; files that are there are not made again."""
    import choosing
    from assembling import assemble

    drawn = CandidateTable.read(choosing.draw(work))
    if not (work / "control" / "crystals.parquet").is_file():
        choosing.judge(choosing.at_random(drawn), work / "control")
    if not (work / "chosen" / "crystals.parquet").is_file():
        choosing.judge(choosing.promising(drawn), work / "chosen")
    if not (work / "to_close.parquet").is_file():
        choosing.write_to_close(work)
    table = assemble(work)
    print(f"{len(table)} crystals in {work}/crystals.parquet: {dict(table.frame['role'].value_counts())}")


def table(folder: Path = HERE, out: Path | None = None) -> dict[str, Any]:
    """``table.json`` and ``table.md`` from the committed files."""
    candidates, energies, troubles = read(folder)
    groups: dict[str, list[Verdict]] = {}
    for candidate, names in candidates:
        verdict = judge(candidate, energies, troubles)
        for name in names:
            groups.setdefault(name, []).append(verdict)
    groups = {g: groups[g] for g in GROUPS if g in groups}
    distinct = {v.candidate.id: v for own in groups.values() for v in own}
    everyone = list(distinct.values())
    spoken = [j for j in JUDGES if any(v.candidate.judges.get(j) is not None for v in everyone)]
    found: dict[str, Any] = {
        "calculations": len(energies) + len(troubles),
        "groups": {g: shares(own) for g, own in groups.items()},
        "judges": {
            j: {g: agreement(own, j) for g, own in [*groups.items(), ("all", everyone)]} for j in spoken
        },
        "p_stable": {g: chance_agreement(own) for g, own in [*groups.items(), ("all", everyone)]},
        "crystals": {g: [row(v) for v in own] for g, own in groups.items()},
    }
    found = _rounded(found)
    target = out or folder
    write_json(target / "table.json", found)
    write_text(target / "table.md", page(found))
    return found


def _rounded(value: Any) -> Any:
    """To 1e-5, which is finer than any of it is known: no two solvers agree to the last bit."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 5) + 0.0 if isinstance(value, float) else value


def _chance_of(groups: dict[str, Any]) -> float:
    """That the short list and the control differ as much by chance (Fisher's exact test, two-sided)."""
    from scipy.stats import fisher_exact

    within = [groups[name]["within_0.1"] for name in GROUPS[:2]]
    return float(fisher_exact([[w["hits"], w["num"] - w["hits"]] for w in within]).pvalue)


def page(found: dict[str, Any]) -> str:
    """The sections of ``docs/results_dft.md`` and ``docs/results_dft_crystals.md``."""
    waiting = sum(s["waiting"] for s in found["groups"].values())
    lines = [
        "# DFT has the last word",
        "",
        "`python reproduce/dft/last_word.py table`, of calculations that are kept beside it. 24 crystals of a short list "
        "and 24 at random, of the same 1,500 that the flow drew (at most 8 sites, of Li Na K Mg Ca Sr Al Ga Si Ge O F S Se "
        "Cl: no open d or f shell), relaxed with GPAW (PBE, plane waves to 400 eV, preset `quick`), above the hull of their "
        "elements, of the phases that the closed hull names below them, known and hypothetical, and of each other, all by one "
        "setting. Phases are calculated as they come: the twelve that were relaxed too changed by 5 meV/atom at most. Known phases "
        "whose structure is not at hand stand as prototypes. Drawn at random is after what `generate` throws away: formulas "
        "that are unbalanced or known to the flow. The rate is of those judged or failed; the cheapest are calculated first, "
        + (
            f"and {waiting} still wait: a part of the table, and no random one."
            if waiting
            else "and none waits."
        ),
        "",
        "| | asked | judged | failed | hull incomplete | waiting | ≤ 0.1 eV/atom | on the hull | median |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, s in found["groups"].items():
        counts = [s[c] for c in ("asked", "judged", "failed", "hull_incomplete", "waiting")]
        rates = [_share(s["within_0.1"]), _share(s["within_0.0"])]
        lines.append(_line([name, *counts, *rates, _number(s["median_above_hull"])]))
    lines += ["", f"The first two shares by Fisher's exact test: p = {_chance_of(found['groups']):.2g}."]
    lines += [
        "",
        "| judge | crystals | n | agree | both stable | judge alone | DFT alone | neither "
        "| mean abs. difference | mean difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, own in [*found["judges"].items(), ("p_stable ≥ 1/2", found["p_stable"])]:
        for group, a in own.items():
            if a["num"]:
                counts = [
                    a[c] for c in ("num", "agree", "both_stable", "judge_alone", "dft_alone", "neither")
                ]
                differences = [_number(a.get(c)) for c in ("mean_absolute_difference", "mean_difference")]
                lines.append(_line([name, group, *counts, *differences]))
    lines += [
        "",
        "# Crystal by crystal",
        "",
        "`python reproduce/dft/last_word.py table`. In the order of DFT's energies above the hull, which [the "
        "summary](results_dft.md#dft-has-the-last-word) counts.",
        "",
    ]
    for group, rows in found["crystals"].items():
        judges = [j for j in JUDGES if any(r.get(j) is not None for r in rows)]
        lines += [f"{group}: eV/atom above hull", "", _line(["formula", "DFT", *judges, "p_stable", "state"])]
        lines += ["|" + "---|" * (len(judges) + 4)]
        for r in sorted(rows, key=lambda r: (r["state"] != "judged", r["dft_e_above_hull"] or 0.0)):
            said = [_number(r.get(j)) for j in judges]
            state = r["state"] if r["reason"] is None else f"{r['state']}: {r['reason']}"
            cells = [r["formula"], _number(r["dft_e_above_hull"]), *said, _number(r["p_stable"]), state]
            lines.append(_line(cells))
        lines += [""]
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("-", "−")


def _share(rate: dict[str, Any]) -> str:
    if rate["share"] is None:
        return ""
    low, high = rate["interval"]
    return f"{rate['hits']}/{rate['num']}, {100 * rate['share']:.0f} ({100 * low:.0f}–{100 * high:.0f}) %"


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("choose", "judge", "calculate", "keep", "table"))
    parser.add_argument("--work", type=Path, help="folder of everything that is not committed")
    parser.add_argument("--preset", default="quick", help="quick or standard")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--wait", action="store_true", help="go on when crystals are added")
    options = parser.parse_args()
    if options.stage == "table":
        table()
        print((HERE / "table.md").read_text(encoding="utf-8"))
        return
    if options.work is None:
        parser.error("this stage needs --work")
    if options.stage == "choose":
        choose(options.work)
        return
    if options.stage == "judge":
        from assembling import second_judge

        second_judge(options.work)
        return
    from calculating import calculate

    from crysjepa.dft.gpaw.backend import PRESETS
    from crysjepa.dft.gpaw.calculations import scale_of

    if options.stage == "calculate":
        seed(options.work, scale_of("gpaw", PRESETS[options.preset]))
        calculate(
            options.work / "crystals.parquet", options.work,
            preset=options.preset, processes=options.processes, wait=options.wait,
        )  # fmt: skip
    else:
        num = keep(options.work, scale_of("gpaw", PRESETS[options.preset]))
        print(f"{num} calculations in {HERE}/calculations.parquet")


if __name__ == "__main__":
    main()
