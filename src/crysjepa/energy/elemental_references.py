"""Per-element references that turn a force field's total energies into formation energies (paper, Eq. 4)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import NUM_ELEMENTS, atomic_numbers, element_symbols

if TYPE_CHECKING:
    from pymatgen.core import Composition

MP2020 = "MP2020"
HUBER = 1.345
"""Residuals beyond this many standard deviations lose weight (95 % efficiency for normal errors)."""
ROUNDS = 20
"""Of reweighting; fewer where the residuals vanish."""

MIX = (
    "to mix them knowingly, put allow_mixed_scales = true into the file of --config (for crysjepa discover "
    "under [protocol]); crysjepa dft collect has --allow-mixed-scales"
)
"""What to do where two scales shall meet all the same."""


class ScaleMismatch(ValueError):
    """Energies of two correction schemes would have been mixed."""


def check_scales(
    references_scale: str, hull_scale: str, *, allow_mixed: bool = False, given: str | None = None
) -> None:
    """Raise :class:`ScaleMismatch` unless both scales are the same or ``allow_mixed`` is set.

    ``given`` says what has the first scale, where it is not elemental references.
    """
    if references_scale != hull_scale and not allow_mixed:
        if given is not None:
            raise ScaleMismatch(
                f"{given} are on the scale {references_scale!r} but the hull is on {hull_scale!r}: energies "
                f"above hull would mix two correction schemes. Give a --hull on {references_scale!r}; {MIX}"
            )
        raise ScaleMismatch(
            f"the elemental references are on the scale {references_scale!r} but the hull is on "
            f"{hull_scale!r}: energies above hull would mix two correction schemes. Use references fitted to "
            f"{hull_scale!r} (elemental_references in the file of --config; data/fit_references.py makes "
            f"some), or a --hull on {references_scale!r}; {MIX}"
        )


@dataclass(frozen=True)
class ElementalReferences:
    """The energy of each element, μ, in eV/atom: what formation energies are counted from.

    Parameters
    ----------
    energies
        ``{symbol: eV/atom}``. Elements whose reference is not known are absent.
    force_field
        The force field whose total energies these belong to, such as ``"chgnet"``.
    scale
        The scale of the formation energies that result, such as ``"materials_project"``.
    source
        What they were fitted on or computed from, for people.
    mae
        Mean absolute error of the fitted formation energies in eV/atom.
    num_fitted
        Crystals that the fit used.
    version
        Version of the force field.
    counts
        Fitted crystals that contain each element.
    excluded
        Elements left out: ``{symbol: reason}``.
    method
        ``"fitted"`` to known formation energies, or ``"computed"``: the force field's own energies of
        elemental crystals.
    corrections
        What is added to the force field's total energies before these are subtracted: ``"MP2020"``
        (:func:`crysjepa.energy.corrections.mp2020_corrections`), or None.
    """

    energies: Mapping[str, float]
    force_field: str
    scale: str
    source: str
    mae: float | None = None
    num_fitted: int | None = None
    version: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    method: Literal["fitted", "computed"] = "fitted"
    corrections: str | None = None

    def __post_init__(self) -> None:
        if self.corrections not in (None, MP2020):
            raise ValueError(f"no corrections {self.corrections!r} are known, only {MP2020!r}")

    def formation_energy_per_atom(
        self, composition: Composition | Mapping[str, float], energy_per_atom: float | None
    ) -> tuple[float | None, str | None]:
        """E_f = E_t − Σ f_i μ_i in eV/atom (Eq. 4), or None and the reason."""
        if energy_per_atom is None or not math.isfinite(energy_per_atom):
            return None, "no finite total energy"
        amounts = {str(getattr(e, "symbol", e)): float(n) for e, n in composition.items()}
        unknown = sorted(e for e in amounts if e not in self.energies)
        if unknown:
            return None, f"no {self.force_field} reference energy for {', '.join(unknown)}"
        total = sum(amounts.values())
        if not total > 0:
            return None, "no atoms"
        return float(energy_per_atom) - sum(n / total * self.energies[e] for e, n in amounts.items()), None

    def to_json(self) -> str:
        """As JSON text that :meth:`from_json` reads."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ElementalReferences:
        """From the text of :meth:`to_json`. Raises ValueError if it is something else."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not a file of elemental references: {error}") from error

    def by_number(self) -> NDArray[np.float64]:
        """(119,) eV/atom by atomic number, NaN for an element without a reference."""
        found = np.full(NUM_ELEMENTS + 1, np.nan)
        for symbol, energy in self.energies.items():
            found[atomic_numbers()[symbol]] = energy
        return found

    def at(self, fractions: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[int, list[str]]]:
        """Σ f_i μ_i (M,) in eV/atom at ``fractions`` (M, 119); NaN where an element has no reference, and by
        row which those are.
        """
        mu, symbols = self.by_number(), element_symbols()
        lacking = (fractions > 0) & np.isnan(mu)
        found = fractions @ np.nan_to_num(mu)
        unknown = {}
        for row in np.flatnonzero(lacking.any(axis=1)).tolist():
            found[row] = np.nan
            unknown[row] = sorted(symbols[z] for z in np.flatnonzero(lacking[row]).tolist())
        return found, unknown


def load_references(force_field: str, scale: str) -> ElementalReferences:
    """The references that come with crysjepa for a force field and a scale.

    Raises
    ------
    FileNotFoundError
        If there are none, with the ones there are and how to fit others.
    """
    folder = resources.files("crysjepa.energy").joinpath("references")
    file = folder.joinpath(f"{force_field}--{scale}.json")
    if not file.is_file():
        names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".json"))
        there = ", ".join(n.removesuffix(".json").replace("--", " on ") for n in names)
        raise FileNotFoundError(
            f"no elemental references for the force field {force_field!r} on the scale {scale!r} (there are: "
            f"{there}). Fit them by data/fit_references.py to crystals that have formation energies on "
            "that scale, and name the JSON file as elemental_references in the file of --config; or let "
            "--reference be crystals with such energies"
        )
    return ElementalReferences.from_json(file.read_text(encoding="utf-8"))


def read_references(path: str | Path) -> ElementalReferences:
    """References from a JSON file of your own. Raises ValueError if it is something else."""
    return ElementalReferences.from_json(Path(path).read_text(encoding="utf-8"))


def fit_references(
    compositions: Sequence[Composition],
    energies_per_atom: Sequence[float | None],
    formation_energies_per_atom: Sequence[float | None],
    *,
    force_field: str,
    scale: str,
    source: str,
    corrections: str | None = None,
    min_count: int = 3,
) -> ElementalReferences:
    """Fit the references that best reproduce known formation energies.

    Solves E_t − E_f ≈ Σ f_i μ_i for μ by least squares, reweighted for :data:`ROUNDS` rounds with Huber's
    weights (Ann. Math. Statist. 35, 73 (1964)), since some published formation energies are off by most of
    an eV; the scale of the residuals is 1.4826 times their median absolute value. Rows with a missing or
    non-finite energy are not used.

    An element in fewer than ``min_count`` crystals, or one that the crystals do not determine (it always
    comes with another in the same proportion), is left out and listed under ``excluded``, together with
    the crystals that contain it.

    Where ``corrections`` name some, the energies must have them already.

    Returns the references with the mean absolute error over the crystals used, outliers included.
    Raises ValueError if no crystal or no element is left.
    """
    total = np.array([np.nan if e is None else e for e in energies_per_atom], dtype=float)
    formation = np.array([np.nan if e is None else e for e in formation_energies_per_atom], dtype=float)
    elements, fractions = _fractions(compositions)
    used = np.isfinite(total - formation) & (fractions.sum(axis=1) > 0)
    kept, used, excluded = _determined(elements, fractions, used, min_count)
    if not kept:
        raise ValueError(f"no element of {source} occurs in {min_count} crystals with both energies")
    design, target = fractions[used][:, kept], (total - formation)[used]
    mu = _huber(design, target)
    symbols = [elements[i] for i in kept]
    return ElementalReferences(
        energies={s: round(float(m), 6) for s, m in zip(symbols, mu, strict=True)},
        force_field=force_field,
        scale=scale,
        source=source,
        mae=round(float(np.abs(design @ mu - target).mean()), 6),
        num_fitted=int(used.sum()),
        counts={s: int((design[:, i] > 0).sum()) for i, s in enumerate(symbols)},
        excluded=excluded,
        corrections=corrections,
    )


def _fractions(compositions: Sequence[Composition]) -> tuple[list[str], NDArray[np.float64]]:
    """Elements by atomic number, and (crystals, elements) atomic fractions."""
    elements = sorted({e for c in compositions for e in c.elements}, key=lambda e: e.Z)
    column = {element: i for i, element in enumerate(elements)}
    fractions = np.zeros((len(compositions), len(elements)))
    for row, composition in enumerate(compositions):
        for element in composition.elements:
            fractions[row, column[element]] = composition.get_atomic_fraction(element)
    return [e.symbol for e in elements], fractions


def _determined(
    elements: list[str], fractions: NDArray[np.float64], used: NDArray[np.bool_], min_count: int
) -> tuple[list[int], NDArray[np.bool_], dict[str, str]]:
    """Columns to fit, rows to use, and why the other elements are left out."""
    kept, excluded = list(range(len(elements))), {}
    while kept:
        counts = (fractions[used] > 0).sum(axis=0)
        out = {i: f"in fewer than {min_count} crystals ({counts[i]})" for i in kept if counts[i] < min_count}
        if not out:
            _, singular, axes = np.linalg.svd(fractions[used][:, kept].T @ fractions[used][:, kept])
            null = axes[singular < 1e-9 * singular[0]]
            vague = np.flatnonzero((np.abs(null) > 1e-6).any(axis=0))
            out = {kept[i]: "not determined by the crystals that contain it" for i in vague}
        if not out:
            break
        excluded.update({elements[i]: reason for i, reason in out.items()})
        kept = [i for i in kept if i not in out]
        used = used & ~(fractions[:, list(out)] > 0).any(axis=1)
    return kept, used, {e: excluded[e] for e in elements if e in excluded}


def _huber(design: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Iteratively reweighted least squares with Huber's weights."""
    weights = np.ones(len(target))
    mu: NDArray[np.float64] = np.zeros(design.shape[1])
    for _ in range(ROUNDS + 1):
        root = np.sqrt(weights)
        mu = np.asarray(np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0])
        residuals = np.abs(target - design @ mu)
        bound = HUBER * 1.4826 * float(np.median(residuals))
        if bound < 1e-12:
            break
        weights = np.minimum(1.0, bound / np.maximum(residuals, bound))
    return mu
