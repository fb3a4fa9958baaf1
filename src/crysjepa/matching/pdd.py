"""Sameness by a distance: the earth mover's distance of pointwise distance distributions.

The PDD of a crystal lists, for each of its sites, the distances to the nearest k; its mean over sites is the
AMD [Widdowson et al., MATCH 87, 529 (2022); Widdowson and Kurlin, NeurIPS 2022]. Neither depends on the cell,
and both change continuously when atoms move, which no hash and no yes or no of a matcher does. They know
distances only, not elements: crystals are compared within a formula, and two cations that change places are
not seen. Nor are volumes scaled.

The package average-minimum-distance computes them. Its licence, CC BY-NC-SA 4.0, forbids commercial use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import misshapen
from crysjepa.core.validity import Formula, reduced_cell, reduced_formulas
from crysjepa.matching.structure_matcher import natural_key
from crysjepa.matching.uniqueness import Matching
from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit

NEIGHBOURS = 100
"""k; what LeMat's benchmark takes."""
MAX_DISTANCE = 0.1
"""Å; crystals at most this far apart are the same."""
TIME_LIMIT = 60.0
"""Seconds of CPU for one crystal."""
_PIECE = 50

Pdd = NDArray[np.float64]
"""(rows, 1 + k): the weight of each kind of site, then the distances to its neighbours in Å."""


def pdds(crystals: Crystals, *, processes: int = 1) -> tuple[dict[str, Pdd], dict[str, str]]:
    """``{id: PDD}``, and ``{id: reason}`` of the crystals that have none.

    Raises ImportError, naming the extra, where average-minimum-distance is not installed.
    """
    _amd()
    found: dict[str, Pdd] = {}
    failures: dict[str, str] = {}
    pieces = [(crystals[i : i + _PIECE],) for i in range(0, len(crystals), _PIECE)]
    for one, failed in in_processes(_of_piece, pieces, processes):
        found.update(one)
        failures.update(failed)
    return found, failures


def distance(one: Pdd, other: Pdd) -> float:
    """Å; the earth mover's distance of two PDDs, sites being as far apart as their least like neighbours."""
    return float(_amd().EMD(one, other))


class PddIndex:
    """Known crystals and their PDDs, those of a formula computed when it is first asked for.

    Raises ImportError as :func:`pdds` does, before anything is computed.
    """

    def __init__(self, crystals: Crystals) -> None:
        _imported()
        self.crystals = crystals
        self._rows: dict[Formula, list[int]] = defaultdict(list)
        for row, formula in enumerate(reduced_formulas(crystals)):
            self._rows[formula].append(row)
        self._found: dict[str, Pdd] = {}
        self._failures: dict[str, str] = {}

    def prepare(self, formulas: Iterable[Formula], processes: int = 1) -> None:
        """Compute those of these formulas that are not there yet."""
        known = self._found.keys() | self._failures.keys()
        rows = sorted({row for f in dict.fromkeys(formulas) for row in self._rows.get(f, [])})
        found, failures = pdds(
            self.crystals[[r for r in rows if self.crystals.ids[r] not in known]], processes=processes
        )
        self._found |= found
        self._failures |= failures

    def match(self, formula: Formula, one: Pdd) -> tuple[str | None, str | None]:
        """The first known crystal of a prepared formula that is near enough; without one, why one may be."""
        ids = sorted((self.crystals.ids[row] for row in self._rows.get(formula, [])), key=natural_key)
        if match := _first_near(one, [(i, self._found[i]) for i in ids if i in self._found]):
            return match, None
        failed = [i for i in ids if i in self._failures]
        return None, f"the known crystal {failed[0]}: {self._failures[failed[0]]}" if failed else None


def unique_by_pdd(
    crystals: Crystals,
    *,
    ranks: Mapping[str, int] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The earlier crystal of its formula that each one is near to, or None.

    One greedy pass as in :func:`crysjepa.matching.uniqueness.unique`: to be near is not transitive.
    """
    ranks = ranks or {}
    found, failures = pdds(crystals, processes=processes)
    formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
    kept: dict[Formula, list[tuple[str, Pdd]]] = defaultdict(list)
    matches: dict[str, str | None] = {}
    for id_ in sorted(found, key=lambda i: (ranks.get(i, 0), natural_key(i))):
        same = kept[formulas[id_]]
        matches[id_] = _first_near(found[id_], same)
        if matches[id_] is None:
            same.append((id_, found[id_]))
        if progress:
            progress(len(matches) + len(failures), len(crystals))
    return Matching({i: matches[i] for i in crystals.ids if i in matches}, failures)


def novel_by_pdd(
    crystals: Crystals,
    reference: Crystals | PddIndex,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The first known crystal of its formula, in the natural order of the ids, that each one is near to."""
    known = reference if isinstance(reference, PddIndex) else PddIndex(reference)
    found, failures = pdds(crystals, processes=processes)
    formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
    known.prepare(formulas.values(), processes)
    result = Matching({}, failures)
    for done, (id_, one) in enumerate(found.items(), start=len(failures) + 1):
        match, failure = known.match(formulas[id_], one)
        if failure:
            result.failures[id_] = failure
        else:
            result.matches[id_] = match
        if progress:
            progress(done, len(crystals))
    return result


def _first_near(one: Pdd, others: Sequence[tuple[str, Pdd]]) -> str | None:
    for id_, other in others:
        # The AMDs are no further apart than the PDDs: the mean over sites is one way to move them.
        if np.abs(_mean(one) - _mean(other)).max() <= MAX_DISTANCE and distance(one, other) <= MAX_DISTANCE:
            return id_
    return None


def _mean(pdd: Pdd) -> NDArray[np.float64]:
    """The AMD."""
    return np.asarray(pdd[:, 0] @ pdd[:, 1:])


def _of_piece(crystals: Crystals) -> tuple[dict[str, Pdd], dict[str, str]]:
    amd, found, failures = _amd(), {}, {}
    for crystal in crystals:
        (id_,) = crystal.ids
        if (reason := misshapen(crystal)) is not None:  # there, neighbours would be looked for without end
            failures[id_] = reason
            continue
        try:
            with time_limit(TIME_LIMIT, of_cpu=True):
                cell, frac = reduced_cell(crystal)
                found[id_] = amd.PDD(amd.PeriodicSet(frac @ cell, cell), NEIGHBOURS)
        except Exception as error:  # noqa: BLE001 - the reason is kept, and costs one crystal
            failures[id_] = f"no PDD ({describe_error(error)})"
        except TimeLimitExceeded:
            failures[id_] = f"no PDD within {TIME_LIMIT:g} s of CPU"
    return found, failures


@lru_cache(maxsize=1)
def _amd() -> Any:
    """The package, compiled: numba's first call takes longer than a crystal may."""
    amd = _imported()
    one = amd.PDD(amd.PeriodicSet(np.array([[0.0, 0, 0], [0.4, 0, 0]]), np.eye(3)), NEIGHBOURS)
    amd.EMD(one, one)
    return amd


def _imported() -> Any:
    try:
        import amd
    except ImportError as error:
        raise ImportError(
            f'PDDs need average-minimum-distance: pip install "crysjepa[pdd]" ({error})'
        ) from error
    return amd
