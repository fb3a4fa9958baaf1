"""From VASP's total energies to formation energies on the Materials Project's scale."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import pyarrow.parquet as pq
from pymatgen.core import Element
from pymatgen.entries.compatibility import Compatibility, MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedStructureEntry

from crysjepa.dft.outcome import short
from crysjepa.energy.elemental_references import MP2020, ElementalReferences
from crysjepa.energy.hull import ASSUMED_SCALE

_SAME_FUNCTIONAL = {"PBE": "GGA", "PBE+U": "GGA+U"}
"""A vasprun.xml may state GGA = PE, which is what the PBE POTCARs imply; pymatgen's scheme knows the run type
only where it does not."""


@dataclass(frozen=True)
class Corrected:
    """A total energy after MaterialsProject2020Compatibility, or ``reason`` why there is none.

    ``adjustments`` and ``energy_per_atom`` are in eV/atom.
    """

    energy_per_atom: float | None
    adjustments: Mapping[str, float]
    reason: str | None = None


def mp2020() -> Compatibility:
    """The scheme of Wang et al., Sci. Rep. 11, 15496 (2021), which refuses other POTCARs and other U."""
    return MaterialsProject2020Compatibility()


def corrected(entry: ComputedStructureEntry, scheme: Compatibility) -> Corrected:
    """Apply the scheme to an entry with the parameters that pymatgen's Vasprun and emmet give it."""
    found = entry.parameters.get("run_type")
    parameters = {**entry.parameters, "run_type": _SAME_FUNCTIONAL.get(str(found), found)}
    fresh = ComputedStructureEntry(entry.structure, entry.uncorrected_energy, parameters=parameters)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oxidation states that are guessed, and of missing hashes
            done = scheme.process_entries([fresh], on_error="raise")
    except Exception as error:  # noqa: BLE001 - it fails in many ways; each has to be a row's reason
        return Corrected(None, {}, short(f"{MP2020}: {error}"))
    if not done:
        return Corrected(None, {}, f"{MP2020} has no correction for it")
    sites = len(entry.structure)
    adjustments = {a.name: float(a.value) / sites for a in done[0].energy_adjustments}
    return Corrected(float(done[0].energy_per_atom), adjustments)


def vasp_references(
    path: str | Path | None = None, computed: Mapping[str, float] | None = None
) -> ElementalReferences:
    """Energies of the elements by DFT in eV/atom; the corrections of 2020 add nothing to elements.

    Parameters
    ----------
    path
        A JSON file of ``{symbol: eV/atom}``, or of :class:`ElementalReferences`; it goes before all else.
    computed
        Lowest energies of elemental crystals among the calculations at hand. They fill in what is missing,
        and replace nothing: the formation energies of a hull are counted from the Materials Project's own.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    known = _materials_project()
    sources = [f"{len(known)} elements of the Materials Project"]
    own, scale = ({}, ASSUMED_SCALE) if path is None else _from_file(Path(path))
    if scale != ASSUMED_SCALE:
        known, sources = {}, []
    filled = {e: v for e, v in (computed or {}).items() if e not in known and e not in own}
    if path is not None:
        sources.append(f"{len(own)} of {Path(path).name}")
    if filled:
        sources.append(f"{', '.join(sorted(filled))} as calculated here")
    return ElementalReferences(
        energies={**filled, **known, **own}, force_field="VASP", scale=scale, source="; ".join(sources),
        method="computed",
    )  # fmt: skip


def _materials_project() -> dict[str, float]:
    """The lowest of each element in ``elements.parquet``: PBE, no corrections."""
    file = resources.files("crysjepa.energy").joinpath("references", "elements.parquet")
    lowest: dict[str, float] = {}
    with resources.as_file(file) as path:
        rows = pq.read_table(path, columns=["id", "energy_per_atom"]).to_pylist()
    for row in rows:
        symbol = row["id"].split("-")[0]
        lowest[symbol] = min(row["energy_per_atom"], lowest.get(symbol, float("inf")))
    return lowest


def _from_file(path: Path) -> tuple[dict[str, float], str]:
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        if isinstance(content, dict) and "energies" in content:
            told = replace(ElementalReferences.from_json(text), force_field="VASP")
            return dict(told.energies), told.scale
        energies = {str(Element(symbol)): float(value) for symbol, value in content.items()}
        if unknown := [symbol for symbol, value in energies.items() if not math.isfinite(value)]:
            raise ValueError(f"the energy of {unknown[0]} is not finite")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no {{symbol: eV/atom}} of elements: {error}") from error
    return energies, ASSUMED_SCALE
