"""Our generator: elements first, one orbit at a time, then sites and lattice along a flow from noise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa.generators.flow.fills import Fills
from crysjepa.generators.flow.network import MASKED, FlowNetwork
from crysjepa.generators.flow.orbit_batches import OrbitBatch
from crysjepa.jepa.invariant import InvariantConfig


@dataclass(frozen=True)
class FlowConfig:
    """Network, prior of the strain, and how training shares its crystals between the two tasks.

    Attributes
    ----------
    spread
        Standard deviations of a strain's prior: of its first coefficient (volume), of the others (shape).
    composing
        Share of the crystals of a batch whose elements are to be found, rather than sites and lattice.
    type_weight
        Of the cross-entropy beside the squared errors.
    symmetric
        Orbits of the crystal's space group; or every site by itself.
    nearest
        Noise is paired with the nearest equivalent of each site (:func:`shortest_moves`).
    """

    network: InvariantConfig = field(default_factory=lambda: InvariantConfig(layers=5))
    spread: tuple[float, float] = (0.17, 0.5)
    composing: float = 0.35
    type_weight: float = 0.5
    symmetric: bool = True
    nearest: bool = True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FlowConfig:
        """Inverse of ``dataclasses.asdict``. Raises TypeError or KeyError for other fields."""
        network = InvariantConfig(**{**values["network"], "degrees": tuple(values["network"]["degrees"])})
        return cls(**{**values, "network": network, "spread": tuple(values["spread"])})


class Flow(nn.Module):
    """The network with the prior: element sizes (119,) in Å say how large a cell is to be expected."""

    sizes: Tensor
    spread: Tensor

    def __init__(self, config: FlowConfig, sizes: Tensor) -> None:
        super().__init__()
        self.config = config
        self.network = FlowNetwork(config.network)
        self.register_buffer("sizes", sizes.float())
        spread = torch.tensor([config.spread[0], *[config.spread[1]] * 5])
        self.register_buffer("spread", spread, persistent=False)

    def centre(self, batch: OrbitBatch, numbers: Tensor) -> Tensor:
        """(B, 6) the strain that gives each crystal the volume of its elements, or of the mean element."""
        known = self.sizes[numbers.clamp(max=118)]
        known = torch.where(numbers == MASKED, self.sizes[1:].mean(), known)
        length = (known * batch.multiplicity).sum(dim=1) / batch.num_sites
        volume = torch.linalg.det(batch.reference).abs()
        log_scale = length.log() + (batch.num_sites / volume).log() / 3
        return F.pad(3**0.5 * log_scale[:, None], (0, 5))

    def forward(
        self, batch: OrbitBatch, numbers: Tensor, free_coords: Tensor, shape: Tensor, t: Tensor
    ) -> Any:
        """The network's guess; ``shape`` (B, 6) is the strain about :meth:`centre` over the spread."""
        strain = self.centre(batch, numbers) + self.spread * shape
        return self.network(batch, numbers, free_coords, strain, shape, t)


@dataclass(frozen=True)
class Start:
    """Noise: ``free_coords`` (B, R, 3), uniform, and ``shape`` (B, 6), standard normal where it is free."""

    free_coords: Tensor
    shape: Tensor

    def rows(self, index: Tensor) -> Start:
        """That of some crystals."""
        return Start(self.free_coords[index], self.shape[index])


def draw_noise(batch: OrbitBatch, noise: torch.Generator) -> Start:
    """Where sampling starts."""
    device = batch.strain.device
    u = torch.rand(*batch.mask.shape, 3, generator=noise, device=device)
    movable = torch.arange(3, device=device) < batch.num_free[..., None]
    normal = torch.randn(len(batch), 6, generator=noise, device=device)
    return Start(u * movable, torch.einsum("bst,bt->bs", batch.projector, normal))


def site_length(batch: OrbitBatch, lattices: Tensor) -> Tensor:
    """(B,) Å, the cube root of the volume per site."""
    return (torch.linalg.det(lattices).abs() / batch.num_sites) ** (1 / 3)


