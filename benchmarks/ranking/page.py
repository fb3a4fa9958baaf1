"""``screening.md``: tables, and sentences that follow from their numbers."""
# ruff: noqa: E501 - sentences of a page

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crysjepa.runtime.files import write_text
from ranking.notes import notes_on
from ranking.timing import OWN, PAPER_SECONDS, SCALED_TO

Row = Mapping[str, Any]

WHICH = """\
**Which one?** `jepa-hull`, the default, to *order* crystals, relaxed or as a generator drew them: of DiffCSP's raw samples its AUC below is as good as that
of `jepa-relaxed` or better. `jepa-relaxed` where the *number* counts, or where crystals are far from rest (strained, compressed, prototypes filled anew): on
distorted crystals of WBM its F1 is 0.654 against 0.360 ([leaderboards](leaderboards.md#wbm-by-matbench-discoverys-numbers)). A force field, static, orders raw samples a little better and
takes fifty times as long. WBM's crystals below are as DFT relaxed them."""
"""What to take, as its readers ask."""


def write_page(results: Mapping[str, Any], path: Path) -> None:
    """Write the page, all or nothing."""
    write_text(path, "\n".join(page(results)).rstrip() + "\n")


def page(results: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "# What the rankers are worth",
        "",
        "Written by `benchmarks/screening.py`; no figure below the next paragraph is typed in.",
        "",
        WHICH,
        "",
    ]
    if results["quick"]:
        lines += [
            "**A quick run on a part of the data, to try the command out: the numbers mean little.**",
            "",
        ]
    lines += [
        "![ROC curves, AUC against speed, and stable crystals found before relaxation](screening.svg)",
        "",
    ]
    lines += _wbm_section(results)
    lines += _scale_section(results)
    lines += _time_section(results)
    lines += _distance_section(results["distances"])
    lines += _relaxation_section(results["relaxed"])
    lines += ["## Notes", "", *(f"- {note}" for note in notes_on(results)), ""]
    return lines


# -- sections --------------------------------------------------------------------------------------


def _wbm_section(results: Mapping[str, Any]) -> list[str]:
    data, whole, part = results["data"], results["wbm"], results["wbm_subset"]
    lines = [
        "## Ranking hypothetical crystals (WBM, DFT labels)",
        "",
        f"{whole['num']:,} crystals, {percent(whole['base']['0.1'])} of them at most 0.1 eV/atom above the hull and "
        f"{percent(whole['base']['0'])} on or below it, by DFT. Reference: {data['known']:,} known crystals; hull of "
        f"{data['hull']:,} compounds. In brackets: bootstrap 95 % intervals over the crystals. Precision is at 0.1 "
        "eV/atom, with its ratio to chance.",
        "",
        *_ranking_table(whole, results["rankers"]),
        "",
    ]
    if part is not None:
        lines += [
            f"All rankers, the slow ones too, on {part['num']} of these crystals (evenly spaced):",
            "",
            *_ranking_table(part, results["rankers"]),
            "",
        ]
    return lines


def _scale_section(results: Mapping[str, Any]) -> list[str]:
    moved, again = results["wbm_one_scale"], results["wbm_refitted"]
    return [
        "### The same, with labels and hull on one scale",
        "",
        "WBM's formation energies carry the Materials Project's first correction scheme, the hull, the known crystals "
        "and CHGNet that of 2020, which also corrects Br, I, Se, Te, Sb and others where they are anions: by up to 0.5 "
        "eV per atom of them the labels above mix two scales, and no ranking can be right about both. Here the labels "
        "are moved by the difference of the two published schemes (pymatgen's, from composition and structure alone). "
        f"Then {percent(moved['base']['0.1'])} are at most 0.1 eV/atom above the hull, and {percent(moved['base']['0'])} "
        "on or below it.",
        "",
        *_ranking_table(moved, results["rankers"]),
        "",
        "And with the labels as they are, each element's reference energy fitted to the labels of other chemical systems "
        "(five parts, for every ranking alike): what is left when scales do not matter.",
        "",
        *_ranking_table(again, results["rankers"]),
        "",
    ]


