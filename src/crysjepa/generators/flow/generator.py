"""The flow as a generator: trained, fine-tuned, drawn from within constraints, kept in a file."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import torch

from crysjepa import __version__
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.generators.constraints import element_shares
from crysjepa.generators.flow.formula_rules import formula_keys
from crysjepa.generators.flow.orbit_batches import PackedOrbits
from crysjepa.generators.flow.orbits import Settled, settle_all
from crysjepa.generators.flow.paths import Flow, FlowConfig, FlowLoss
from crysjepa.generators.flow.sampling import FlowSampler
from crysjepa.generators.flow.templates import Templates
from crysjepa.generators.substitution.volumes import element_sizes
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantEncoder
from crysjepa.nn import checkpoint
from crysjepa.nn.training import Training, TrainOptions, TrainSettings, train_model
from crysjepa.runtime.files import file_hash

KIND = "flow-generator"
_SAMPLING = ("steps", "temperature", "fresh", "novel", "balanced")


class FlowGenerator(FlowSampler):
    """A flow with what is needed to draw from it (:class:`FlowSampler`), which can be trained and kept."""

    @classmethod
    def train(
        cls,
        crystals: Crystals,
        config: FlowConfig,
        settings: TrainSettings,
        *,
        init: CrysJepa | None = None,
        settled: list[Settled] | None = None,
        **how: Unpack[TrainOptions],
    ) -> tuple[FlowGenerator, Training]:
        """Train from random weights, or from what ``init`` has learnt (:meth:`FlowNetwork.start_from`).

        ``settled`` is what :func:`settle_all` makes of the crystals, where that has been done already.

        Raises
        ------
        ValueError
            Without crystals, for one that is not canonical, or for an ``init`` of another network.
        """
        settled = settled or settle_all(crystals, symmetric=config.symmetric)
        torch.manual_seed(how.get("seed", 0))
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
            frozenset(formula_keys(reduced_formulas(crystals))),
        )
        return fresh._fit(PackedOrbits(settled), settings, how)

    def finetune(
        self,
        crystals: Crystals,
        settings: TrainSettings,
        *,
        settled: list[Settled] | None = None,
        **how: Unpack[TrainOptions],
    ) -> tuple[FlowGenerator, Training]:
        """A new generator trained on from this one; half of what it draws is built on their templates.

        Their formulas are known to it from then on, so that it does not repeat what was chosen for it. Raises
        ValueError as :meth:`train`.
        """
        settled = settled or settle_all(crystals, symmetric=self.flow.config.symmetric)
        templates = self.templates.merged(Templates.of([s.orbits for s in settled]), 0.5)
        known = self.known | set(formula_keys(reduced_formulas(crystals)))
        tuned = self._with(flow=copy.deepcopy(self.flow).requires_grad_(), templates=templates, known=known)
        return tuned._fit(PackedOrbits(settled), settings, how)

    def _fit(
        self,
        data: PackedOrbits,
        settings: TrainSettings,
        how: TrainOptions,
    ) -> tuple[FlowGenerator, Training]:
        self.flow.train()
        training = train_model(self.flow, data, FlowLoss(self.flow.config), settings, **how)
        ema = training.ema.cpu()
        assert isinstance(ema, Flow)
        origin = {
            "version": __version__,
            "seed": how.get("seed", 0),
            "steps": training.step,
            "num_crystals": len(data),
            "data": data.content_hash,
            "finetuned_from": self.origin or None,
        }
        return self._with(flow=ema.eval(), origin=origin), training

    def save(
        self, path: Path, *, dtype: torch.dtype = torch.float32, card: dict[str, Any] | None = None
    ) -> None:
        """Write weights (as ``dtype``), templates, configuration and origin to one safetensors file."""
        header = {
            "kind": KIND,
            "config": asdict(self.flow.config),
            "sampling": {name: getattr(self, name) for name in _SAMPLING},
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
            known = frozenset(tensors["known_formulas"].tolist())
            return cls(flow, templates, shares, known, **sampling, origin=origin)