def shortest_moves(
    batch: OrbitBatch, here: Tensor, there: Tensor, lattices: Tensor, nearest: bool = True
) -> Tensor:
    """(B, R, 3) from free coordinates to others, or (``nearest``) to equivalents of those that are nearer.

    Any site of an orbit may represent it. Were the pairs of noise and crystal not chosen so, a site would be
    sent to each of its equivalents as often as to the nearest, and on average nowhere.
    """
    choices = slice(None) if nearest else slice(1)  # the first is the site itself
    turned = torch.einsum("brkij,brj->brki", batch.turns[:, :, choices], there)
    moves = turned + batch.shifts[:, :, choices] - here[:, :, None]
    moves = moves - torch.round(moves)
    reach = torch.einsum("brij,brkj->brki", batch.free, moves) @ lattices[:, None]
    best = reach.square().sum(dim=-1).argmin(dim=-1)
    return torch.gather(moves, 2, best[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]


@dataclass(frozen=True)
class FlowLoss:
    """What training minimises.

    For some crystals, sites and lattice are noise and a random number of orbits has no element: the
    cross-entropy of those elements. Sampling the orbits one by one in random order then draws from the
    distribution that was learnt (Uria et al. 2014; masked diffusion).

    For the others, elements are known, t is uniform, and with noise (u₁, s₁)

        u_t = u + t wrap(u₁ − u),      s_t = s + t (s₁ − s),

    the squared error of the velocity (flow matching: Lipman et al. 2023; on a torus: Chen & Lipman 2024).
    Where a translation of the whole crystal changes nothing, none is asked for.
    """

    config: FlowConfig

    def __call__(self, model: Any, batch: OrbitBatch, noise: torch.Generator) -> dict[str, Tensor]:
        """``loss``, and its parts ``types`` (nats), ``sites`` and ``lattice`` (per degree of freedom).

        In single precision, whatever the training's: half is too coarse for where sites are.
        """
        with torch.autocast(batch.strain.device.type, enabled=False):
            return self._losses(model, batch, noise)

    def _losses(self, model: Any, batch: OrbitBatch, noise: torch.Generator) -> dict[str, Tensor]:
        device, size, mask = batch.strain.device, len(batch), batch.mask

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=noise, device=device)

        composing = uniform(size) < self.config.composing
        t = torch.where(composing, 1.0, uniform(size))
        hidden = (uniform(*mask.shape) < uniform(size)[:, None]) | (
            torch.arange(mask.shape[1], device=device) == (uniform(size) * batch.num_orbits).long()[:, None]
        )
        hidden = hidden & mask & composing[:, None]
        numbers = torch.where(hidden, MASKED, batch.atomic_numbers)

        start = draw_noise(batch, noise)
        lattices = batch.lattices(batch.strain)
        moves = shortest_moves(batch, batch.free_coords, start.free_coords, lattices, self.config.nearest)
        centre = model.centre(batch, batch.atomic_numbers)
        shape = (batch.strain - centre) / model.spread
        grows = start.shape - shape
        free_t = batch.free_coords + t[:, None, None] * moves
        shape_t = torch.where(composing[:, None], start.shape, shape + t[:, None] * grows)
        guess = model(batch, numbers, free_t, shape_t, t)

        lattices = batch.lattices(model.centre(batch, numbers) + model.spread * shape_t)
        steps = torch.einsum("brij,brj->bri", batch.free, moves)
        steps = (steps - batch.mean_over_sites(steps)[:, None]) @ lattices
        wanted = steps / site_length(batch, lattices)[:, None, None]
        arranging = ~composing
        moving = (batch.multiplicity * (batch.num_free > 0) * arranging[:, None])[..., None]
        degrees = (batch.multiplicity * batch.num_free * arranging[:, None]).sum().clamp(min=1)
        strained = torch.einsum("bst,bt->bs", batch.projector, guess.strain - grows)
        rank = torch.einsum("bss->b", batch.projector)
        surprise = F.cross_entropy(
            guess.types.transpose(1, 2), (batch.atomic_numbers - 1).clamp(min=0), reduction="none"
        )
        parts = {
            "types": (surprise * hidden).sum() / hidden.sum().clamp(min=1),
            "sites": ((guess.sites - wanted).square() * moving).sum() / degrees,
            "lattice": (strained.square().sum(dim=1) * arranging).sum()
            / (rank * arranging).sum().clamp(min=1),
        }
        loss = self.config.type_weight * parts["types"] + parts["sites"] + parts["lattice"]
        return {"loss": loss, **parts}


