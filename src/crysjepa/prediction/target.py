"""The formula whose crystals are looked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from crysjepa.core.chemical_systems import atomic_numbers, element_symbols
from crysjepa.energy.compositions import other_reading, read_composition
from crysjepa.generators.constraints import NOBLE_GASES
from crysjepa.generators.flow.network import NUM_ELEMENTS
from crysjepa.runtime.notes import UsageError

if TYPE_CHECKING:
    from pymatgen.core import Composition

_WHOLE = 1e-6


@dataclass(frozen=True)
class Target:
    """A formula unit: atoms of each element by atomic number, without a common divisor."""

    counts: Mapping[int, int]

    @classmethod
    def parse(cls, formula: str, max_sites: int) -> Target:
        """From text such as ``LiMnPO4``, ``Ca3(PO4)2`` or ``Li4Mn4P4O16``, which is the first again.

        Raises UsageError for what is no formula, amounts that are not whole, elements that no generator
        knows, and a formula unit of more than ``max_sites`` atoms.
        """
        from pymatgen.core import Composition

        fractions, reason = read_composition(formula)
        if fractions is None:
            raise UsageError(f"no formula: {reason}")
        amounts = {str(e): float(n) for e, n in Composition(formula).get_el_amt_dict().items() if n > 0}
        if any(abs(n - round(n)) > _WHOLE for n in amounts.values()):
            whole, _ = Composition(formula).get_integer_formula_and_factor(max_denominator=100)
            raise UsageError(f"{formula} has amounts that are not whole numbers: write {whole}, for instance")
        divisor = math.gcd(*(round(n) for n in amounts.values()))
        counts = {atomic_numbers()[e]: round(n) // divisor for e, n in sorted(amounts.items())}
        target = cls(dict(sorted(counts.items())))
        beyond = [e for e in amounts if atomic_numbers()[e] > NUM_ELEMENTS]
        if beyond:
            raise UsageError(f"{beyond[0]} is beyond the first {NUM_ELEMENTS} elements, which the flow knows")
        if target.unit > max_sites:
            hint = f"; did you mean {other}?" if (other := other_reading(formula)) else ""
            raise UsageError(
                f"a formula unit of {target.formula} has {target.unit} atoms, more than the {max_sites} "
                f"sites that a cell may have (--max-sites){hint}"
            )
        return target

    @property
    def unit(self) -> int:
        """Atoms of a formula unit."""
        return sum(self.counts.values())

    @cached_property
    def composition(self) -> Composition:
        """Of a formula unit."""
        from pymatgen.core import Composition

        symbols = element_symbols()
        return Composition({symbols[z]: n for z, n in self.counts.items()})

    @property
    def formula(self) -> str:
        """Reduced, as pymatgen writes it."""
        return str(self.composition.reduced_formula)

    @property
    def key(self) -> tuple[tuple[int, int], ...]:
        """As :func:`crysjepa.core.validity.reduced_formulas` has it."""
        return tuple(sorted(self.counts.items()))

    def unusual(self) -> str | None:
        """What to beware of: a noble gas, which the models hardly saw."""
        symbols = element_symbols()
        gases = [symbols[z] for z in self.counts if z in NOBLE_GASES]
        return f"{', '.join(gases)}: the models saw hardly any noble gas" if gases else None
