"""What the numbers say, and what they do not: sentences, each from the results alone."""
# ruff: noqa: E501 - sentences of a page

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ranking.timing import OWN, PAPER_SECONDS

Results = Mapping[str, Any]


def notes_on(results: Results) -> list[str]:
    """Sentences for the end of the page."""
    return [
        *_ranking_notes(results["wbm"], "On WBM"),
        *_what_is_behind(results),
        *_distance_notes(results["distances"]),
        *_relaxation_notes(results["relaxed"]),
        *_time_notes(results["timing"]),
        *(f"Not compared: `{name}` ({why})." for name, why in results["missing"].items()),
        *_ranker_notes(results["rankers"]),
    ]


def verdict(difference: Mapping[str, Any]) -> str:
    """What an interval of a difference says of its sign."""
    if difference["low"] is None or difference["low"] <= 0 <= difference["high"]:
        return "cannot be told apart"
    return "ranks better" if difference["low"] > 0 else "ranks worse"


def _ranking_notes(judged: Results, where: str) -> Iterator[str]:
    for base, others in judged["differences"].items():
        told = [
            f"`{name}` {verdict(change)}, {_signed(change)}"
            for name, change in others.items()
            if name.startswith("jepa") and change["value"] is not None
        ]
        if told:
            yield f"{where}, AUC at 0.1 eV/atom less that of `{base}`: {'; '.join(told)}."
    unscored = {n: judged["num"] - row["num_scored"] for n, row in judged["rows"].items()}
    last = ", ".join(f"`{n}` {missing}" for n, missing in unscored.items() if missing)
    if last:
        yield f"{where}, crystals without a score are ranked last: {last}."


def _what_is_behind(results: Results) -> Iterator[str]:
    labels = {n: row["labels"] for n, row in results["rankers"].items()}
    if labels.get("chgnet") and labels.get("jepa-hull"):
        share = labels["jepa-hull"] / labels["chgnet"]
        yield (
            f"Crys-JEPA learned from {labels['jepa-hull']:,} crystals with energies, {share:.2g} times as many as "
            f"the {labels['chgnet']:,} structures behind CHGNet, which have forces, stresses and moments too. Which "
            "they are, and which of them a force field labelled, is in the model's card."
        )
    yield "Rankers that give an energy above the hull use the hull's compounds as well, which are not counted."


def _distance_notes(judged: Results) -> Iterator[str]:
    changes = {n: c for n, c in judged["differences"]["Eq. 11"].items() if c["value"] is not None}
    better = [n for n, c in changes.items() if verdict(c) == "ranks better"]
    worse = [n for n, c in changes.items() if verdict(c) == "ranks worse"]
    auc = judged["rows"]["Eq. 11"]["auc_0.1"]
    if auc["low"] is not None and auc["low"] <= 0.5:
        yield "With these embeddings the distance of Eq. 11 by itself does not rank better than chance."
    yield (
        f"Of the variants of Eq. 11, better: {_listed(better)}; worse: {_listed(worse)}; no difference beyond "
        f"chance: {_listed([n for n in changes if n not in better + worse])}."
    )


def _relaxation_notes(relaxed: Results) -> Iterator[str]:
    for name, judged in relaxed["sets"].items():
        yield from _ranking_notes(judged, f"Before relaxation ({name})")
        share = judged["shares"][len(judged["shares"]) // 2]
        found = {n: row[f"found_0.1_best_{share:g}"]["value"] for n, row in judged["rows"].items()}
        known = {n: v for n, v in found.items() if v is not None}
        if known:
            best = max(known, key=lambda n: known[n])
            yield (
                f"{name}: relaxing the best {100 * share:g} % by `{best}` finds {100 * known[best]:.0f} % of the stable, "
                f"where chance finds {100 * share:g} % and a perfect ranking "
                f"{100 * judged['perfect']['0.1'][f'{share:g}']:.0f} %."
            )
        yield (
            f"{name}: {judged['num_invalid']} more crystals are invalid and not ranked; {judged['num_failed']} of the "
            f"ranked could not be relaxed and count as not stable; {judged['num_not_converged']} were judged by where "
            f"they stood after the last step; {judged['num_without_label']} have no label and are left out."
        )
    if relaxed["sets"]:
        yield (
            f"These labels are {relaxed['force_field']}'s own, not DFT's: they favour its ranker, and any model that "
            "learned from its energies."
        )


def _time_notes(timing: Results) -> Iterator[str]:
    paper = PAPER_SECONDS["chgnet"] / PAPER_SECONDS["jepa-distance"]
    ours = timing["summary"].get("jepa-distance")
    if ours is not None:
        yield (
            f"One by one, `jepa-distance` is {ours['one_by_one']['times_faster']:.3g} times as fast as CHGNet's own call "
            f"here, and {paper:.3g} times in the paper's Table 2 (on a GPU, another encoder); batched, "
            f"{ours['batched']['times_faster']:.3g} times."
        )
    ranker = timing["summary"].get("chgnet")
    if ranker is not None:
        yield (
            f"The ranker `chgnet` takes {1 / ranker['batched']['times_faster']:.2g} times as long as CHGNet's own call "
            f"in batches, {1 / ranker['one_by_one']['times_faster']:.2g} times one by one."
        )
    busiest, cores = max(timing["load_before_each_round"]), timing["machine"]["cores"]
    if busiest > cores + 0.5:
        yield (
            f"The machine was busy with other work (load up to {busiest:.1f} on {cores} cores): seconds are too high, "
            "and ratios, of times that were taken one after the other, are what to trust."
        )
    slowest = max(t[w]["high"] / t[w]["low"] for n, t in timing["summary"].items() if n != OWN for w in t)
    yield f"Between rounds, times of one ranker differ by up to a factor of {slowest:.2g}."


def _ranker_notes(about: Results) -> Iterator[str]:
    for name, row in about.items():
        for note in row["notes"]:
            yield f"`{name}`: {note}."


def _signed(difference: Mapping[str, Any]) -> str:
    return f"{difference['value']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
