"""What must be calculated, and in which order: elements, candidates, and what these decompose into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from pymatgen.core import Composition

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Fractions, Hull
from crysjepa.evaluation.force_field_hull import elemental_crystals

ELECTRONS = {
    "Li": 3, "Na": 7, "K": 9, "Mg": 10, "Ca": 10, "Sr": 10, "Al": 3, "Ga": 13, "Si": 4, "Ge": 14, "O": 6,
    "F": 7, "S": 6, "Se": 6, "Cl": 7,
}  # fmt: skip
"""That GPAW's data sets treat as valence; they decide the order alone."""
MOST_SITES = 20
"""Competing phases with larger cells are not calculated."""
NEAR_LOWEST = 0.02
"""eV/atom above the lowest known crystal of a formula, of one that stands for it."""
START_SYMPREC = 0.1
"""Å."""


@dataclass(frozen=True)
class Product:
    """A phase that a composition decomposes into: of ``amount``, its share of the atoms.

    ``id`` is that of a hypothetical competitor; None for an element or a known compound.
    """

    formula: str
    amount: float
    id: str | None = None


def decomposition(hull: Hull, composition: Composition) -> list[Product]:
    """The phases of the hull below this composition, and how many of the atoms are in each (Eq. 5).

    What the hull has of the same composition is one of them: a polymorph competes.
    """
    found = hull.decomposition(composition)
    if not found:
        raise ValueError(f"the hull's linear programme was not solved for {composition.formula}")
    return [Product(f[0][0] if len(f) == 1 else name_of(f), amount) for f, amount in found.items()]


def without(hull: Hull, formulas: Iterable[str]) -> Hull:
    """The hull without these compounds."""
    lost = set(formulas)
    kept = {f: e for f, e in hull.compounds.items() if name_of(f) not in lost}
    return Hull(kept, hull.scale, hull.source, hull.scale_stated)


def name_of(fractions: Fractions) -> str:
    """The reduced formula of a composition in atomic fractions."""
    formula = Composition(dict(fractions)).get_integer_formula_and_factor()[0]
    return Composition(formula).reduced_formula


def element_crystals(symbols: Iterable[str]) -> Crystals:
    """Of each element the crystal with the fewest sites, by the ids ``element-Li``.

    All that are shipped are within 30 meV/atom of the element's lowest (within 2 meV/atom, for the metals of
    the pool that have several).
    """
    known = elemental_crystals()
    rows: dict[str, int] = {}
    for row, id_ in enumerate(known.ids):  # of each the lowest first
        symbol = id_.split("-")[0]
        if symbol not in rows or known.num_atoms[row] < known.num_atoms[rows[symbol]]:
            rows[symbol] = row
    wanted = sorted(symbols)
    return known[[rows[s] for s in wanted]].with_ids([f"element-{s}" for s in wanted])


def phases_of(formulas: Iterable[str], known: CandidateTable) -> tuple[Crystals, dict[str, str]]:
    """Of each formula the lowest known crystal that is small enough, by the ids ``phase-FORMULA``.

    It must be at most :data:`NEAR_LOWEST` above the lowest of that formula. Beside them, why some have none.
    """
    crystals = known.crystals(known.ok_ids)
    energies = known.column("formation_energy_per_atom", crystals.ids)
    wanted, rows = set(formulas), dict[str, list[int]]()
    for row, formula in enumerate(crystals.reduced_formulas()):
        if formula in wanted and energies[row] is not None:
            rows.setdefault(formula, []).append(row)
    missing = {f: "no structure is known" for f in sorted(wanted - set(rows))}
    chosen: dict[str, int] = {}
    for formula, own in sorted(rows.items()):
        own.sort(key=lambda r: energies[r])
        near = [r for r in own if energies[r] <= energies[own[0]] + NEAR_LOWEST]
        small = [r for r in near if crystals.num_atoms[r] <= MOST_SITES]
        if small:
            chosen[formula] = small[0]
        else:
            missing[formula] = (
                f"{min(int(crystals.num_atoms[r]) for r in near)} sites, more than {MOST_SITES}"
            )
    kept = sorted(chosen)
    return crystals[[chosen[f] for f in kept]].with_ids([f"phase-{f}" for f in kept]), missing


def cost_of(crystal: Crystals) -> float:
    """How long a calculation takes beside others: it decides the order alone."""
    import spglib

    electrons = sum(ELECTRONS.get(str(e), 10) * n for e, n in crystal.compositions()[0].items())
    atoms = crystal.to_atoms()[0]
    found = spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), 0.01)
    operations = 1 if found is None else len(found["rotations"])
    return float(electrons**1.5 / min(operations, 24))


def order(
    groups: Sequence[Sequence[str]], needs: Mapping[str, Sequence[str]], cost: Mapping[str, float]
) -> list[str]:
    """Ids in the order of calculation: the groups in turn, the cheapest first, each with what it needs.

    ``needs`` gives, by candidate, the ids of its elements and competing phases, which come just before it.
    """

    def whole(id_: str) -> float:
        return cost[id_] + sum(cost[n] for n in needs.get(id_, ()))

    turns = zip_longest(*(sorted(group, key=lambda i: (whole(i), i)) for group in groups))
    found: dict[str, None] = {}
    for id_ in chain.from_iterable(turns):
        if id_ is not None:
            found.update(dict.fromkeys([*needs.get(id_, ()), id_]))
    return list(found)


def symmetrised(crystals: Crystals) -> Crystals:
    """Start geometries in the space group that they have to 0.1 Å, which relaxation blurred."""
    from ase.spacegroup.symmetrize import refine_symmetry

    atoms = crystals.to_atoms()
    for one in atoms:
        refine_symmetry(one, symprec=START_SYMPREC)
    return Crystals.from_atoms(atoms, crystals.ids)
