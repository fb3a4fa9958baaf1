"""Eq. 11 with fingerprints in place of the embedding (paper, appendix D.4): nothing in it is learned.

The structure's part is the CrystalNN fingerprint ("ops" preset, mean over the sites, 61 values), the
composition's is Magpie's (132 values), standardised; both as CDVAE's evaluation has them. D.4 takes square
Euclidean distances of the parts, divides each by its largest value among the candidates, and adds them. Here
each part is divided by the largest square distance of a *reference* crystal from the reference's mean, so
that a crystal's score does not depend on which others are scored beside it; and the distance is averaged
over the references of the chemical system (Eq. 11), where D.4 takes the nearest of all.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_cell
from crysjepa.nn.geometry import num_images
from crysjepa.ranking.context import RankerContext
from crysjepa.ranking.embedders import SKEWED, Embedded
from crysjepa.ranking.jepa import MeanDistance, skipped
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.runtime.progress import Progress

STRUCTURE, COMPOSITION = 61, 132

Sites = Callable[[Any], NDArray[np.float64]]
"""From a pymatgen Structure to CrystalNN's fingerprints of its sites, (sites, 61)."""


def fingerprint(context: RankerContext) -> MeanDistance:
    """Fingerprints, scaled by the reference. Raises ImportError without matminer."""
    raw = Fingerprints()
    index = ReferenceIndex.build(
        raw, context.reference, cache=context.index, progress=context.stage("fingerprint reference")
    )
    scaling = Scaling.of(index.embeddings)
    scaled = replace(index, embeddings=scaling(index.embeddings))
    return MeanDistance("fingerprint", ScaledFingerprints(raw, scaling), scaled, skipped(index), 256)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """CrystalNN's and Magpie's fingerprints of a crystal as they come, one behind the other (193 values)."""

    @cached_property
    def content_hash(self) -> str:
        """Of what they are, and the version of matminer. Raises ImportError without matminer."""
        what = f"CrystalNN ops mean, Magpie, cells as given unless skewed; matminer {_matminer()}"
        return hashlib.sha256(what.encode()).hexdigest()

    def embed(self, crystals: Crystals, progress: Progress | None = None) -> Embedded:
        """Fingerprints, or why matminer has none."""
        vectors, failures = {}, {}
        structure, composition = featurizers()
        with _quiet():
            for row, crystal in enumerate(crystals):
                try:
                    found = _fingerprint(crystal, structure, composition)
                except Exception as error:  # noqa: BLE001 - CrystalNN fails in many ways; the reason is kept
                    failures[row] = f"no fingerprint ({type(error).__name__}: {str(error)[:100]})"
                else:
                    if np.isfinite(found).all():
                        vectors[row] = found
                    else:
                        failures[row] = "a value of its fingerprint is not known"
                if progress is not None:
                    progress(row + 1, len(crystals))
        rows = np.array(list(vectors), dtype=np.int64)
        stacked = np.array(list(vectors.values()), dtype=np.float32)
        return Embedded(rows, stacked.reshape(len(rows), STRUCTURE + COMPOSITION), failures)


@dataclass(frozen=True, eq=False)
class Scaling:
    """What is subtracted from raw fingerprints, and what they are divided by: (193,) each."""

    centre: NDArray[np.float64]
    divisor: NDArray[np.float64]

    @classmethod
    def of(cls, reference: NDArray[np.float32]) -> Scaling:
        """Fitted on raw fingerprints (R, 193)."""
        values = reference.astype(np.float64)
        centre, divisor = values.mean(axis=0), np.ones(values.shape[1])
        spread = values[:, STRUCTURE:].std(axis=0)
        divisor[STRUCTURE:] = np.where(spread > 1e-9, spread, 1.0)
        squares = ((values - centre) / divisor) ** 2
        for part in (slice(0, STRUCTURE), slice(STRUCTURE, None)):
            divisor[part] *= np.sqrt(squares[:, part].sum(axis=1).max()) or 1.0
        return cls(centre, divisor)

    def __call__(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 193) → (B, 193)."""
        return ((raw - self.centre) / self.divisor).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ScaledFingerprints:
    """Fingerprints in which the square distance is that of D.4."""

    raw: Fingerprints
    scaling: Scaling

    @cached_property
    def content_hash(self) -> str:
        """Of the raw ones and the scaling."""
        digest = hashlib.sha256(self.raw.content_hash.encode())
        digest.update(self.scaling.centre.tobytes() + self.scaling.divisor.tobytes())
        return digest.hexdigest()

    def embed(self, crystals: Crystals, progress: Progress | None = None) -> Embedded:
        """Scaled fingerprints, or why matminer has none."""
        found = self.raw.embed(crystals, progress)
        return replace(found, vectors=self.scaling(found.vectors))


def _fingerprint(crystal: Crystals, structure: Any, composition: Any) -> NDArray[np.float64]:
    # Only where the cell's images are too many to look at. CrystalNN rounds weights to three digits, so that
    # the rounding errors of another cell can move a value by 1e-4; as given, the numbers are matminer's.
    if not num_images(crystal.lattices)[0] <= SKEWED:
        cell, coords = reduced_cell(crystal)
        crystal = Crystals(crystal.atomic_numbers, coords, cell, crystal.num_atoms, crystal.ids)
    (atoms,) = crystal.to_structures()
    return np.concatenate([np.mean(structure(atoms), axis=0), composition.featurize(atoms.composition)])


def _matminer() -> str:
    try:
        import matminer
    except ImportError as error:
        raise ImportError(
            'the ranker fingerprint needs a package: pip install "crysjepa[fingerprints]"'
        ) from error
    return str(matminer.__version__)


@cache
def featurizers() -> tuple[Sites, Any]:
    """For the sites, and matminer's for the composition. Made once: its tables take as long as a crystal."""
    with _quiet():
        from matminer.featurizers.composition import ElementProperty
        from matminer.featurizers.site import CrystalNNFingerprint

        plain = partial(_one_by_one, CrystalNNFingerprint.from_preset("ops"))
        composition = ElementProperty.from_preset("magpie")
        quick = _quick(plain)
    if quick is None:
        warnings.warn("fingerprints take some three times as long with this pymatgen", stacklevel=2)
    return quick or plain, composition


def _one_by_one(site: Any, structure: Any) -> NDArray[np.float64]:
    return np.array([site.featurize(structure, index) for index in range(len(structure))])


def _quick(plain: Sites) -> Sites | None:
    """The quick way, where it gives the same numbers: another version of pymatgen may not bear it."""
    try:
        from crysjepa.ranking.fingerprints.crystal_nn import SiteFingerprints

        quick = SiteFingerprints()
        same = np.allclose(quick(_trial()), plain(_trial()), rtol=0, atol=1e-9)
    except Exception:  # noqa: BLE001 - it uses what pymatgen may rename or change in any way
        return None
    return quick if same else None


def _trial() -> Any:
    """A crystal without symmetry whose sites have neighbours at many distances."""
    from pymatgen.core import Lattice, Structure

    coords = [[0.02, 0.01, 0.05], [0.47, 0.55, 0.52]]
    return Structure(Lattice.from_parameters(3.1, 3.4, 3.6, 84, 97, 101), ["Cs", "Cl"], coords)


@contextmanager
def _quiet() -> Iterator[None]:
    """matminer and CrystalNN warn of much that is of no concern here, deprecations among it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
