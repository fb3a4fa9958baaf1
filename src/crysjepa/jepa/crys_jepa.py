"""Pre-training Crys-JEPA, embedding with it, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa import __version__
from crysjepa.core.crystals import Crystals
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.jepa.objectives import JepaLoss
from crysjepa.nn import checkpoint
from crysjepa.nn.batches import PackedCrystals, bounded_batches
from crysjepa.nn.training import Training, TrainOptions, TrainSettings, train_model
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.threads import map_batches

KIND = "crys-jepa"

MAX_PAIRS = 8_192
"""Pairs of sites in one batch: small enough for the caches of a CPU, and for any memory."""


class PretrainOptions(TrainOptions, total=False):
    """Keywords of :meth:`CrysJepa.pretrain`; what they mean is said there."""

    relaxed_energies: NDArray[np.floating] | None
    site_energies: NDArray[np.floating] | None
    scale: str
    init: CrysJepa | None


class CrysJepa:
    """A trained model: crystals in, embeddings and (with a read-out) formation energies out.

    Where :attr:`invariant` is False, crystals must be canonical
    (:func:`crysjepa.core.canonical.canonicalise`).
    """

    def __init__(self, model: Jepa, origin: dict[str, Any] | None = None) -> None:
        self.model = model.eval()
        self._somewhere = next(model.parameters())
        self.origin = dict(origin or {})

    @property
    def width(self) -> int:
        """Length D of an embedding."""
        return self.model.config.width

    @property
    def invariant(self) -> bool:
        """Whether site order, origin, rotation and choice of cell cannot matter, by construction."""
        return self.model.config.invariant

    @property
    def has_energies(self) -> bool:
        """Whether it reads energies out of embeddings."""
        return self.model.readout is not None

    @property
    def scale(self) -> str:
        """Of the formation energies that it was trained on, such as ``"materials_project"``."""
        return str(self.origin.get("scale", "unknown"))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of configuration and weights."""
        digest = hashlib.sha256(json.dumps(self.model.config.to_dict(), sort_keys=True).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def pretrain(
        cls,
        crystals: Crystals,
        formation_energy_per_atom: NDArray[np.floating],
        config: JepaConfig,
        settings: TrainSettings,
        **how: Unpack[PretrainOptions],
    ) -> tuple[CrysJepa, Training]:
        """Train on crystals with formation energies (B,) in eV/atom, from random weights or from ``init``.

        Where known, ``relaxed_energies`` (B,) are those that the crystals relax to, ``site_energies`` (N,)
        those of the sites; ``scale`` is what all of them are relative to. Raises ValueError where ``init``
        has another configuration.
        """
        scale, init = how.pop("scale", "unknown"), how.pop("init", None)
        relaxed, of_sites = how.pop("relaxed_energies", None), how.pop("site_energies", None)
        if init is not None and init.model.config != config:
            raise ValueError("the model to go on from has another network or objective")
        data = PackedCrystals(
            crystals,
            formation_energy_per_atom,
            relaxed_energies=relaxed,
            site_energies=of_sites,
        )
        torch.manual_seed(how.get("seed", 0))
        model = Jepa(config)
        if init is not None:
            model.load_state_dict(init.model.state_dict())
        training = train_model(model, data, JepaLoss(config), settings, **cast(TrainOptions, how))
        ema = training.ema.cpu()
        assert isinstance(ema, Jepa)
        origin = {
            "version": __version__,
            "seed": how.get("seed", 0),
            "steps": training.step,
            "num_crystals": len(data),
            "data": data.content_hash,
            "scale": scale,
            "init": init.origin if init is not None else None,
        }
        return cls(ema, origin), training

    def embed(
        self, crystals: Crystals, *, device: str = "cpu", progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Embeddings (B, D)."""
        out = np.zeros((len(crystals), self.width), dtype=np.float32)

        def keep(rows: NDArray[np.int64], crystal: Tensor, atoms: Tensor) -> None:
            out[rows] = crystal.numpy()

        self._encode(crystals, keep, device, progress)
        return out

    def embed_each(
        self, crystals: Crystals, *, device: str = "cpu", progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Embeddings (B, D), NaN where the model refuses a crystal, and why, by row.

        It refuses whole batches, so these are halved until the crystal stands alone and costs no other.
        """
        try:
            return self.embed(crystals, device=device, progress=progress), {}
        except ValueError as error:
            if len(crystals) == 1:
                return np.full((1, self.width), np.nan, dtype=np.float32), {0: str(error)}
        middle = len(crystals) // 2
        first, refused = self.embed_each(crystals[:middle], device=device)
        second, others = self.embed_each(crystals[middle:], device=device)
        return np.concatenate([first, second]), refused | {middle + row: why for row, why in others.items()}

    def embed_atoms(
        self, crystals: Crystals, *, device: str = "cpu", progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Embeddings (N, D) of the sites, in the order of ``crystals``."""
        out = np.zeros((len(crystals.atomic_numbers), self.width), dtype=np.float32)

        def keep(rows: NDArray[np.int64], crystal: Tensor, atoms: Tensor) -> None:
            for row, found in zip(rows, atoms.numpy(), strict=True):
                start, stop = crystals.offsets[row], crystals.offsets[row + 1]
                out[start:stop] = found[: stop - start]

        self._encode(crystals, keep, device, progress)
        return out

    @torch.inference_mode()
    def energies(self, embeddings: NDArray[np.float32], *, relaxed: bool = False) -> NDArray[np.float64]:
        """Formation energies (B,) in eV/atom, read out of embeddings (B, D).

        ``relaxed``: of what the crystals would relax to, by the predictor. Raises ValueError for a model
        that was trained without energies, and for ``relaxed`` of a Transformer, whose predictor is about
        translations and rotations.
        """
        if not self.has_energies:
            raise ValueError(
                f"this model has no energy read-out: its objective is {self.model.config.objective}"
            )
        if relaxed and not self.invariant:
            raise ValueError("only a model with an invariant encoder predicts energies after relaxation")
        h = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
        model = self._on("cpu")
        return model.energies(model.predictor(h) if relaxed else h).double().numpy()

    def energies_after(
        self, embeddings: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """:meth:`energies` after relaxation, and what relaxing is expected to gain, at least 0: (B,) each."""
        after = self.energies(embeddings, relaxed=True)
        return after, np.maximum(self.energies(embeddings) - after, 0.0)

    def _encode(
        self,
        crystals: Crystals,
        keep: Callable[[NDArray[np.int64], Tensor, Tensor], None],
        device: str,
        progress: Progress | None,
    ) -> None:
        """``keep`` the rows, embeddings (B, D) and atoms' embeddings (B, M, D) of one batch after another."""
        data, encoder = PackedCrystals(crystals, symmetric=not self.invariant), self._on(device).encoder
        done = 0

        @torch.inference_mode()
        def encode(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            batch = data.batch(rows).to(device)
            found, atoms = encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
            return found.float().cpu(), atoms.float().cpu()

        def take(rows: NDArray[np.int64], found: tuple[Tensor, Tensor]) -> None:
            nonlocal done
            keep(rows, *found)
            done += len(rows)
            if progress is not None:
                progress(done, len(crystals))

        map_batches(encode, bounded_batches(crystals.num_atoms, MAX_PAIRS), take)

    def _on(self, device: str) -> Jepa:
        """The model, on a device. Moving it to where it is would take longer than embedding a crystal."""
        if self._somewhere.device != torch.device(device):
            self.model.to(device)
        return self.model

    def save(
        self, path: Path, *, dtype: torch.dtype = torch.float32, card: dict[str, Any] | None = None
    ) -> None:
        """Write the model (as ``dtype``) with its configuration and origin to one safetensors file."""
        header = {"kind": KIND, "config": self.model.config.to_dict(), "origin": self.origin}
        tensors = {k: v.to(dtype) for k, v in self.model.state_dict().items()}
        checkpoint.save(path, tensors, header | ({"card": card} if card else {}))

    @classmethod
    def load(cls, path: str | Path | None = None) -> CrysJepa:
        """Read what :meth:`save` wrote; by default the one that ships with crysjepa.

        Raises CheckpointError for anything else.
        """
        from crysjepa.weights import shipped

        path = Path(path) if path is not None else shipped("jepa")
        tensors, header = checkpoint.load(path, kind=KIND)
        with checkpoint.explained(path):
            config = JepaConfig.from_dict(header["config"])
            model = checkpoint.filled(lambda: Jepa(config), tensors, header["config"])
            return cls(model, dict(header["origin"], file=file_hash(path)))
