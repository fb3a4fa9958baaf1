"""Write docs/results.md and its pages from saved runs, so that no figure in them is typed in by hand.

crysjepa discover --out run
crysjepa compete run/round-0/control.parquet --effort quick --out control
python benchmarks/probability.py --data FOLDER --out P
python benchmarks/hide_and_seek.py table --out K
python reproduce/dft/last_word.py table
python benchmarks/held_out_hull.py --relaxed RELAXED.parquet ... --out H
python benchmarks/yardstick.py ... --out Y
python benchmarks/screening.py --data FOLDER --out S
python benchmarks/evaluation.py --data FOLDER --out E
python benchmarks/screen_million.py > million.txt
crysjepa dft run docs/examples/mg-si --out mg-si --processes 2
crysjepa evaluate docs/examples/mg-si --out ff
python reproduce/write_results.py --dft mg-si ff --discover run --control control --screening S/screening.json --million million.txt \
    --include reproduce/dft/table.md K/hide_and_seek.md P/probability.md Y/yardstick.md H/held_out_hull.md E/evaluation.md --out docs

A section whose run is not named stays as it is. Which section stands on which page: `results_pages.py`.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from pymatgen.core import Composition
from results_pages import INDEX, link, sections_in, write_pages

from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.limits import within
from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.report.wording import number, rate_with_interval
from crysjepa.weights import shipped


def rates(rows: list[dict[str, Any]]) -> list[str]:
    """A Markdown table of the rates."""
    lines = [f"| | crystals | {' | '.join(RATE_LETTERS.values())} |", "|---" * (2 + len(RATE_LETTERS)) + "|"]
    for row in rows:
        cells = " | ".join(rate_with_interval(row, name) for name in RATE_LETTERS)
        lines.append(f"| {row['name']} | {row['num_crystals']} | {cells} |")
    return lines


def discover_section(run: Path, looked_into: Path | None = None) -> list[str]:
    """The quick run and its controls; ``looked_into`` is what `compete` made of the base's."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    protocol, rounds = metrics["protocol"], metrics["rounds"]
    seconds: Counter[str] = Counter()
    for name, stage in record["stages"].items():  # such as round-0/relax: relaxed.parquet
        seconds[name.rpartition("/")[2].partition(":")[0]] += stage["seconds"]
    beyond = ", ".join(f"{r['name']} {100 * r['vsun_beyond_earlier_rounds']:.1f} %" for r in rounds)
    ends = "; ".join(f"{r['name']}: {', '.join(f'{k} {v}' for k, v in r['counts'].items())}" for r in rounds)
    rows: list[dict[str, Any]] = []
    eligible = []
    for r in rounds:
        control = r["control"]
        rows += [r, {**control, "name": f"{r['name']}, at random"}]
        part = control["eligible"]
        eligible.append(f"{r['name']} {rate_with_interval(part, 'vsun')} % of {part['num_crystals']}")
    table = CandidateTable.read(run / "candidates.parquet")
    listed = [i for i, r in zip(table.ids, table.column("shortlist_rank"), strict=True) if r is not None]
    above = [e for e in table.column("e_above_hull", listed) if e is not None]
    support = Counter(table.column("hull_support", listed))
    warned = sum(w is not None for w in table.column("hull_warning", listed))
    lines = [
        "## The quick run",
        "",
        "`crysjepa discover --out run` on two cores of a shared machine, no GPU. Rates are percent of all crystals "
        f"that were relaxed, one of {protocol['oversample']} drawn, with Wilson 95 % intervals; at random: of what was "
        "drawn, whatever the ranker thinks of it.",
        "",
        *rates(rows),
        "",
        f"- Judge: {metrics['judge']}, at most {protocol['relaxation']['max_steps']} steps of "
        f"{protocol['relaxation']['optimizer'].upper()}. CHGNet labelled most of what the ranker learnt from. Hull: "
        f"`{metrics['hull']}`, {protocol['hull_compounds']:,} compounds, scale `{protocol['hull_scale']}`. Novelty: "
        f"against `{metrics['novelty_set']}`, {protocol['novelty_set_size']:,} crystals.",
        "- What is relaxed first is valid, of a formula not known, and where the hull is supported. V.S.U.N. of the crystals "
        f"at random that are so too, which is what the ranker has to beat: {'; '.join(eligible)}.",
        f"- V.S.U.N. that repeats no earlier round: {beyond}.",
        f"- Fine-tuned on {', '.join(map(str, metrics['num_selected']))} crystals.",
        f"- Short list of {len(listed)}: energies above hull from {span(above)} eV/atom; "
        f"{', '.join(f'{n} {s}' for s, n in support.items())}; {warned} with a warning.",
        f"- What became of every crystal: {ends}.",
        f"- Seconds by stage, {sum(seconds.values()):.0f} in all: "
        f"{', '.join(f'{name} {value:.0f}' for name, value in seconds.most_common() if value >= 0.5)}.",
    ]
    lines += trust_lines(metrics, table, listed)
    if looked_into is not None:
        lines.append(chance_line(looked_into))
    return lines


