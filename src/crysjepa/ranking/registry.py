"""Rankers: what ``screen --by NAME`` can rank crystals by, behind one interface.

>>> ranker = make_ranker("jepa-hull", RankerContext(reference, hull=hull))               # doctest: +SKIP
>>> ranker.score(crystals)["id-1"].value                                                  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crysjepa.ranking.base import Ranker, Score, ranks
from crysjepa.ranking.composition import composition
from crysjepa.ranking.context import RankerContext
from crysjepa.ranking.fingerprints.ranker import fingerprint
from crysjepa.ranking.force_field import static_energy
from crysjepa.ranking.jepa import jepa_distance, jepa_hull, jepa_relaxed
from crysjepa.ranking.random_control import random
from crysjepa.relaxation.force_fields.registry import force_field_names

__all__ = ["RANKERS", "Ranker", "RankerContext", "RankerInfo", "Score", "make_ranker", "ranker_info", "ranks"]


@dataclass(frozen=True)
class RankerInfo:
    """What is known of a ranker before it is made: what it ranks by, what makes it, what it needs."""

    name: str
    description: str
    make: Callable[[RankerContext], Ranker]
    needs_reference: bool = True
    needs_hull: bool = True
    force_field: bool = False


def _force_field(name: str) -> RankerInfo:
    return RankerInfo(name, f"static energy above hull by {name}", static_energy(name), force_field=True)


RANKERS: dict[str, RankerInfo] = {
    info.name: info
    for info in (
        RankerInfo(
            "jepa-distance", "mean distance to known crystals (Eq. 11)", jepa_distance, needs_hull=False
        ),
        RankerInfo("jepa-hull", "energy above hull, read out of the embedding", jepa_hull),
        RankerInfo("jepa-relaxed", "the same of what the crystal is predicted to relax to", jepa_relaxed),
        RankerInfo("fingerprint", "Eq. 11 with fingerprints (appendix D.4)", fingerprint, needs_hull=False),
        RankerInfo("composition", "energy above hull expected of the composition alone", composition),
        *(_force_field(name) for name in force_field_names()),
        RankerInfo("random", "chance", random, needs_reference=False, needs_hull=False),
    )
}
"""Every ranker by its name: the one place that lists them."""


def ranker_info(name: str) -> RankerInfo:
    """What is known of a ranker; ``"module:attribute"`` names the static energy of an ASE calculator.

    Raises ValueError for an unknown name.
    """
    if name in RANKERS:
        return RANKERS[name]
    if ":" in name:
        return _force_field(name)
    raise ValueError(f"no ranker {name!r}: choose from {', '.join(RANKERS)}")


def make_ranker(name: str, context: RankerContext) -> Ranker:
    """A ranker by its name.

    Raises
    ------
    ValueError
        For an unknown name, or where the context lacks what the ranker needs.
    ScaleMismatch
        Where energies of two scales would be mixed (a ValueError too).
    FileNotFoundError
        For a force field without elemental references for the hull's scale.
    ImportError
        Where a package is absent; the message says what to install.
    """
    return ranker_info(name).make(context)
