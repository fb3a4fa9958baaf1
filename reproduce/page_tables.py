"""Tables, from their saved results."""

from __future__ import annotations

from typing import Any

from plan import NO_FORMULA_TWICE

from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.report.wording import rate_with_interval


def page(found: dict[str, Any]) -> str:
    """The table, the time of each ranker, and what it is relative to."""
    rows, plan, seconds = found["rows"], found["plan"], found["seconds"]
    head = [
        "",
        "crystals",
        *RATE_LETTERS.values(),
        "V.S.U.N. on the hull",
        "times the base",
        "hits in new prototypes",
    ]
    bases = {row["name"]: row["vsun"] for row in rows if row["name"].startswith("base")}
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row["name"],
            str(row["num_crystals"]),
            *(rate_with_interval(row, n) for n in (*RATE_LETTERS, "vsun_at_0")),
        ]
        # drawn the same way: with no formula twice more of the base's are unique too
        distinct = row.get("arm", {}).get("distinct")
        base = bases[f"base, {NO_FORMULA_TWICE}" if distinct else "base"]
        own = base and row["name"].startswith("refined")
        cells.append(f"{row['vsun'] / base:.2f}" if own else "–")
        share = row["hits_in_new_prototypes"]
        cells.append("–" if share is None else f"{100 * share:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    times = ", ".join(f"{way} {s:.0f}" for way, s in seconds.items())
    protocol, learning = rows[0]["protocol"], plan["finetune"]
    who = "substitution" if plan["source"] == "substitution" else "the base"
    base_is = (
        f"a flow trained for {plan['base_steps']} steps"
        if plan["base_steps"]
        else plan["generator"] or "the shipped flow"
    )
    learnt = "that converged" if plan["learn_from"] == "chosen" else "found V.S.U.N."
    lines += [
        "",
        f"Where a row does not say otherwise: {plan['pool']} crystals drawn by {who}; of those valid, unique "
        f"and novel as drawn, {plan['select']} chosen; {base_is} fine-tuned for {learning['steps']} steps on "
        f"those of them {learnt}, relaxed. In further rounds the refined flow draws, and learns from what "
        "was chosen in all rounds. In percent of all crystals of the row (those chosen were valid, unique "
        "and novel before they were relaxed), with Wilson intervals of 95 %. "
        f"Preset {protocol['preset']}, {protocol['force_field']}, hull {protocol['hull']}; what matches a "
        "crystal that the generator was fine-tuned on is not novel. "
        f"Seconds of ranking, with an index of the known crystals that was there: {times}.",
    ]
    return "\n".join(lines) + "\n"
