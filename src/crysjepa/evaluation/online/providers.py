"""Databases of known phases that answer over the network, and what an entry of theirs says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Provider:
    """A database of computed crystals that answers over the network.

    ``scale`` says which corrections and references its formation energies carry (see
    :func:`crysjepa.energy.elemental_references.check_scales`). ``formation_energy`` and ``e_above_hull``
    (eV/atom) are the keys to follow within an entry's attributes, ``formula`` is the attribute with its
    composition. ``page_limit`` entries are asked for at once: by ``elements HAS ONLY``, a chemical system
    with all its subsystems, or, without ``subsets``, each set of elements by itself. ``key_variable`` is the
    environment variable with the key that it needs.
    """

    name: str
    base_url: str
    scale: str
    licence: str
    citation: str
    formation_energy: tuple[str, ...]
    e_above_hull: tuple[str, ...]
    formula: str = "chemical_formula_reduced"
    page_limit: int = 100
    subsets: bool = True
    key_variable: str | None = None


_MP = ("materials_project", "CC BY 4.0 (Materials Project)")
_MP_CITATION = "A. Jain et al., APL Materials 1 (2013) 011002, doi:10.1063/1.4812323"
_GGA_U = ("_mp_stability", "gga_gga+u")
"""The MP2020 scale. Never "gga_gga+u_r2scan", which mixes functionals."""

PROVIDERS: dict[str, Provider] = {
    "mp": Provider(
        "Materials Project by OPTIMADE",
        "https://optimade.materialsproject.org",
        *_MP,
        _MP_CITATION,
        (*_GGA_U, "formation_energy_per_atom"),
        (*_GGA_U, "energy_above_hull"),
    ),
    "alexandria": Provider(
        "Alexandria PBE by OPTIMADE",
        "https://alexandria.icams.rub.de/pbe",
        "alexandria_pbe",
        "CC BY 4.0 (Alexandria)",
        "J. Schmidt et al., Advanced Materials 35 (2023) 2210788, doi:10.1002/adma.202210788",
        ("_alexandria_formation_energy_per_atom",),
        ("_alexandria_hull_distance",),
        page_limit=500,
        subsets=False,  # of millions of structures; no index serves HAS ONLY
    ),
    "oqmd": Provider(
        "OQMD by OPTIMADE",
        "https://oqmd.org/optimade",
        "oqmd",
        "CC BY 4.0 (OQMD)",
        "J. E. Saal et al., JOM 65 (2013) 1501, doi:10.1007/s11837-013-0755-4; S. Kirklin et al., npj "
        "Computational Materials 1 (2015) 15010, doi:10.1038/npjcompumats.2015.10",
        ("_oqmd_delta_e",),
        ("_oqmd_stability",),
        subsets=False,  # its HAS ONLY is HAS ALL of exactly these elements: subsystems would be missing
    ),
    "mp-api": Provider(
        "Materials Project by mp_api",
        "https://api.materialsproject.org",
        *_MP,
        _MP_CITATION,
        ("formation_energy_per_atom",),
        ("energy_above_hull",),
        formula="formula_pretty",
        key_variable="MP_API_KEY",
    ),
}
"""Only hulls on the same scale can be joined: the bundled one with the Materials Project's."""


class Phase(NamedTuple):
    """A row of the cache; energies in eV/atom."""

    id: str
    composition: str | None
    formation_energy_per_atom: float | None
    e_above_hull: float | None

    @classmethod
    def of(cls, provider: Provider, id_: Any, attributes: Any) -> Phase:
        formula = value_at(attributes, (provider.formula,))
        energy, above = (
            _number(value_at(attributes, k)) for k in (provider.formation_energy, provider.e_above_hull)
        )
        return cls(str(id_), formula if isinstance(formula, str) else None, energy, above)

    @property
    def height(self) -> float | None:
        """The provider's hull at this composition, which is never above the entry itself."""
        energy, above = self.formation_energy_per_atom, self.e_above_hull
        return energy if energy is None or above is None else energy - max(above, 0.0)


def value_at(attributes: Any, keys: Sequence[str]) -> Any:
    """What lies at the end of these keys; None where they end early."""
    for key in keys:
        attributes = attributes.get(key) if isinstance(attributes, Mapping) else None
    return attributes


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def elements_of(formula: Any) -> set[str]:
    return set(re.findall("[A-Z][a-z]?", formula)) if isinstance(formula, str) else set()


def by_system(found: Iterable[Phase], system: str, missing: Sequence[str]) -> dict[str, list[Phase]]:
    """The phases of each missing subsystem; those whose formula names no compound go with ``system``."""
    homes: dict[str, list[Phase]] = {name: [] for name in missing}
    for phase in found:
        name = "-".join(sorted(elements_of(phase.composition)))
        homes.get(name if "-" in name else system, []).append(phase)
    return homes
