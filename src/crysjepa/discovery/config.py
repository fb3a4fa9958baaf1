"""What decides what the loop finds, and the presets."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from crysjepa.closed_hull.settings import EFFORTS
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.protocol import Trust
from crysjepa.evaluation.run import Protocol
from crysjepa.generators.constraints import Constraints
from crysjepa.nn.training import TrainSettings
from crysjepa.properties.aims import Aims, Combination
from crysjepa.properties.base import How
from crysjepa.ranking.registry import ranker_info
from crysjepa.relaxation.relax import PAPER as PAPER_RELAXATION
from crysjepa.relaxation.relax import RelaxSettings


class Wanted(BaseModel):
    """What the crystals may be: :class:`~crysjepa.generators.constraints.Constraints` as text and numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    elements: str | None = None
    exclude_elements: str | None = None
    chemical_system: str | None = None
    contains: str | None = None
    contains_any: str | None = None
    formula: str | None = None
    formula_units: str | int | None = None
    space_group: str | int | None = None
    max_sites: int | None = None
    max_elements: int | None = None
    distinct: bool = False

    @model_validator(mode="after")
    def _no_contradiction(self) -> Wanted:
        self.parsed()
        return self

    def parsed(self) -> Constraints:
        """As an object."""
        return Constraints.parse(**self.model_dump())


class DiscoverConfig(BaseModel):
    """Everything that decides what a run finds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "quick"
    reference: str = Field(NAME, description="known crystals: a data set's name or a path")
    hull: str | None = Field(
        None,
        description="of energies above hull; by default the bundled one with the reference's energies",
    )
    generator: str | None = Field(
        None, description="checkpoint, a plug-in's name, or NAME@FILE as it was saved; by default the flow"
    )
    source: Literal["generator", "substitution"] = Field(
        "generator", description="who draws the first round: substitution, too, teaches the generator"
    )
    constraints: Wanted | None = Field(None, description="what every round draws; by default anything")
    objectives: tuple[str, ...] = Field(
        (), description="what else is wanted, such as bulk_modulus>=200 or max:capacity:Li"
    )
    combine: Combination = Field("product", description="how the short list weighs them: or pareto")
    jepa: str | None = Field(None, description="checkpoint; by default the shipped one")
    ranker: str = Field("jepa-hull", description="a name that `crysjepa screen --by` knows")
    num: int = Field(240, ge=1, description="crystals of the base model that are relaxed")
    num_refined: int = Field(120, ge=1, description="crystals relaxed after each refinement")
    oversample: int = Field(
        4, ge=1, description="drawn for each that is relaxed: the best by `screen_by` are"
    )
    screen_by: str = Field("jepa-relaxed", description="ranks what was drawn, before anything is relaxed")
    control: int = Field(
        60, ge=0, description="of each round, drawn crystals at random, relaxed to compare those chosen with"
    )
    learning_control: bool = Field(
        False,
        description="beside each refinement one that learns from as many V.U.N. crystals at random, and "
        "draws `control` crystals: what the choice is worth",
    )
    rounds: int = Field(1, ge=0, description="refinements")
    patience: int | None = Field(
        None, ge=1, description="stop after so many rounds in a row whose V.S.U.N. is no better"
    )
    keep: float | Literal["auto"] = Field(
        1.0, description="share of the V.U.N. crystals to fine-tune on; auto: the largest that does no harm"
    )
    replay: float = Field(0.0, ge=0, lt=1, description="share of known crystals in what is learnt from")
    drift: float | None = Field(
        2.0, ge=1, allow_inf_nan=False,
        description="how many times as frequent an element may become among those chosen; off: any",
    )  # fmt: skip
    finetune: TrainSettings = TrainSettings(
        steps=120, batch_size=32, learning_rate=1e-4, warmup=10, ema_decay=0.98, checkpoint_every=50
    )
    protocol: Protocol = Protocol(
        relaxation=RelaxSettings(fmax=0.1, max_steps=60, time_limit=120), min_hull_entries=1,
        trust=Trust(close=EFFORTS["quick"], most=60),
    )  # fmt: skip
    shortlist: int = Field(50, ge=0, description="longest short list")
    seed: int = Field(0, ge=0)

    @field_validator("ranker", "screen_by")
    @classmethod
    def _known_ranker(cls, name: str) -> str:
        return ranker_info(name).name

    @field_validator("drift", mode="before")
    @classmethod
    def _off(cls, drift: object) -> object:
        return None if drift == "off" else drift  # TOML has no null

    @field_validator("keep")
    @classmethod
    def _a_share(cls, keep: float | str) -> float | str:
        if not isinstance(keep, str) and not 0 < keep <= 1:
            raise ValueError(f"{keep} is no share: above 0 and at most 1, or auto")
        return keep

    def aims(self, device: str = "cpu") -> Aims | None:
        """The objectives as an object; None where there are none. Raises PropertyError, a ValueError."""
        how = How(force_field=self.protocol.force_field, device=device)
        return Aims.parse(self.objectives, self.combine, how)

    @property
    def wanted(self) -> Constraints:
        """The constraints as an object; elements that no target allows are excluded.

        Raises ConstraintError, a ValueError, where nothing is left.
        """
        asked = Constraints() if self.constraints is None else self.constraints.parsed()
        aims = self.aims()
        beyond = frozenset() if aims is None else aims.elements_beyond()
        return replace(asked, excluded=asked.excluded | beyond) if beyond else asked

    @model_validator(mode="after")
    def _objectives_make_sense(self) -> DiscoverConfig:
        _ = self.wanted
        if not self.objectives and self.combine != "product":
            raise ValueError("combine has no effect without objectives")
        if self.objectives and self.oversample > 1 and not ranker_info(self.screen_by).needs_hull:
            raise ValueError(
                f"objectives are weighed against stability, and {self.screen_by} tells no energy above the "
                "hull: set screen_by to jepa-relaxed, jepa-hull, composition or a force field"
            )
        return self

    @model_validator(mode="after")
    def _needs_energies(self) -> DiscoverConfig:
        if not self.protocol.relax:
            raise ValueError("the loop relaxes what it generates: protocol.relax cannot be false")
        return self


_PAPER = DiscoverConfig(
    preset="paper-mp20",
    reference="mp_20_train",
    hull="mp_2023_hull",
    num=400_000,
    num_refined=10_000,
    ranker="jepa-distance",
    oversample=1,
    keep=0.01,
    drift=None,
    finetune=TrainSettings(steps=20_000, batch_size=256, learning_rate=1e-4, warmup=500, ema_decay=0.999),
    protocol=Protocol(force_field="mattersim", relaxation=PAPER_RELAXATION),
)

PRESETS: dict[str, DiscoverConfig] = {
    "quick": DiscoverConfig(),
    "paper-mp20": _PAPER,
    "paper-alex-mp20": _PAPER.model_copy(
        update={
            "preset": "paper-alex-mp20",
            "reference": "alex_mp_20",
            "hull": "alex_mp_2020correction_hull",
            "num": 100_000,
            "keep": 0.05,
        }
    ),
}
"""``quick`` fits a laptop, and draws four crystals for each that it relaxes; the others follow the paper
(generated, share kept, force field, relaxation, nothing screened before it is relaxed).

``keep`` is a share of the V.U.N. crystals, as section 4.2 has it (steps 2 and 5); a share of all that were
generated would be larger by one over their rate.
"""
