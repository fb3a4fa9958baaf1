"""In what a reproduction departs from the paper, and why: written beside its tables."""

from __future__ import annotations

from typing import NamedTuple

from crysjepa.reproduction.plan import Plan, plan_for


class Deviation(NamedTuple):
    """What the paper says, what was done, and the reason."""

    paper: str
    here: str
    reason: str


_OF_THE_MODELS = (
    Deviation(
        "six lattice numbers in the embedding's atom vectors (Eq. 2, 3)",
        "all nine, in units of 5 Å",
        "the augmentation turns the lattice, and a turned one is no longer symmetric",
    ),
    Deviation(
        "Eq. 19 while it samples",
        "x_0 held within what it can be, as Ho et al. do",
        "in the first steps Eq. 19 divides by some thousandths, and the network's errors grow by as much",
    ),
    Deviation(
        "temperature τ, rates and lengths of training are not given",
        "0.1; settings below",
        "choices of ours",
    ),
    Deviation("how far to relax is not given", "settings below", "a choice of ours"),
)
_LATTICE_NOISE = Deviation(
    "lattice noise on every atom (Eq. 3)",
    "drawn once a crystal",
    "the text does not say what becomes of the copies; lattice_noise is a setting",
)
_LEFT_OUT = (
    Deviation(
        "eSEN-30M-MP as a ranker (Table 2)",
        "left out",
        "fairchem loads another checkpoint",
    ),
    Deviation(
        "DFT of 1,000 crystals (Tables 1 and 3)",
        "left out",
        "crysjepa dft export writes the inputs for a list that you choose",
    ),
)


def deviations(plan: Plan) -> list[Deviation]:
    """Every one that is known, in the order of the paper."""
    full, scaled = plan_for(plan.preset), plan_for(plan.preset, plan.scale)
    found = list(_OF_THE_MODELS)
    found += [_LATTICE_NOISE] if plan.lattice_noise == "crystal" else []
    for name, words in (("generator", "the base model is trained"), ("jepa", "Crys-JEPA is pretrained")):
        if getattr(plan, name) is not None:
            found.append(Deviation(words, f"the checkpoint {getattr(plan, name)}", "as named"))
    if plan.size != full.size:
        found.append(
            Deviation(
                "networks of 25 and 151 million parameters", f"{plan.size} of each", "the scale asked for"
            )
        )
    for name in ("training", "pretraining", "reference", "hull"):
        if getattr(plan, name) != getattr(full, name):
            found.append(
                Deviation(_text(getattr(full, name)), _text(getattr(plan, name)), f"{name} as named")
            )
    if plan.force_field != full.force_field:
        found.append(Deviation("MatterSim-v1-1M relaxes and judges", plan.force_field, "as named"))
    if plan.force_field in plan.rankers:
        found.append(
            Deviation(
                "rankers that are not the judge", f"{plan.force_field} ranks and judges",
                "its row is too favourable: it is judged by its own energies",
            )
        )  # fmt: skip
    for name, words in (("num", "crystals drawn, 𝒩"), ("batch_size", "crystals in a batch")):
        if getattr(plan, name) != getattr(full, name):
            asked, there = getattr(full, name), getattr(plan, name)
            reason = "the scale asked for" if there == getattr(scaled, name) else "as set"
            found.append(Deviation(f"{asked:,} {words}", f"{there:,}", reason))
    if plan.batches != full.batches:
        found.append(Deviation(f"{full.batches} batches", f"{plan.batches}", "as set"))
    if missing := [n for n in full.rankers if n not in plan.rankers]:
        found.append(Deviation("every ranker of Table 2", f"not {', '.join(missing)}", "as set"))
    found.append(
        Deviation(
            "the map of the embedding shows both data sets (Fig. 3)", "the first of them", "one is read"
        )
    )
    if plan.at_least > 1 or plan.keep != full.keep:
        found.append(
            Deviation(
                f"the best {full.keep:.0%} of the V.U.N. crystals are learnt from",
                f"the best {plan.keep:.0%}, and {plan.at_least} at least",
                "fewer teach nothing" if plan.keep == full.keep else "as set",
            )
        )  # fmt: skip
    if plan.preset == "paper-alex-mp20":
        found.append(
            Deviation(
                "CHGNet as a ranker", "left out", "Alex-MP-20 comes without the energies of its crystals"
            )
        )  # fmt: skip
    if not plan.ablations:
        found.append(
            Deviation("other k and 𝒩, other losses (appendix C)", "left out", "ask with --ablations")
        )
    return [*found, *_LEFT_OUT]


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " and ".join(value)
