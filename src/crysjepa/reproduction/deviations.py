"""In what a reproduction departs from the paper, and why: written beside its tables."""

from __future__ import annotations

from typing import NamedTuple

from crysjepa.nn.train_settings import TrainSettings
from crysjepa.relaxation.relax import RelaxSettings
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
    Deviation("temperature τ is not given", "0.1", "a choice of ours"),
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
    """Every one that is known: of the models, what was named, how much there is, and what is left out."""
    found = list(_OF_THE_MODELS)
    if plan.lattice_noise == "crystal" and plan.generator is None:
        found.append(_LATTICE_NOISE)
    return [*found, *_as_named(plan), *_as_set(plan), *_left_out(plan)]


def _as_named(plan: Plan) -> list[Deviation]:
    """Models, data and judges that are others."""
    full, found = plan_for(plan.preset), list[Deviation]()
    for name, words in (("generator", "the base model is trained"), ("jepa", "Crys-JEPA is pretrained")):
        if getattr(plan, name) is not None:
            found.append(Deviation(words, f"the checkpoint {getattr(plan, name)}", "as named"))
    for name in ("training", "pretraining", "reference", "hull"):
        if getattr(plan, name) != getattr(full, name) and not (name == "pretraining" and plan.jepa):
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
    return found


def _as_set(plan: Plan) -> list[Deviation]:
    """How much there is of everything."""
    full, scaled, found = plan_for(plan.preset), plan_for(plan.preset, plan.scale), list[Deviation]()

    def differs(name: str, paper: str, here: str) -> None:
        asked = getattr(plan, name) == getattr(scaled, name)
        if getattr(plan, name) != getattr(full, name):
            found.append(Deviation(paper, here, "the scale asked for" if asked else "as set"))

    if plan.generator is None or plan.jepa is None:
        differs("size", "networks of 25 and 151 million parameters", f"{plan.size} of each that is trained")
    differs("num", f"{full.num:,} crystals drawn, 𝒩", f"{plan.num:,}")
    differs("batches", f"{full.batches} batches", f"{plan.batches}")
    differs("batch_size", f"{full.batch_size:,} crystals in a batch", f"{plan.batch_size:,}")
    best = f"the best {full.keep:.0%} of the V.U.N. crystals are learnt from"
    if plan.keep != full.keep:
        differs("keep", best, f"the best {plan.keep:.3g} of them")
    differs("at_least", best, f"{plan.at_least} at least, for fewer teach nothing")
    for name in ("relaxation", "pretrain", "train", "finetune"):
        at_full_scale = f"{name}: not given; at full scale {_briefly(getattr(full, name))}"
        differs(name, at_full_scale, _briefly(getattr(plan, name)))
    return found


def _briefly(settings: TrainSettings | RelaxSettings) -> str:
    """What decides most."""
    if isinstance(settings, RelaxSettings):
        return f"to {settings.fmax:g} eV/Å in at most {settings.max_steps} steps"
    return f"{settings.steps:,} steps of {settings.batch_size} at {settings.learning_rate:g}"


def _left_out(plan: Plan) -> list[Deviation]:
    """What of the paper is not done."""
    found = list[Deviation]()
    for name, words in (("fingerprint", "fingerprints rank"), ("chgnet", "CHGNet ranks")):
        if name not in plan.rankers and plan.preset == "paper-mp20":
            found.append(Deviation(f"{words}, too (Table 2)", "left out", "rankers as set"))
    if not plan.figures:
        found.append(Deviation("trends (Fig. 1b, 5a), map (Fig. 3)", "left out", "figures as set"))
    map_of = "the map of the embedding shows both data sets (Fig. 3)"
    found.append(Deviation(map_of, "the first of them", "one file is read"))
    if not plan.ablations:
        others = "other k and 𝒩, other losses (appendix C)"
        found.append(Deviation(others, "left out", "ask with --ablations"))
    return [*found, *_LEFT_OUT]


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " and ".join(value)
