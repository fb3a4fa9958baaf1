"""How far to look for competing phases."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from crysjepa.energy.known_hull import NAME
from crysjepa.relaxation.relax import RelaxSettings


class CompeteSettings(BaseModel):
    """How far to look for competing phases.

    All numbers are for one chemical system and round, but ``proposals``, which is for each part of a system,
    once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposals: int = Field(
        800, ge=0, description="filled prototypes of each part of a system that are ranked"
    )
    static: int = Field(48, ge=0, description="of these, evaluated by the force field as they are")
    relaxed: int = Field(12, ge=0, description="of these, relaxed")
    rounds: int = Field(3, ge=1, description="after which the search ends, converged or not")
    margin: float = Field(
        0.1, ge=0, description="eV/atom above the present hull, up to which a crystal is worth a look"
    )
    max_sites: int = Field(20, ge=1, description="sites of a prototype's primitive cell, at most")
    parents: str = Field(NAME, description="known crystals whose prototypes are filled: a name or a path")
    relaxation: RelaxSettings = RelaxSettings(fmax=0.1, max_steps=60, time_limit=120)


EFFORTS = {
    "quick": CompeteSettings(static=24, relaxed=4, rounds=2),
    "standard": CompeteSettings(),
    "thorough": CompeteSettings(proposals=2000, static=100, relaxed=24, rounds=5),
}
"""By name: ``quick`` is what a run of ``discover`` can pay for its short list on two cores."""