def trust_lines(metrics: dict[str, Any], table: CandidateTable, listed: list[str]) -> list[str]:
    """What closing the hull, a second judge and the chances say of the short list."""
    trust = metrics.get("trust")
    if trust is None:
        return []
    lines = []
    if closed := trust.get("closed_hull"):
        looked = [
            i for i, e in zip(table.ids, table.column("e_above_closed_hull"), strict=True) if e is not None
        ]
        before, after = (table.column(c, looked) for c in ("e_above_hull", "e_above_closed_hull"))
        risen = sum(b - a > 0.02 for a, b in zip(before, after, strict=True))
        unstable = sum(s is False for s in table.column("stable_closed", looked))
        lower = sum(p is not None for p in table.column("lower_polymorph", looked))
        of_list = [e for e in table.column("e_above_closed_hull", listed) if e is not None]
        near = sum(within(abs(e), 0.1) for e in of_list)
        lines.append(
            f"- The closed hull: {len(looked)} crystals of {closed['num_systems']} chemical systems; "
            f"{closed['num_competitors']} competitors evaluated, {closed['num_relaxed']} relaxed, {closed['num_on_hull']} on the "
            f"hull; {closed['num_converged']} searches converged. {risen} crystals rose by more than 20 meV/atom, {unstable} are "
            f"unstable by it, {lower} have a lower polymorph. Short list: {span(of_list)} eV/atom above it, {near} of "
            f"{len(of_list)} within 0.1 of it."
        )
    for judge in trust["judges"]:
        theirs = table.column(judge["column"], listed)
        told = [e for e in theirs if e is not None]
        agree = [a for a in table.column("judges_agree", listed) if a is not None]
        stable = sum(within(e, 0.1) for e in told)
        both = [bool(a) for a in table.column("judges_agree") if a is not None]
        lines.append(
            f"- Judge {judge['name']} ({judge['version']}), which had no part in the choice, elemental references to "
            f"{judge['elemental_references_mae']:.3f} eV/atom, by its own energies of the competitors: {stable} of the {len(told)} "
            f"listed are at most 0.1 eV/atom above the closed hull. At that limit the judges agree on {sum(agree)} of "
            f"{len(agree)} listed, and on {sum(both)} of the {len(both)} that were looked into."
        )
    expected = trust["expected"]
    lines.append(
        f"- By their chances, DFT is expected to put {expected['expected']:.1f} (95 %: {expected['low']} to {expected['high']}) "
        f"of the {expected['num']} listed at most 0.1 eV/atom above the hull."
    )
    return lines


def chance_line(folder: Path) -> str:
    """The base's control, looked into like the short list."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    table, trust = CandidateTable.read(folder / "crystals.parquet"), metrics["trust"]
    told = [e for e in table.column("e_above_closed_hull") if e is not None]
    parts = [
        f"{sum(within(e, 0.1) for e in told)} of {len(told)} are at most 0.1 eV/atom above the closed hull by CHGNet"
    ]
    for judge in trust["judges"]:
        theirs = [e for e in table.column(judge["column"]) if e is not None]
        parts.append(f"{sum(within(e, 0.1) for e in theirs)} of {len(theirs)} by {judge['name']}")
    both = sum(s is True for s in table.column("stable_by_all"))
    names = ("stable_by_all", "valid", "unique", "novel")
    new = zip(table.column("novelty_grade"), *(table.column(c) for c in names), strict=True)
    hits = sum(g == "new formula" and all(flags) for g, *flags in new)
    expected = trust["expected"]
    return (
        f"- Of the base's {metrics['num_crystals']} at random, looked into alike (`crysjepa compete "
        f"run/round-0/control.parquet --effort quick`): {', '.join(parts)}, {both} by both; {hits} of them are valid, unique, "
        f"novel and of a new formula. DFT is expected to agree on {expected['expected']:.1f} ({expected['low']} to "
        f"{expected['high']}) of {expected['num']}."
    )


def span(values: list[float]) -> str:
    """Lowest and highest, with proper minus signs."""
    return f"{number(min(values))} to {number(max(values))}"


def quick_run_words(run: Path) -> str:
    """What the index says of the quick run."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    table = CandidateTable.read(run / "candidates.parquet")
    listed = [i for i, r in zip(table.ids, table.column("shortlist_rank"), strict=True) if r is not None]
    closed = "closed " if "e_above_closed_hull" in table else ""
    column = "e_above_closed_hull" if closed else "e_above_hull"
    above = [e for e in table.column(column, listed) if e is not None]
    supported = table.column("hull_support", listed).count("supported")
    new = table.column("novelty_grade", listed).count("new formula")
    parts = []
    for r in metrics["rounds"]:
        rate, chance = (rate_with_interval(m, "vsun_new_formula") for m in (r, r["control"]))
        parts.append(
            f"{rate} % of {r['num_crystals']} chosen ({r['name']}), {chance} % of {r['control']['num_crystals']} at random"
        )
    return (
        f"- **A quick run**, V.S.U.N. with a new formula: {'; '.join(parts)}. Its short list of {len(listed)} lies "
        f"{span(above)} eV/atom above the {closed}hull; {supported} stand where the hull is supported, {new} have a new "
        f"formula{second_judge(metrics, table, listed)}. Judge: {metrics['judge']}, which also labelled most of what the "
        f"ranker learnt from; hull and novelty: `{metrics['hull']}`. A formula that is new here may be in the literature: look "
        f"it up before you spend DFT time on it ([all numbers]({link('The quick run')}))."
    )


