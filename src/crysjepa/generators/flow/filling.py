"""Templates filled with given elements: how likely the flow thinks them, and crystals of them.

For a formula, the flow knows how often each template occurs and, orbit by orbit, which elements it expects
there. By Bayes' rule both together say which templates, and which elements on which of their orbits, the
formula is likely to be found in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.generators.flow.assignments import Assignments
from crysjepa.generators.flow.network import MASKED, NUM_ELEMENTS
from crysjepa.generators.flow.orbit_batches import OrbitBatch
from crysjepa.generators.flow.orbits import Orbits
from crysjepa.generators.flow.paths import draw_noise
from crysjepa.generators.flow.sampling import FlowSampler
from crysjepa.runtime.progress import Progress

_NOISES = 2


@dataclass(frozen=True)
class Filled:
    """A template with an element (atomic number) on each of its orbits, in their order.

    ``alike`` is the number of such choices that this one stands for: orbits of one kind cannot be told apart.
    """

    template: int
    elements: tuple[int, ...]
    alike: int = 1


@dataclass(frozen=True)
class Fillings:
    """All that was looked at of the templates for one formula.

    Attributes
    ----------
    filled
        Templates with elements.
    num_templates
        How many templates have as many sites as some number of formula units.
    num_fit
        How many of these the formula fits on.
    num_possible
        In how many ways; ``filled`` has at most ``most_each`` of each template.
    """

    filled: list[Filled]
    num_templates: int
    num_fit: int
    num_possible: int


def kinds(orbits: Orbits) -> tuple[Hashable, ...]:
    """Equal for orbits on the same free symmetry element, which only their free coordinates tell apart."""
    at = np.round(orbits.positions % 1.0, 4) % 1.0
    return tuple((tuple(p.tolist()), b.tobytes()) for p, b in zip(at, orbits.free, strict=True))


def fillings_of(
    sampler: FlowSampler, counts: Mapping[int, int], max_sites: int, *, most_each: int = 24, seed: int = 0
) -> Fillings:
    """Every template on which one to several formula units fit exactly, with elements on its orbits.

    Parameters
    ----------
    counts
        Atoms of each element (atomic number) in a formula unit.
    max_sites
        Sites of the template's cell, at most.
    most_each
        Of one template's ways to take the elements; if there are more, so many are drawn by ``seed``.
    """
    templates, unit = sampler.templates, sum(counts.values())
    elements = tuple(sorted(counts))
    fit = (templates.num_sites % unit == 0) & (templates.num_sites <= max_sites)
    fit &= (templates.num_orbits >= len(elements)) & (templates.weights > 0)
    filled, num_fit, num_possible = list[Filled](), 0, 0
    for row in np.flatnonzero(fit).tolist():
        orbits = templates.orbits(row)
        own = kinds(orbits)
        sites = tuple(int(templates.num_sites[row]) // unit * counts[z] for z in elements)
        ways = Assignments(tuple(orbits.multiplicities.tolist()), sites, own)
        num_fit += ways.num > 0
        num_possible += ways.num
        for way in ways.some(most_each, seed=seed + row):
            chosen = tuple(elements[e] for e in way)
            filled.append(Filled(row, chosen, _alike(own, chosen)))
    return Fillings(filled, int(fit.sum()), num_fit, num_possible)


@torch.inference_mode()
def log_likelihoods(
    sampler: FlowSampler, filled: Sequence[Filled], *, seed: int = 0, device: str = "cpu"
) -> NDArray[np.float64]:
    """(M,) how likely the flow is to draw these templates with these elements, as a logarithm, in nats.

    Each orbit by itself, before any has its element: the mean over a few draws of noise for sites and cell.
    One orbit after the other, as :func:`crysjepa.generators.flow.paths.compose` draws them, would cost a pass
    of the network for each orbit of each choice.
    """
    rows = sorted({f.template for f in filled})
    bare = [Filled(row, (MASKED,) * int(sampler.templates.num_orbits[row])) for row in rows]
    noise, flow = torch.Generator(device).manual_seed(seed), sampler.flow.to(device)
    shares: dict[int, NDArray[np.float64]] = {}
    for chosen, batch in _batches(sampler, bare, device):
        ones, total = torch.ones(len(batch), device=device), torch.zeros((), device=device)
        for _ in range(_NOISES):
            start = draw_noise(batch, noise)
            total = total + flow(
                batch, batch.atomic_numbers, start.free_coords, start.shape, ones
            ).types.softmax(dim=-1)
        found = np.log(total.cpu().double().numpy() / _NOISES + 1e-12)
        shares |= {rows[i]: found[place] for place, i in enumerate(chosen.tolist())}
    weights = sampler.templates.weights
    return np.array(
        [
            math.log(weights[f.template])
            + math.log(f.alike)
            + sum(shares[f.template][orbit, z - 1] for orbit, z in enumerate(f.elements))
            for f in filled
        ]
    )


@torch.inference_mode()
def fill(
    sampler: FlowSampler,
    filled: Sequence[Filled],
    ids: Sequence[str],
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[Crystals, dict[str, str]]:
    """Sites and lattices for templates with elements: a crystal each, in the order of ``ids``, or why not.

    The same may be filled several times: where its sites may move, the crystals differ. Raises ValueError
    for an element that the flow does not know, and for a number of elements that is not that of the orbits.
    """
    parts, failures = list[Crystals](), dict[str, str]()
    if not all(1 <= z <= NUM_ELEMENTS for f in filled for z in f.elements):
        raise ValueError(f"the flow knows the first {NUM_ELEMENTS} elements")
    noise, flow = torch.Generator(device).manual_seed(seed), sampler.flow.to(device)
    done = 0
    for chosen, batch in _batches(sampler, filled, device):
        names = [ids[i] for i in chosen.tolist()]
        found, bad = sampler.arranged(flow, batch, noise, names)
        parts.append(found)
        failures |= bad
        done += len(chosen)
        if progress is not None:
            progress(done, len(filled))
    if not parts:
        return Crystals.empty(), failures
    return Crystals.concatenate(parts).select([i for i in ids if i not in failures]), failures


def _batches(
    sampler: FlowSampler, filled: Sequence[Filled], device: str
) -> Iterator[tuple[NDArray[np.int64], OrbitBatch]]:
    """Rows of ``filled``, and their orbits with elements."""
    for f in filled:
        if len(f.elements) != sampler.templates.num_orbits[f.template]:
            raise ValueError(f"{len(f.elements)} elements for the orbits of template {f.template}")
    return sampler.templates.batches([f.template for f in filled], [f.elements for f in filled], device)


def _alike(own: Sequence[Hashable], chosen: Sequence[int]) -> int:
    """In how many ways orbits of one kind can take these elements: of each kind n! / (n₁! n₂! …)."""
    of_kind = Counter(own)
    shared = Counter(zip(own, chosen, strict=True))
    ways = math.prod(math.factorial(n) for n in of_kind.values())
    return ways // math.prod(math.factorial(n) for n in shared.values())
