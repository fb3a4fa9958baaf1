"""The flow as a generator: trained, fine-tuned, drawn from within constraints, kept in a file."""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa import __version__
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import Formula, composition_reason, reduced_formulas
from crysjepa.generators.base import Draws, Samples
from crysjepa.generators.constraints import ConstraintError, Constraints, element_shares
from crysjepa.generators.flow.network import NUM_ELEMENTS
from crysjepa.generators.flow.orbit_batches import OrbitBatch, PackedOrbits
from crysjepa.generators.flow.orbits import NoOrbits, Settled, settle
from crysjepa.generators.flow.paths import (
    Flow,
    FlowConfig,
    FlowLoss,
    Start,
    arrange,
    compose,
    draw_noise,
)
from crysjepa.generators.flow.templates import Templates
from crysjepa.generators.substitution.volumes import element_sizes
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantEncoder
from crysjepa.nn import checkpoint
from crysjepa.nn.batches import sorted_batches
from crysjepa.nn.geometry import MAX_IMAGES, num_images
from crysjepa.nn.training import Training, TrainSettings, train_model
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.progress import Progress

KIND = "flow-generator"
STEPS = 64
"""From noise to crystal."""
TEMPERATURE = 0.5
"""Of the choice of elements."""
TRIES, TEMPLATES = 20, 4
"""How often elements are chosen, at most, for a template, and how many templates are tried, before elements
that are not wanted are taken all the same."""
_BATCH, _GPU_BATCH = 64, 1024
_SHARD, _GPU_SHARD = 256, 4096