def second_judge(metrics: dict[str, Any], table: CandidateTable, listed: list[str]) -> str:
    """What a further judge says of the short list, and what to expect of DFT."""
    said = ""
    for judge in metrics.get("trust", {}).get("judges", ()):
        theirs = [e for e in table.column(judge["column"], listed) if e is not None]
        said += f"; {judge['name']} puts {sum(within(e, 0.1) for e in theirs)} of {len(theirs)} at most 0.1 above its own"
    if expected := metrics.get("trust", {}).get("expected"):
        said += f"; DFT is expected to agree on {expected['expected']:.0f} ({expected['low']} to {expected['high']})"
    return said


def write_headline(index: Path, name: str, text: str) -> None:
    """Between the two marks of that name, on the page ``index`` in ``docs/``."""
    page, text = index.read_text(encoding="utf-8"), text.replace("](docs/", "](")
    begin, end = f"<!-- {name}: written by reproduce/write_results.py -->", "<!-- end -->"
    before, rest = page.split(begin)
    after = rest.split(end, 1)[1]
    indent = "  " if text.startswith("- ") else ""
    wrapped = textwrap.wrap(
        text, 118, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent
    )
    lines = "\n".join(wrapped)
    index.write_text(f"{before}{begin}\n{lines}\n{end}{after}", encoding="utf-8")


def _kinds(found: dict[str, Any]) -> str:
    """What the short list is made of: a headline on alloys says nothing of oxides."""
    formulas = [r["formula"] for r in found["crystals"]["short list"]]
    others = [f for f in formulas if {"O", "F", "S", "Se", "Cl"} & {e.symbol for e in Composition(f)}]
    return (
        f"The list is of intermetallics, but for {len(others)} of {len(formulas)}: of oxides it says nothing"
    )


def dft_words(found: dict[str, Any]) -> str:
    """What the index says of DFT, from ``reproduce/dft/table.json``."""
    groups = found["groups"]

    def rate(name: str) -> str:
        within = groups[name]["within_0.1"]
        low, high = (100 * v for v in within["interval"])
        return f"{within['hits']} of {within['num']} ({100 * within['share']:.0f} %, {low:.0f}–{high:.0f})"

    names = ("short list", "control")
    left = [groups[n]["waiting"] + groups[n]["hull_incomplete"] for n in names]
    text = (
        "- **DFT agrees.** At most 0.1 eV/atom above the hull by DFT (GPAW, PBE, competing phases calculated too): "
        f"{rate('short list')} of a short list, {rate('control')} at random from the same draw. {_kinds(found)}"
    )
    if any(left):
        text += (
            f"; {left[0]} and {left[1]} of {groups[names[0]]['asked']} and {groups[names[1]]['asked']} lack a "
            "calculation, or one of a phase that competes"
        )
    return f"{text} ([more]({link('DFT has the last word')}))."


