"""How far structure prediction goes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from crysjepa.closed_hull.settings import CompeteSettings
from crysjepa.energy.known_hull import NAME
from crysjepa.relaxation.relax import RelaxSettings


class PredictSettings(BaseModel):
    """How far to look for the structures of a formula."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num: int = Field(200, ge=1, description="candidates that are proposed and ranked by the embedding")
    static: int = Field(40, ge=1, description="of these, evaluated by the force field as they are")
    relaxed: int = Field(16, ge=1, description="of these, relaxed")
    max_sites: int = Field(20, ge=1, description="sites of a primitive cell, at most")
    prototypes: float = Field(
        0.5, ge=0, le=1, description="share of num that known prototypes may take, filled; the flow the rest"
    )
    variants: int = Field(3, ge=1, description="parents of a prototype that are filled, the likeliest")
    most_draws: int = Field(
        6, ge=1, description="crystals drawn of one template with the same elements, where its sites may move"
    )
    temperature: float = Field(
        2.0, gt=0, description="of the choice of templates; 1: as often as the flow expects them"
    )
    flow_steps: int = Field(
        32, ge=1, description="of the flow, from noise to crystal: relaxed is what it draws"
    )
    alike: int = Field(
        3, ge=1, description="candidates of one space group and its orbits that are evaluated, at most"
    )
    known: bool = Field(
        True, description="known crystals of the formula are candidates, and parents of others"
    )
    force_field: str = "chgnet"
    relaxation: RelaxSettings = RelaxSettings(fmax=0.1, max_steps=150, time_limit=120)
    judges: str = Field(
        "auto",
        description="force fields that evaluate the polymorphs as they are, parted by commas; the last has "
        "the last word; auto: the second judge if installed; or none",
    )
    elemental_references: str | None = Field(None, description="JSON file; by default shipped, else fitted")
    parents: str = Field(NAME, description="known crystals whose prototypes are filled: a name or a path")
    hull: str | None = Field(None, description="hull that polymorphs are compared with; by default known")
    generator: str | None = Field(None, description="a flow's checkpoint; by default the one that ships")
    jepa: str | None = Field(None, description="Crys-JEPA's checkpoint; by default the one that ships")
    close: CompeteSettings | None = Field(None, description="search for what competes with the formula")
    cifs: int = Field(20, ge=0, description="polymorphs of which a CIF is written, the lowest")
    seed: int = Field(0, ge=0, description="same seed, same result")
