"""What an experiment of refinement does, and how much of it: read from a TOML file."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crysjepa.evaluation.protocol import Protocol, preset
from crysjepa.nn.training import TrainSettings

Source = Literal["base", "substitution"]
SOURCES: tuple[Source, ...] = get_args(Source)
NO_FORMULA_TWICE = "no formula twice"


class Arm(BaseModel):
    """One way to choose what the generator learns from; what is not said is as in the plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranker: str
    source: Source = Field(description="who draws the first round; the refined generator draws the others")
    pool: int = Field(description="crystals drawn for each round: of the plan's, the first, for the first")
    select: int = Field(description="of them chosen and relaxed, each round")
    steps: int = Field(description="of fine-tuning, each round")
    rounds: int = Field(1, ge=1)
    distinct: bool = Field(False, description="what it draws to be judged in the end has no formula twice")
    label: str = Field(description="the ranker, and in what the arm differs from the plan")
    choice: str = Field(description="of that what matters to the choice of the first round")

    @property
    def chosen(self) -> str:
        """Folder of what a round chooses, within the round's."""
        return f"{self.ranker}-{self.select}-of-{self.pool}"

    def folder(self, round_: int) -> str:
        """Folder of a round: arms that have taken the same path so far share it."""
        return "/".join([self.source, *[f"{self.chosen}/{self.steps}-steps"] * round_])


class Plan(BaseModel):
    """The plan: its numbers hold for every arm that does not say otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_steps: int | None = Field(
        None, description="train a flow for so many steps; by default the shipped one"
    )
    generator: str | None = Field(None, description="checkpoint of the base, if it is another")
    source: Source = Field("base", description="who draws the first round")
    pool: int = Field(4000, description="crystals that are drawn and ranked")
    select: int = Field(300, description="of them chosen by each ranker")
    sample: int = Field(500, description="drawn and judged of the base and of each refined generator")
    peers: int = Field(500, description="of DiffCSP's crystals judged")
    arms: tuple[Arm, ...] = Field(description='such as { ranker = "random", select = 100 }')
    learn_from: Literal["chosen", "vsun"] = Field(
        "chosen", description="all that were chosen and relaxed, or those found V.S.U.N. then"
    )
    finetune: TrainSettings = TrainSettings(
        steps=600, batch_size=64, learning_rate=5e-4, warmup=20, ema_decay=0.99, checkpoint_every=100
    )
    judging: Protocol = preset("strict")
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _fill_arms(cls, values: dict[str, Any]) -> dict[str, Any]:
        fields = cls.model_fields
        own = {n: values.get(n, fields[n].default) for n in ("source", "pool", "select")}
        own["steps"] = TrainSettings.model_validate(values.get("finetune", fields["finetune"].default)).steps
        arms = [a if isinstance(a, dict) else a.model_dump() for a in values.get("arms", ())]
        return {**values, "arms": [{**own, **a, **_labels(a, own)} for a in arms]}

    @model_validator(mode="after")
    def _pools(self) -> Plan:
        if any(arm.pool > self.pool for arm in self.arms):
            raise ValueError(f"an arm's pool is a part of the plan's: at most {self.pool}")
        return self


def _labels(arm: dict[str, Any], plan: dict[str, Any]) -> dict[str, str]:
    if "label" in arm:  # it was a plan already
        return {}
    choosing = {"source": "{}", "select": "{} chosen", "pool": "of {}"}
    learning = {"steps": "{} steps", "rounds": "{} rounds", "distinct": NO_FORMULA_TWICE}
    own = {**plan, "rounds": 1, "distinct": False}

    def told(words: dict[str, str]) -> str:
        differs = [text.format(arm[n]) for n, text in words.items() if n in arm and arm[n] != own[n]]
        return ", ".join([arm["ranker"], *differs])

    return {"label": told(choosing | learning), "choice": told(choosing)}