def search_words(found: dict[str, Any]) -> str:
    """What the index says of the search for competitors, from ``hide_and_seek.json``."""
    before, after = found["hull"], found["closed_judge"]
    return (
        f"- **The search for competitors finds what is there.** All compounds of {after['systems']} chemical systems were "
        f"hidden, and searched for, {after['seconds']:.0f} s a system: of the {after['deep']} that left a gap, "
        f"{100 * after['found']:.0f} % give back at least 0.8 of it. The hull's mean error falls from "
        f"{1000 * before['mean_error']:.0f} to {1000 * after['mean_error']:.0f} meV/atom; at {100 * after['too_deep']:.0f} % of "
        f"{after['hidden']} it comes out too deep by more than 20. Judge: SevenNet, which has seen these compounds in "
        f"training, as CHGNet has ([hide and seek]({link('Hide and seek')}))."
    )


WORDS = {"table": ("dft", dft_words), "hide_and_seek": ("search", search_words)}
"""By the name of an included page: the index's marks, and its words from the JSON beside that page."""


def screening_section(path: Path) -> list[str]:
    """Where the embedding stands against its targets."""
    found = json.loads(path.read_text(encoding="utf-8"))

    def auc(part: str, name: str) -> str:
        return f"{found[part]['rows'][name]['auc_0.1']['value']:.3f}"

    times = found["timing"]["summary"]
    lines = [
        "## Screening by the embedding",
        "",
        "`python benchmarks/screening.py --data FOLDER --out OUT`, from the shipped weights; everything is in "
        "[screening.md](screening.md), and what was tried in [embedding.md](embedding.md). AUC at 0.1 eV/atom on WBM:",
        "",
        "| labels | `jepa-hull` | `chgnet` (static) | `jepa-distance` |",
        "|---|---|---|---|",
        f"| as they are (two correction schemes) | {auc('wbm', 'jepa-hull')} | {auc('wbm', 'chgnet')} | "
        f"{auc('wbm', 'jepa-distance')} |",
        f"| on the hull's scale | {auc('wbm_one_scale', 'jepa-hull')} | {auc('wbm_one_scale', 'chgnet')} | "
        f"{auc('wbm_one_scale', 'jepa-distance')} |",
        f"| as they are, elemental references fitted | {auc('wbm_refitted', 'jepa-hull')} | "
        f"{auc('wbm_refitted', 'chgnet')} | |",
        "",
        "Target: 0.93. As they are, the labels mix two correction schemes with the hull, and no ranking gets there "
        "(see [screening.md](screening.md)). Speed against CHGNet's own call in the same run, target 100 times batched "
        "and 10 times one by one:",
        "",
        *(
            f"- `{name}`: {times[name]['batched']['times_faster']:.0f} times batched, "
            f"{times[name]['one_by_one']['times_faster']:.1f} times one by one"
            for name in ("jepa-hull", "jepa-distance")
        ),
        "",
        "What holds it back: matrix products that run at the processor's speed in batches, and the overhead of some "
        "hundred small operations one by one ([where the time goes](embedding.md#where-the-time-goes)).",
    ]
    return lines


def dft_section(run: Path, judged: Path) -> list[str]:
    """Crystals by GPAW, beside what a force field says of them."""
    found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    columns = (
        "dft_space_group",
        "num_sites",
        "dft_steps",
        "dft_seconds",
        "dft_formation_energy_per_atom",
        "dft_e_above_hull",
    )
    table, other = (CandidateTable.read(p) for p in (run / "candidates.parquet", judged / "crystals.parquet"))
    crystals = table.crystals()
    table = table.with_column(
        "num_sites", dict(zip(crystals.ids, crystals.num_atoms.tolist(), strict=True)), "Int64"
    )
    rows = []
    for id_ in table.ids:
        group, sites, steps, seconds, energy, above = (table.column(c, [id_])[0] for c in columns)
        theirs = (other.column(c, [id_])[0] for c in ("formation_energy_per_atom", "e_above_hull"))
        cells = [f"{id_}, {group}", str(sites), str(steps), f"{seconds:.0f}"]
        rows.append(
            (above, [*cells, f"{energy:.3f}", f"{round(above, 3) + 0.0:.3f}", *(f"{v:.3f}" for v in theirs)])
        )
    settings, force_field = (
        found["backend"],
        json.loads((judged / "metrics.json").read_text(encoding="utf-8"))["protocol"],
    )
    competing = ", ".join(
        f"{c['formula']} ({c['formation_energy_per_atom']:.3f} eV/atom)" for c in found["competing"]
    )
    return [
        "## DFT without VASP",
        "",
        "`crysjepa dft run docs/examples/mg-si --out mg-si --processes 2`, and beside it `crysjepa evaluate docs/examples/mg-si "
        "--out ff`; eV/atom.",
        "",
        "| crystal | sites | steps | seconds | E_f by GPAW | above the hull | "
        f"E_f by {force_field['force_field']} | above the hull |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(cells)} |" for _, cells in sorted(rows)),
        "",
        f"GPAW {settings['versions']['gpaw']}, gpaw-data {settings['versions']['gpaw-data']}, plane waves to "
        f"{settings['settings']['ecut']:.0f} eV. Competing: {competing}.",
    ]


