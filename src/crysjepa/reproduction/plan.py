"""What a reproduction does, and how much of it: the paper's numbers at any scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from crysjepa.evaluation.protocol import Protocol
from crysjepa.generators.diffusion.generator import LatticeNoise
from crysjepa.nn.sizes import LARGEST_PART, paper_part
from crysjepa.nn.training import TrainSettings
from crysjepa.ranking.registry import ranker_info
from crysjepa.relaxation.relax import PAPER as PAPER_RELAXATION
from crysjepa.relaxation.relax import QUICK, RelaxSettings

Preset = Literal["paper-mp20", "paper-alex-mp20"]
DISTANCE, RANDOM, FINGERPRINT = "jepa-distance", "random", "fingerprint"
"""D_C of Eq. 11, which the paper ranks by; the control; and 𝒟 of appendix D.4, the nearest of all."""

SWEEP, SHARES = (0.25, 0.5, 2.0, 4.0), (0.25, 0.5)
"""Of Fig. 7: k, as multiples of the plan's, and parts of 𝒩."""
_PRESETS: dict[Preset, dict[str, object]] = {
    "paper-mp20": {
        "training": "mp_20_train", "reference": "mp_2022", "hull": "mp_2023_hull", "num": 400_000,
        "keep": 0.01, "rankers": (DISTANCE, RANDOM, "chgnet", "jepa-hull", FINGERPRINT),
    },
    "paper-alex-mp20": {
        "training": "alex_mp_20", "reference": "alex_mp_20", "hull": "alex_mp_2020correction_hull",
        "num": 100_000, "keep": 0.05, "rankers": (DISTANCE, RANDOM, FINGERPRINT),
    },
}  # fmt: skip
_FULL = {"pretrain": 128_000, "train": 320_000, "finetune": 20_000}
"""Steps at full scale. The paper does not say: choices of ours."""
_FEW = {"pretrain": 20, "train": 20, "finetune": 10}


@dataclass(frozen=True)
class Arm:
    """A ranker, the share ``keep`` of the V.U.N. crystals that it chooses, and the share of the pool."""

    ranker: str
    keep: float
    share: float = 1.0
    swept: bool = False

    @property
    def folder(self) -> str:
        """Its name among the files."""
        return f"{self.ranker}-k{self.keep:g}" + ("" if self.share == 1 else f"-of-{self.share:g}")

    @property
    def label(self) -> str:
        """Its name in progress and notes."""
        own = f"{self.ranker}, k = {self.keep:.2%}" if self.swept else self.ranker
        return own if self.share == 1 else f"{own}, {self.share:.0%} of the pool"


class Plan(BaseModel):
    """Everything that decides what a reproduction finds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Preset
    scale: float = Field(gt=0, le=1, description="of models, counts and steps together")
    training: str = Field(description="crystals that the generator learns from, and D_C is measured from")
    pretraining: tuple[str, ...] = Field(("mptrj", "mp_2022"), description="with energies, for Crys-JEPA")
    reference: str = Field(description="known crystals: what matches one is not novel")
    hull: str = Field(description="what crystals are judged against")
    force_field: str = Field("mattersim", description="relaxes and judges")
    elemental_references: str | None = Field(None, description="of the force field: a JSON file")
    size: str = Field(description="of both networks: paper, or paper/N for an Nth of its parameters")
    lattice_noise: LatticeNoise = Field(
        "crystal", description="drawn once a crystal, or for each site (Eq. 3)"
    )
    generator: str | None = Field(
        None, description="a checkpoint of the base model; by default it is trained"
    )
    jepa: str | None = Field(None, description="a checkpoint of Crys-JEPA; by default it is trained")
    pretrain: TrainSettings
    train: TrainSettings
    finetune: TrainSettings
    num: int = Field(ge=1, description="crystals that the base model draws, 𝒩")
    keep: float = Field(gt=0, le=1, description="k: share of the V.U.N. crystals that is learnt from")
    at_least: int = Field(1, ge=1, description="crystals that are learnt from, where the share is smaller")
    batches: int = Field(10, ge=1)
    batch_size: int = Field(ge=1, description="crystals of a batch: uniqueness is within one")
    rankers: tuple[str, ...] = Field(description="that choose what is learnt from, each for itself")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of fine-tuning and of what is drawn then")
    ablations: bool = Field(False, description="other k and 𝒩 (Fig. 7), and other losses (Fig. 8, 9)")
    figures: bool = Field(True, description="trends along the distance (Fig. 1b, 5a) and the map (Fig. 3)")
    relaxation: RelaxSettings = PAPER_RELAXATION

    @field_validator("rankers")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a ranker is named twice")
        return tuple(ranker_info(name).name for name in names)

    @field_validator("size")
    @classmethod
    def _papers(cls, size: str) -> str:
        if paper_part(size) is None:
            raise ValueError("the paper's networks are asked for: paper, or a part such as paper/64")
        return size

    @property
    def arms(self) -> list[Arm]:
        """What chooses, and how much: the rankers, and for Fig. 7 other shares and pools."""
        found = [Arm(name, self.keep) for name in self.rankers]
        if self.ablations and DISTANCE in self.rankers:
            found += [Arm(DISTANCE, min(1.0, self.keep * times), swept=True) for times in SWEEP]
            found += [Arm(DISTANCE, self.keep, share, swept=True) for share in SHARES]
        return found

    @property
    def protocol(self) -> Protocol:
        """By what all generators are judged."""
        return Protocol(
            preset="paper", force_field=self.force_field, relaxation=self.relaxation,
            batch_size=self.batch_size, elemental_references=self.elemental_references,
        )  # fmt: skip

    @property
    def num_refined(self) -> int:
        """Crystals that a refined generator draws, with one seed."""
        return self.batches * self.batch_size


def plan_for(preset: Preset, scale: float = 1.0) -> Plan:
    """The paper's plan at a scale: parameters, crystals and steps are so many times the paper's.

    Below full scale relaxation is :data:`~crysjepa.relaxation.relax.QUICK`, a batch has 20 crystals at least
    and 32 are learnt from at least, or a rate would mean nothing.

    Raises
    ------
    ValueError
        For a scale that is not above 0 and at most 1.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"the scale is {scale:g}: above 0 and at most 1, such as 1/64")
    part, small = min(round(1 / scale), LARGEST_PART), scale < 1
    values: dict[str, object] = {**_PRESETS[preset]}
    num = values.pop("num")
    assert isinstance(num, int)
    rates = {"pretrain": 1e-4, "train": 1e-4, "finetune": 1e-4}
    if small:  # narrower networks bear larger steps
        rates |= {"pretrain": min(1e-3, 2e-4 * part**0.4), "train": min(1e-3, 2e-4 * part**0.4)}
    settings = {name: _settings(name, scale, float(f"{rate:.0e}")) for name, rate in rates.items()}
    return Plan.model_validate({
        **values, **settings, "preset": preset, "scale": scale,
        "size": "paper" if part == 1 else f"paper/{part}",
        "num": max(200, round(num * scale)),
        "at_least": 32 if small else 1,
        "batch_size": max(20, round(1000 * scale)),
        "relaxation": QUICK if small else PAPER_RELAXATION,
    })  # fmt: skip


def _settings(name: str, scale: float, rate: float) -> TrainSettings:
    steps = max(_FEW[name], round(_FULL[name] * scale))
    batch = {"pretrain": 256, "train": 128, "finetune": 256 if scale == 1 else 64}[name]
    return TrainSettings(
        steps=steps, batch_size=batch, learning_rate=rate, warmup=min(500, steps // 20), checkpoint_every=500
    )
