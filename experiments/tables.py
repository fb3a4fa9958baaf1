"""The tables of the experiments, from their saved results."""

from __future__ import annotations

from typing import Any

from crysjepa.report.wording import rate_with_interval

RATES = {"valid": "V", "stable": "S", "unique": "U", "novel": "N", "sun": "S.U.N.", "vsun": "V.S.U.N."}


def page(found: dict[str, Any]) -> str:
    """The table, the time of each ranker, and what it is relative to."""
    rows, plan, seconds = found["rows"], found["plan"], found["seconds"]
    head = [
        "",
        "crystals",
        *RATES.values(),
        "V.S.U.N. on the hull",
        "times the base",
        "hits in new prototypes",
    ]
    base = rows[0]["vsun"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row["name"],
            str(row["num_crystals"]),
            *(rate_with_interval(row, n) for n in (*RATES, "vsun_at_0")),
        ]
        own = base and row["name"].startswith("refined")
        cells.append(f"{row['vsun'] / base:.2f}" if own else "–")
        share = row["hits_in_new_prototypes"]
        cells.append("–" if share is None else f"{100 * share:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    first = {n.removeprefix("rank by "): s for n, s in seconds.items() if n.startswith("rank by ")}
    times = ", ".join(f"{n} {s:.0f}" for n, s in first.items() if n.endswith((" base", " substitution")))
    protocol, learning = rows[0]["protocol"], plan["finetune"]
    who = "substitution" if plan["source"] == "substitution" else "the base"
    base_is = f"a flow trained for {plan['base_steps']} steps" if plan["base_steps"] else "the shipped flow"
    learnt = "that converged" if plan["learn_from"] == "chosen" else "found V.S.U.N."
    lines += [
        "",
        f"Where a row does not say otherwise: {plan['pool']} crystals drawn by {who}; of those valid, unique "
        f"and novel as drawn, {plan['select']} chosen; {base_is} fine-tuned for {learning['steps']} steps on "
        f"those of them {learnt}, relaxed. In further rounds the refined flow draws, and learns from what "
        "was chosen in all rounds. In percent of all crystals of the row (those chosen were valid, unique "
        "and novel before they were relaxed), with Wilson intervals of 95 %. "
        f"Preset {protocol['preset']}, {protocol['force_field']}, hull {protocol['hull']}; what matches a "
        f"crystal that the generator was fine-tuned on is not novel. "
        + ("No formula is judged twice of the base and of the refined. " if plan["distinct"] else "")
        + f"Seconds of ranking, with an index of the known crystals that was there: {times}.",
    ]
    return "\n".join(lines) + "\n"