def _ranking_table(judged: Mapping[str, Any], about: Mapping[str, Row]) -> list[str]:
    best = [f"best {100 * s:g} %" for s in judged["shares"]]
    lines = table_head("ranker", "labelled crystals behind it", "AUC at 0.1", "AUC at 0", "Spearman", *best)
    for name, row in by_auc(judged["rows"]):
        labels = about[name]["labels"]
        cells = [
            f"`{name}`",
            "?" if labels is None else f"{labels:,}",
            with_interval(row["auc_0.1"]),
            with_interval(row["auc_0"]),
            number(row["spearman"], 2),
        ]
        for share in judged["shares"]:
            precision, gain = row[f"precision_0.1_best_{share:g}"], row[f"enrichment_0.1_best_{share:g}"]
            value = (
                with_interval(precision) if share == max(judged["shares"]) else number(precision["value"], 2)
            )
            cells.append(f"{value}, ×{number(gain, 2)}")
        lines.append(table_row(cells))
    return lines


def _time_section(results: Mapping[str, Any]) -> list[str]:
    timing, about = results["timing"], results["rankers"]
    here = timing["machine"]
    lines = [
        f"## Time for {SCALED_TO:,} crystals",
        "",
        f"On {here['cpu']}, {here['cores']} cores; threads of every ranker: {here['torch_threads']}. Measured on "
        f"{max(timing['num_one_by_one'].values())} crystals one by one (as the paper's Table 2 does) and on "
        f"{max(timing['num_batched'].values())} at once ({timing['num_batched']['chgnet']} for CHGNet, "
        f"{min(timing['num_batched'].values())} in both ways for what is slower still), in {len(timing['rounds'])} rounds in which all took turns; medians, scaled. From crystals "
        'to scores, everything included but loading and compiling. `CHGNet\'s own` is `predict_structure(task="e")` '
        f"from pymatgen structures, batched with its best batch size ({timing['chgnet_batch_size']}), without a hull. "
        "In brackets: slowest and fastest round.",
        "",
        *table_head(
            "ranker",
            "one by one, s",
            "times faster than CHGNet's own",
            "batched, s",
            "times faster than CHGNet's own, batched",
            "paper's Table 2, s",
        ),
    ]
    for name, times in sorted(
        timing["summary"].items(), key=lambda item: item[1]["batched"]["seconds"], reverse=True
    ):
        cells = ["CHGNet's own" if name == OWN else f"`{name}`"]
        for way in ("one_by_one", "batched"):
            t = times[way]
            cells.append(f"{seconds(t['seconds'])} ({seconds(t['low'])}–{seconds(t['high'])})")
            cells.append(
                f"{t['times_faster']:.3g} ({t['times_faster_low']:.3g}–{t['times_faster_high']:.3g})"
            )
        paper = PAPER_SECONDS.get({OWN: "chgnet", "chgnet": ""}.get(name, name))
        cells.append("" if paper is None else f"{paper:,.0f}")
        lines.append(table_row(cells))
    return [*lines, "", *_preparation(about, timing), ""]


def _preparation(about: Mapping[str, Row], timing: Mapping[str, Any]) -> list[str]:
    said = []
    for name, row in about.items():
        if name == "random":
            continue
        title = "by Crys-JEPA (once for its three rankers)" if name.startswith("jepa") else f"for `{name}`"
        if name == "fingerprint":
            spent = timing["summary"][name]["batched"]["seconds"] / SCALED_TO * row["num_reference"]
            text = f"{title} about {seconds(spent)} s (scaled; {row['num_reference']:,} crystals)"
        elif row["preparation"] is None:
            text = f"{title} not measured (it was on disk already)"
        else:
            text = f"{title} {seconds(row['preparation'])} s"
        if text not in said:
            said.append(text)
    known = max(row["num_reference"] for row in about.values())
    return [f"Preparing the reference of {known:,} crystals, once: {'; '.join(said)}."]


