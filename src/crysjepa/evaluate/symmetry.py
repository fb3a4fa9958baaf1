"""Space groups of crystals, found by moyo."""

from __future__ import annotations

import logging
from functools import lru_cache

import moyopy

from crysjepa.crystals import Crystals

# moyo warns of operations that a non-primitive cell cannot express; only the type of the group is used.
logging.getLogger("moyo").setLevel(logging.ERROR)


def space_groups(crystals: Crystals, symprec: float) -> dict[str, int]:
    """The number of each crystal's space group, 1 to 230, by id; those without one are left out.

    ``symprec`` is the distance tolerance in Å. Atoms that lie closer together have no group at all.
    """
    found = {}
    for id_, cell in zip(crystals.ids, crystals.to_moyo(), strict=True):
        try:
            found[id_] = int(moyopy.MoyoDataset(cell, symprec=symprec).number)
        except ValueError:  # no group can be settled on; null says so
            continue
    return found


@lru_cache(maxsize=230)
def symbol(number: int) -> str:
    """The short Hermann–Mauguin symbol, such as ``Fm-3m`` or ``P2_1/c``."""
    return str(moyopy.SpaceGroupType(number).hm_short).replace(" ", "")
