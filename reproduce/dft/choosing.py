"""Who is calculated: a control drawn at random, a short list of the same draw, and how both are judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from crysjepa import api
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.validity import Formula, invalid_structures, reduced_formulas
from crysjepa.energy.support import HullSupport, Support
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.grades import Grade, KnownFormulas
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known
from crysjepa.generators.constraints import Constraints
from crysjepa.ranking.context import RankerContext, labels
from crysjepa.ranking.registry import make_ranker
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.stages.choosing import worth_relaxing

POOL = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Al", "Ga", "Si", "Ge", "O", "F", "S", "Se", "Cl")
"""No open d or f shell, and cheap data sets."""
MAX_SITES = 8
DRAWN = 1500
NUM = 24
"""Crystals of each group."""
RELAXED = 150
"""Crystals that the ranker would have relaxed, of those drawn."""
PROTOCOL = Protocol(relaxation=RelaxSettings(fmax=0.1, max_steps=150, time_limit=300), min_hull_entries=1)


def draw(work: Path) -> Path:
    """All crystals that both groups are of (``drawn.parquet``)."""
    path = work / "drawn.parquet"
    if not path.is_file():
        api.generate(
            DRAWN, path, constraints=Constraints.parse(elements=",".join(POOL), max_sites=MAX_SITES), seed=0
        )
    return path


def at_random(drawn: CandidateTable, num: int = NUM, seed: int = 0) -> CandidateTable:
    """The control: valid structures of two or more elements at random, of each formula one."""
    crystals = drawn.crystals(drawn.ok_ids)
    bad = invalid_structures(crystals)
    seen, chosen = set(), []
    formulas = reduced_formulas(crystals)
    for row in np.random.default_rng((seed, 24)).permutation(len(crystals)).tolist():
        formula = formulas[row]
        if crystals.ids[row] in bad or len(formula) < 2 or formula in seen:
            continue
        seen.add(formula)
        chosen.append(crystals.ids[row])
        if len(chosen) == num:
            break
    return _rows(drawn, chosen)


def promising(drawn: CandidateTable, num: int = RELAXED) -> CandidateTable:
    """What the loop would relax of these: the best by ``jepa-relaxed``, new formulas first."""
    known = Known.load("known")
    hull = known.hull_or_default(None)
    reference = known.crystals()
    context = RankerContext(
        reference, labels(known.table, reference), known.scale, hull, min_hull_entries=1, seed=0
    )
    scores = make_ranker("jepa-relaxed", context).score(drawn.crystals(drawn.ok_ids))
    formulas = KnownFormulas.of(None, hull)
    kept = worth_relaxing(drawn, scores, num, known=formulas, support=HullSupport(hull))
    return kept.with_column("screen_score", {i: scores[i].value for i in kept.ids if i in scores}, "Float64")


def judge(table: CandidateTable, out: Path) -> CandidateTable:
    """Relaxed with CHGNet and judged against the bundled hull, in the folder ``out``."""
    path = out.with_suffix(".parquet")
    table.write(path)
    api.evaluate(path, out, protocol=PROTOCOL, device="cpu")
    return CandidateTable.read(out / "crystals.parquet")


def shortlist(judged: CandidateTable, by: str = "e_above_hull", num: int | None = NUM) -> list[str]:
    """Stable, novel, of a new formula, where the hull is supported and gives no warning; lowest ``by`` first.

    Of each formula the first. ``by`` is ``p_stable``, highest first, where the hull was closed: the order of
    a short list of ``crysjepa discover``, and like there without what the closed hull calls unstable or knows
    a lower polymorph of.
    """
    if by == "p_stable":
        worse = [p is not None for p in judged.column("lower_polymorph")]
        unstable = [s is False for s in judged.column("stable_closed")]
        out = dict.fromkeys(i for i, *no in zip(judged.ids, worse, unstable, strict=True) if any(no))
        judged = judged.decide("closed hull", dict.fromkeys(out, "not on the list"), Status.REJECTED)
    ids = judged.ok_ids
    names = ("stable", "unique", "novel", "novelty_grade", "hull_support", "hull_warning", by)
    columns = [judged.column(n, ids) for n in names]
    found = {}
    for id_, stable, unique, novel, grade, support, warned, above in zip(ids, *columns, strict=True):
        good = stable and unique and novel and grade == Grade.NEW_FORMULA
        if good and support == Support.SUPPORTED and warned is None and above is not None:
            found[id_] = above
    sign = -1 if by == "p_stable" else 1
    order = sorted(found, key=lambda i: (sign * found[i], i))
    formulas = dict(zip(order, reduced_formulas(judged.crystals(order)), strict=True))
    first: dict[Formula, str] = {}
    for id_ in order:
        first.setdefault(formulas[id_], id_)
    return list(first.values())[:num]


def write_to_close(work: Path) -> None:
    """What the closed hull is asked for: the control, and twice the short list, in ``to_close.parquet``."""
    control = CandidateTable.read(work / "control" / "crystals.parquet")
    chosen = CandidateTable.read(work / "chosen" / "crystals.parquet")
    ids = [i for i in shortlist(chosen, num=2 * NUM) if i not in set(control.ids)]
    both = pd.concat([control.frame, _rows(chosen, ids).frame], ignore_index=True)
    there = both[both["energy_per_atom"].notna()].reset_index(drop=True)
    told = energy_metadata(force_field_info(PROTOCOL.force_field), PROTOCOL.relaxation)
    CandidateTable(there).undecided().write(work / "to_close.parquet", told)


def _rows(table: CandidateTable, ids: list[str]) -> CandidateTable:
    frame = table.frame.set_index("id", drop=False).loc[ids].reset_index(drop=True)
    return CandidateTable(frame)