def million_section(path: Path) -> list[str]:
    """What ``benchmarks/screen_million.py`` said last."""
    said = path.read_text(encoding="utf-8").strip().splitlines()[-1]
    return [
        "## A million candidates",
        "",
        f"`python benchmarks/screen_million.py`, synthetic candidates against the bundled data set: {said} of memory.",
    ]


def included(path: Path) -> list[list[str]]:
    """Sections of a page that a benchmark wrote, one level down."""
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    title = path.stem.replace("_", " ").capitalize()
    lines = lines if lines[0].startswith("#") else [f"# {title}", "", *lines]
    parts: list[list[str]] = []
    for line in lines:
        if line.startswith("# "):
            parts.append([])
        parts[-1].append(f"#{line}" if line.startswith("#") else line)
    return parts


def curves_section() -> list[str]:
    """The ends of the training curves of the shipped weights."""
    lines = ["## Ends of the training curves", ""]
    script = "`python training/train_default_weights.py"
    commands = {
        "generator": (
            "one H100",
            "`python reproduce/gpu/run.py train`, then one of its `rounds`, from step 3911 on",
        ),
        "ddpm": ("one busy core", f"{script} ddpm MP20.parquet MPTS52.parquet --out D`"),
        "jepa": ("one busy core", f"{script} jepa PACKED.parquet --init J --steps 4500 --out JEPA`"),
    }
    for kind, (device, command) in commands.items():
        path = shipped(kind).with_name(f"{kind}.curve.json")
        saved = json.loads(path.read_text(encoding="utf-8"))
        rows = [saved["curve"][0], saved["curve"][len(saved["curve"]) // 2], *saved["curve"][-3:]]
        names = [n for n in rows[-1] if n != "step"]
        lines += [
            f"**{kind}**, {saved['seconds'] / 60:.0f} minutes on {device}: {command}",
            "",
            f"| step | {' | '.join(names)} |",
            "|---" * (1 + len(names)) + "|",
            *(
                f"| {r['step']} | {' | '.join(f'{r[n]:.3f}' if n in r else '' for n in names)} |"
                for r in rows
            ),
            "",
        ]
    lines.append(
        "Of Crys-JEPA this is the last of several trainings (see its model card). What its embedding is worth as a ranking "
        "is in [screening.md](screening.md)."
    )
    return lines


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--discover", type=Path)
    parser.add_argument("--control", type=Path, help="what compete made of the base's control")
    parser.add_argument("--remark", help="what a reader must know of the quick run")
    parser.add_argument("--screening", type=Path, help="screening.json")
    parser.add_argument("--million", type=Path, help="what benchmarks/screen_million.py printed")
    parser.add_argument(
        "--dft", type=Path, nargs=2, help="folders of dft run, and of evaluate on the same crystals"
    )
    parser.add_argument("--include", type=Path, nargs="*", default=[], help="pages that benchmarks wrote")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pages")
    chosen = parser.parse_args()
    made = [
        *([discover_section(chosen.discover, chosen.control)] if chosen.discover else []),
        *([screening_section(chosen.screening)] if chosen.screening else []),
        *([million_section(chosen.million)] if chosen.million else []),
        *([dft_section(*chosen.dft)] if chosen.dft else []),
        *(part for path in chosen.include for part in included(path)),
        curves_section(),
    ]
    if chosen.discover and chosen.remark:
        made[0] += ["", chosen.remark]
    sections = sections_in(chosen.out) | {
        part[0].removeprefix("## "): "\n".join(part).rstrip() for part in made
    }
    if chosen.discover:
        write_headline(chosen.out / INDEX, "quick run", quick_run_words(chosen.discover))
    for path in chosen.include:
        if path.stem in WORDS:
            name, words = WORDS[path.stem]
            told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            write_headline(chosen.out / INDEX, name, words(told))
    write_pages(chosen.out, sections, headlines(chosen.out / INDEX))


def headlines(index: Path) -> list[str]:
    """What the index says in short; the README's table repeats some of its figures."""
    return [index.read_text(encoding="utf-8").split("\n## Headlines\n")[1].split("\n## ")[0].strip()]


if __name__ == "__main__":
    main()