class FlowGenerator:
    """Draws a template, elements for its orbits, then sites and lattice.

    Parameters
    ----------
    flow, templates
        The network with its prior, and what crystals are built on.
    element_shares
        (119,) share of the training crystals that hold each element.
    known
        Keys of their formulas (:func:`formula_keys`).
    steps, temperature
        Of sampling.
    fresh
        Noise is drawn anew in each step (:func:`crysjepa.generators.flow.paths.arrange`).
    novel
        Choose elements again where a training crystal has the same formula, in the end on another template.
    balanced
        The same where no oxidation states make the composition neutral (the rule ``paper`` of
        :func:`crysjepa.core.validity.composition_validity`).
    constraints
        What sampling tries to obey (:meth:`within`).
    """

    def __init__(
        self,
        flow: Flow,
        templates: Templates,
        element_shares: NDArray[np.float64],
        known: Iterable[int] = (),
        *,
        steps: int = STEPS,
        temperature: float = TEMPERATURE,
        fresh: bool = True,
        novel: bool = True,
        balanced: bool = True,
        constraints: Constraints | None = None,
        origin: dict[str, Any] | None = None,
    ) -> None:
        self.flow = flow.eval()
        self.templates = templates
        self.element_shares = element_shares
        self.known = frozenset(known)
        self.steps, self.temperature = steps, temperature
        self.fresh, self.novel, self.balanced = fresh, novel, balanced
        self.constraints = constraints or Constraints(excluded=frozenset())
        self.origin = dict(origin or {})

    # -- training --------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        crystals: Crystals,
        config: FlowConfig,
        settings: TrainSettings,
        *,
        init: CrysJepa | None = None,
        settled: list[Settled] | None = None,
        seed: int = 0,
        device: str = "cpu",
        devices: int = 1,
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[FlowGenerator, Training]:
        """Train from random weights, or from what ``init`` has learnt (:meth:`FlowNetwork.start_from`).

        ``settled`` is what :func:`settle_all` makes of the crystals, where that has been done already.

        Raises
        ------
        ValueError
            Without crystals, for one that is not canonical, or for an ``init`` of another network.
        """
        settled = settled or settle_all(crystals, symmetric=config.symmetric)
        torch.manual_seed(seed)
        flow = Flow(config, torch.from_numpy(element_sizes(crystals)))
        if init is not None:
            if not isinstance(init.model.encoder, InvariantEncoder):
                raise ValueError(
                    "the flow starts from a Crys-JEPA with the invariant encoder, not the paper's"
                )
            flow.network.start_from(init.model.encoder)
        fresh = cls(
            flow,
            Templates.of([s.orbits for s in settled]),
            element_shares(crystals),
            formula_keys(reduced_formulas(crystals)),
        )
        return fresh._fit(PackedOrbits(settled), settings, seed, device, devices, state, progress)

    def finetune(
        self,
        crystals: Crystals,
        settings: TrainSettings,
        *,
        settled: list[Settled] | None = None,
        seed: int = 0,
        device: str = "cpu",
        devices: int = 1,
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[FlowGenerator, Training]:
        """A new generator trained on from this one; half of what it draws is built on their templates.

        Their formulas are known to it from then on, so that it does not repeat what was chosen for it. Raises
        ValueError as :meth:`train`.
        """
        settled = settled or settle_all(crystals, symmetric=self.flow.config.symmetric)
        templates = self.templates.merged(Templates.of([s.orbits for s in settled]), 0.5)
        known = self.known | set(formula_keys(reduced_formulas(crystals)))
        tuned = self._with(flow=copy.deepcopy(self.flow).requires_grad_(), templates=templates, known=known)
        return tuned._fit(PackedOrbits(settled), settings, seed, device, devices, state, progress)

    def _fit(
        self,
        data: PackedOrbits,
        settings: TrainSettings,
        seed: int,
        device: str,
        devices: int,
        state: Path | None,
        progress: Progress | None,
    ) -> tuple[FlowGenerator, Training]:
        self.flow.train()
        training = train_model(
            self.flow, data, FlowLoss(self.flow.config), settings, seed=seed, device=device, devices=devices,
            state=state, progress=progress,
        )  # fmt: skip
        ema = training.ema.cpu()
        assert isinstance(ema, Flow)
        origin = {
            "version": __version__,
            "seed": seed,
            "steps": training.step,
            "num_crystals": len(data),
            "data": data.content_hash,
            "finetuned_from": self.origin or None,
        }
        return self._with(flow=ema.eval(), origin=origin), training

    def _with(self, **changes: Any) -> FlowGenerator:
        """The same but for these attributes."""
        made = copy.copy(self)
        vars(made).update(changes)
        return made

    def _settings(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "temperature": self.temperature,
            "fresh": self.fresh,
            "novel": self.novel,
            "balanced": self.balanced,
        }

    # -- sampling --------------------------------------------------------------------------

    def within(self, constraints: Constraints) -> FlowGenerator:
        """The same generator, which draws no element and no cell that ``constraints`` forbid.

        Elements are chosen again where one of a chemical system is lacking, :data:`TRIES` times on each of
        :data:`TEMPLATES` templates. Raises ConstraintError if no template is small enough, or no element is
        left that the model knows.
        """
        if not any(z <= NUM_ELEMENTS for z in constraints.allowed):
            raise ConstraintError(
                f"the flow knows the first {NUM_ELEMENTS} elements, none of which is allowed"
            )
        made = self._with(constraints=constraints)
        made._template_shares()
        return made

    def _template_shares(self) -> NDArray[np.float64]:
        wanted, templates = self.constraints, self.templates
        fits = np.ones(len(templates), dtype=bool)
        if wanted.max_sites is not None:
            fits &= templates.num_sites <= wanted.max_sites
        if wanted.system is not None:
            fits &= templates.num_orbits >= len(wanted.system)
        if not fits.any():
            raise ConstraintError(f"no template of {len(templates)} has {'; '.join(wanted.describe())}")
        shares = templates.weights * fits
        return np.asarray(shares / shares.sum())

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """Draw ``num`` crystals; ``draws`` counts the choices of elements that were made again.

        Raises ConstraintError if no template obeys the constraints (:meth:`within`).
        """
        drawn: list[Crystals] = []
        failures: dict[str, str] = {}
        again: Counter[str] = Counter()
        size = _SHARD if device == "cpu" else _GPU_SHARD
        for shard, start in enumerate(range(0, num, size)):
            ids = [f"{prefix}-{i}" for i in range(start, min(start + size, num))]
            for part, bad, done in self._sample_shard(ids, (seed, shard), device, again):
                drawn.append(part)
                failures |= bad
                if progress is not None:
                    progress(start + done, num)
        found = Crystals.concatenate(drawn)
        order = [i for k in range(num) if (i := f"{prefix}-{k}") not in failures]
        draws = Draws(num, num + again.total(), dict(again))
        return Samples(found.select(order), failures, draws)

    @torch.inference_mode()
    def _sample_shard(
        self, ids: Sequence[str], seed: tuple[int, int], device: str, again: Counter[str]
    ) -> Iterator[tuple[Crystals, dict[str, str], int]]:
        rng, shares = np.random.default_rng(seed), self._template_shares()
        rows = rng.choice(len(self.templates), size=len(ids), p=shares)
        noise = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        flow = self.flow.to(device)
        allowed = torch.zeros(NUM_ELEMENTS, dtype=torch.bool, device=device)
        allowed[[z - 1 for z in self.constraints.allowed if z <= NUM_ELEMENTS]] = True
        todo, done = list(ids), 0
        for left in range(TEMPLATES - 1, -1, -1):
            data = PackedOrbits([self.templates.settled(int(row)) for row in rows])
            elsewhere: list[int] = []
            for chosen in sorted_batches(data.num_atoms.numpy(), _BATCH if device == "cpu" else _GPU_BATCH):
                batch = data.batch(chosen).to(device)
                start = draw_noise(batch, noise)
                numbers, good = self._compose(flow, batch, start, allowed, noise, again, last=not left)
                if left and not good.all():  # on another template there is more to be found
                    kept = good.cpu().numpy()
                    elsewhere += chosen[~kept].tolist()
                    chosen = chosen[kept]
                    batch, numbers, start = batch.rows(good), numbers[good], start.rows(good)
                if not len(chosen):
                    continue
                found, failures = self._arranged(
                    flow, batch, numbers, start, noise, [todo[i] for i in chosen]
                )
                done += len(chosen)
                yield found, failures, done
            todo = [todo[i] for i in sorted(elsewhere)]
            if not todo:
                break
            rows = rng.choice(len(self.templates), size=len(todo), p=shares)

    def _arranged(
        self,
        flow: Flow,
        batch: OrbitBatch,
        numbers: Tensor,
        start: Start,
        noise: torch.Generator,
        ids: Sequence[str],
    ) -> tuple[Crystals, dict[str, str]]:
        """Sites and lattices for elements (B, R): crystals, and why others have none."""
        times = torch.linspace(1.0, 0.0, self.steps + 1, device=numbers.device)
        end = arrange(flow, batch, numbers, start, times, noise if self.fresh else None)
        strain = flow.centre(batch, numbers) + flow.spread * end.shape
        host = batch.to("cpu")
        lattices = host.lattices(strain.cpu().double()).numpy()
        coords = host.sites(end.free_coords.cpu().double()).numpy()
        by_site = torch.gather(numbers.cpu(), 1, host.owner).numpy()
        images = num_images(lattices)
        found, failures = [], {}
        for i, id_ in enumerate(ids):
            sites = slice(0, int(host.num_sites[i]))
            x, cell = coords[i, sites], lattices[i]
            if np.isfinite(x).all() and np.isfinite(cell).all() and images[i] <= MAX_IMAGES:
                found.append(Crystals(by_site[i, sites], x % 1.0, cell[None], np.array([len(x)]), (id_,)))
            else:
                failures[id_] = "the generator went astray: no cell, or coordinates that are not finite"
        return Crystals.concatenate(found), failures

    def _compose(
        self,
        flow: Flow,
        batch: OrbitBatch,
        start: Start,
        allowed: Tensor,
        noise: torch.Generator,
        again: Counter[str],
        *,
        last: bool,
    ) -> tuple[Tensor, Tensor]:
        """Elements (B, R) of a batch, and which are wanted (B,).

        What is not is chosen again and counted; where ``last``, what comes in the end is taken as it is.
        """
        numbers = torch.zeros_like(batch.atomic_numbers)
        todo = torch.arange(len(batch), device=numbers.device)
        for left in range(TRIES - 1, -1, -1):
            part = batch.rows(todo)
            numbers[todo] = compose(flow, part, start.rows(todo), allowed, self.temperature, noise)
            reasons = self._unwanted(numbers[todo].cpu().numpy(), part.multiplicity.cpu().numpy())
            todo = todo[[r is not None for r in reasons]]
            if not len(todo) or (last and not left):
                break
            again.update(r for r in reasons if r is not None)
        good = torch.ones(len(batch), dtype=torch.bool, device=numbers.device)
        good[todo] = False
        return numbers, good

    def _unwanted(self, numbers: NDArray[np.int64], multiplicities: NDArray[np.int64]) -> list[str | None]:
        system, reasons = self.constraints.system, list[str | None]()
        for elements, counts in zip(numbers, multiplicities, strict=True):
            totals = {int(z): int(counts[elements == z].sum()) for z in set(elements[counts > 0].tolist())}
            divisor = math.gcd(*totals.values())
            formula = tuple(sorted((z, n // divisor) for z, n in totals.items()))
            if system is not None and not system <= totals.keys():
                reasons.append("other chemical system")
            elif self.novel and formula_keys([formula])[0] in self.known:
                reasons.append("formula of a training crystal")
            elif self.balanced and composition_reason(formula) is not None:
                reasons.append("composition not charge-balanced")
            else:
                reasons.append(None)
        return reasons

    # -- on disk ---------------------------------------------------------------------------

    def save(
        self, path: Path, *, dtype: torch.dtype = torch.float32, card: dict[str, Any] | None = None
    ) -> None:
        """Write weights (as ``dtype``), templates, configuration and origin to one safetensors file."""
        header = {
            "kind": KIND,
            "config": asdict(self.flow.config),
            "sampling": self._settings(),
            "origin": self.origin,
            **({"card": card} if card else {}),
        }
        weights = {f"flow.{k}": v.to(dtype) for k, v in self.flow.state_dict().items()}
        seen = {
            "element_shares": torch.from_numpy(self.element_shares),
            "known_formulas": torch.tensor(sorted(self.known), dtype=torch.int64),
        }
        checkpoint.save(path, weights | self.templates.tensors() | seen, header)

    @classmethod
    def load(cls, path: Path) -> FlowGenerator:
        """Read what :meth:`save` wrote. Raises CheckpointError for anything else."""
        tensors, header = checkpoint.load(path, kind=KIND)
        with checkpoint.explained(path):
            config = FlowConfig.from_dict(header["config"])
            weights = {k.removeprefix("flow."): v for k, v in tensors.items() if k.startswith("flow.")}
            flow = checkpoint.filled(lambda: Flow(config, weights["sizes"]), weights, header["config"])
            templates = Templates.from_tensors(tensors)
            shares = tensors["element_shares"].numpy()
            if shares.ndim != 1:
                raise checkpoint.CheckpointError(f"element_shares is of shape {shares.shape}")
            sampling = dict(header["sampling"])
            origin = dict(header["origin"], file=file_hash(path))
            known = tensors["known_formulas"].tolist()
            return cls(flow, templates, shares, known, **sampling, origin=origin)


def formula_keys(formulas: Sequence[Formula]) -> list[int]:
    """A number of 63 bits for each formula, the same everywhere and always."""
    return [
        int.from_bytes(hashlib.sha256(repr(formula).encode()).digest()[:8], "big") >> 1
        for formula in formulas
    ]


def settle_all(crystals: Crystals, *, symmetric: bool = True) -> list[Settled]:
    """Each crystal in the standard setting of its space group, or, where that fails, without symmetry.

    Raises ValueError, with the id, for what :func:`crysjepa.core.canonical.canonicalise` would have refused.
    """
    found = []
    for crystal in crystals:
        try:
            settled = settle(crystal, plain=not symmetric)
        except NoOrbits:
            try:
                settled = settle(crystal, plain=True)
            except NoOrbits as error:
                raise ValueError(f"{crystal.ids[0]} cannot be learnt from: {error}") from error
        found.append(settled)
    return found