def _distance_section(judged: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Variants of the distance",
        "",
        f"The same embeddings of the same {judged['num']:,} WBM crystals. A crystal's references are the known "
        "crystals of its chemical system and its subsystems. *Hull-weighted*: references weighted by "
        "exp(−e_above_hull / 0.05 eV). *System-normalised*: divided by the mean square distance among the references. "
        "*Standardised*, *whitened*: Eq. 11 in coordinates of unit variance. *Learned*: a ridge regression of the "
        "energy above the hull on h − mean(r) and these distances, fitted on the known crystals alone; on chemical "
        f"systems left out it errs by {1000 * judged['learned']['error']:.0f} meV/atom, guessing their mean by "
        f"{1000 * judged['learned']['of_the_mean']:.0f}.",
        "",
        *table_head("variant", "AUC at 0.1", "less that of Eq. 11", "AUC at 0", "precision in the best 10 %"),
    ]
    for name, row in by_auc(judged["rows"]):
        change = judged["differences"]["Eq. 11"].get(name)
        cells = [
            name,
            with_interval(row["auc_0.1"]),
            "" if change is None else with_interval(change, signed=True),
            with_interval(row["auc_0"]),
            with_interval(row["precision_0.1_best_0.1"]),
        ]
        lines.append(table_row(cells))
    return [*lines, ""]


def _relaxation_section(relaxed: Mapping[str, Any]) -> list[str]:
    lines = ["## Before relaxation", ""]
    if not relaxed["sets"]:
        return [*lines, f"Not measured: {relaxed['reason']}.", ""]
    settings = relaxed["settings"]
    lines += [
        "Crystals as a generator makes them, scored before relaxation and labelled after it: by "
        f"{relaxed['force_field']}, to {settings['fmax']:g} eV/Å in at most {settings['max_steps']} steps. A crystal "
        "that cannot be relaxed is not stable. The share of the finally stable crystals that is found when only the "
        "best-ranked are relaxed:",
        "",
    ]
    for name, judged in relaxed["sets"].items():
        lines += _found_table(name, judged)
    return lines


def _found_table(name: str, judged: Mapping[str, Any]) -> list[str]:
    shares = judged["shares"]
    head = table_head(
        "ranker",
        "AUC at 0.1",
        *(f"relax {100 * s:g} %: ≤ 0.1" for s in shares),
        "AUC at 0",
        *(f"relax {100 * s:g} %: ≤ 0" for s in shares),
    )
    lines = [
        f"**{name}**: {judged['num']:,} crystals, of which {percent(judged['base']['0.1'])} end at most 0.1 eV/atom "
        f"above the hull and {percent(judged['base']['0'])} on or below it.",
        "",
        *head,
        table_row(["*perfect*", *_of_all(judged, lambda limit, s: judged["perfect"][limit][f"{s:g}"], "1")]),
        table_row(["*chance*", *_of_all(judged, lambda limit, s: s, "0.5")]),
    ]
    for ranker, row in by_auc(judged["rows"]):
        cells = [f"`{ranker}`"]
        for limit in ("0.1", "0"):
            cells.append(with_interval(row[f"auc_{limit}"]))
            for s in shares:
                cells.append(number(row[f"found_{limit}_best_{s:g}"]["value"], 2))
        lines.append(table_row(cells))
    return [*lines, ""]


def _of_all(judged: Mapping[str, Any], value: Any, auc: str) -> list[str]:
    return [
        cell
        for limit in ("0.1", "0")
        for cell in [auc, *(number(value(limit, s), 2) for s in judged["shares"])]
    ]


# -- pieces ----------------------------------------------------------------------------------------


def by_auc(rows: Mapping[str, Row]) -> list[tuple[str, Row]]:
    """Best first."""
    return sorted(rows.items(), key=lambda item: -(item[1]["auc_0.1"]["value"] or 0.0))


def table_head(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [table_row(names), "|---" * len(names) + "|"]


def table_row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def with_interval(estimate: Row, *, signed: bool = False) -> str:
    """Such as ``0.912 (0.904–0.920)``."""
    if estimate["value"] is None:
        return "–"
    form = "{:+.3f}" if signed else "{:.3f}"
    value, low, high = (
        "?" if estimate[k] is None else form.format(estimate[k]) for k in ("value", "low", "high")
    )
    return f"{value} ({low}{' to ' if signed else '–'}{high})"


def number(value: float | None, digits: int) -> str:
    """A number, or a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """Such as ``54.1 %``."""
    return f"{100 * share:.1f} %"


def seconds(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