def compose(
    flow: Flow,
    batch: OrbitBatch,
    start: Start,
    allowed: Tensor,
    temperature: float,
    noise: torch.Generator,
    fills: Fills | None = None,
    tries: int = 1,
) -> Tensor:
    """Elements (B, R), chosen orbit by orbit in random order; ``allowed`` (100,) True for those that may be.

    Each is drawn from the network's probabilities, raised to 1/``temperature``; with ``fills``, among those
    elements with which the constraints can still hold. Where there are several ``tries``, each crystal has so
    many rows, one for each try, in the same order of orbits: (tries · B, R), and so have ``fills``. Rows with
    the same elements so far share a pass of the network.
    """
    device, mask = batch.strain.device, batch.mask
    rows = torch.arange(len(batch), device=device).repeat(tries)
    numbers = torch.where(mask, MASKED, 0)[rows]
    order = torch.rand(*mask.shape, generator=noise, device=device).masked_fill(~mask, 2.0).argsort(dim=1)
    for place in range(mask.shape[1]):
        # Drawn by comparison, not by multinomial: the same on every device and version.
        uniform = torch.rand(len(rows), 1, generator=noise, device=device)
        chosen = order[rows, place]
        going = mask[rows, chosen].nonzero()[:, 0]
        if not len(going):
            break
        of_rows, chosen, uniform = rows[going], chosen[going], uniform[going]
        may = allowed.expand(len(going), -1)
        if fills is not None:
            may = torch.from_numpy(
                fills.choices(going.cpu().numpy(), chosen.cpu().numpy(), allowed.cpu().numpy())
            ).to(device)
        logits = _logits(flow, batch, start, of_rows, numbers[going], chosen)
        shares = (logits / temperature).masked_fill(~may, -torch.inf).softmax(dim=-1)
        found = (shares.cumsum(dim=-1) < uniform * shares.sum(dim=-1, keepdim=True)).sum(dim=-1) + 1
        found = found.clamp(max=len(allowed))
        each = torch.arange(len(going), device=device)
        found = torch.where(may[each, found - 1], found, shares.argmax(dim=-1) + 1)  # but for rounding
        numbers[going, chosen] = found
        if fills is not None:
            fills.take(going.cpu().numpy(), chosen.cpu().numpy(), found.cpu().numpy())
    return numbers


def _logits(
    flow: Flow, batch: OrbitBatch, start: Start, rows: Tensor, numbers: Tensor, chosen: Tensor
) -> Tensor:
    """(M, 100) for the ``chosen`` orbits (M,) of the crystals ``rows`` (M,) with elements (M, R) so far."""
    states = torch.cat([rows[:, None], numbers], dim=1)
    states, which = torch.unique(states, dim=0, return_inverse=True)
    crystals, numbers = states[:, 0], states[:, 1:]
    ones = torch.ones(len(states), device=states.device)
    part, begin = batch.rows(crystals), start.rows(crystals)
    types = flow(part, numbers, begin.free_coords, begin.shape, ones).types
    return types[which, chosen]


def arrange(
    flow: Flow, batch: OrbitBatch, numbers: Tensor, start: Start, times: Tensor, noise: torch.Generator | None
) -> Start:
    """Free coordinates and shape at t = 0, along ``times`` from 1 down to 0.

    With ``noise``, each step goes to the crystal that the velocity leads to, x₀ = x_t − t v, and back to the
    next t with fresh noise: what an earlier step got wrong is forgotten. Without, each is one of Euler's.
    """
    free_coords, shape = start.free_coords, start.shape
    centre = flow.centre(batch, numbers)
    for now, later in itertools.pairwise(times):
        guess = flow(batch, numbers, free_coords, shape, now.expand(len(batch)))
        lattices = batch.lattices(centre + flow.spread * shape)
        inverse = torch.linalg.inv_ex(lattices).inverse  # where a crystal diverged, this does not raise
        steps = guess.sites * site_length(batch, lattices)[:, None, None] @ inverse
        velocity = torch.einsum("brij,brj->bri", batch.inverse, steps)
        if noise is None:
            free_coords, shape = free_coords + (later - now) * velocity, shape + (later - now) * guess.strain
            continue
        free_coords, shape = free_coords - now * velocity, shape - now * guess.strain
        if later > 0:
            fresh = draw_noise(batch, noise)
            lattices = batch.lattices(centre + flow.spread * shape)
            free_coords = free_coords + later * shortest_moves(
                batch, free_coords, fresh.free_coords, lattices, flow.config.nearest
            )
            shape = shape + later * (fresh.shape - shape)
    return Start(free_coords, shape)
