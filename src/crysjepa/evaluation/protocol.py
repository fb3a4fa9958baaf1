"""How crystals are judged, by name: ``default``, ``paper``, ``strict``, ``mattergen`` and ``genbench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from crysjepa.closed_hull.settings import CompeteSettings
from crysjepa.evaluation.criteria import Rules
from crysjepa.evaluation.judge_names import further_judges, parse_judges
from crysjepa.relaxation.relax import PAPER as PAPER_RELAXATION
from crysjepa.relaxation.relax import RelaxSettings

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher


class Trust(BaseModel):
    """How far stability is looked into, beyond one judge and the known hull."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    close: CompeteSettings | None = Field(
        CompeteSettings(), description="the search for competing phases; off for none"
    )
    judges: str = Field(
        "auto", description="further force fields, parted by commas; auto: the second if installed; or none"
    )
    most: int | None = Field(
        100, ge=0, description="crystals that are looked into, the most promising first; null for all"
    )
    which: Literal["vsun", "all"] = Field(
        "vsun", description="look into V.S.U.N. crystals alone, or into all that did not fail"
    )

    @field_validator("close", mode="before")
    @classmethod
    def _off(cls, close: object) -> object:
        return None if close == "off" else close  # TOML has no null

    def further(self, first: str) -> tuple[tuple[str, ...], str | None]:
        """The judges beside the first, and a note where the default one is missing."""
        if self.judges in ("", "none"):
            return (), None
        named = None if self.judges == "auto" else parse_judges(self.judges)
        return further_judges(named, first)


class Protocol(BaseModel):
    """How crystals are judged; two results agree on all of this or cannot be compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = Field("default", description="the preset that this began as")
    force_field: str = "chgnet"
    relax: bool = True
    relaxation: RelaxSettings = RelaxSettings(fmax=0.1, max_steps=150)
    converged_only: bool = Field(False, description="a relaxation that did not converge is a failure")
    e_above_hull_max: float = Field(0.1, allow_inf_nan=False, description="eV/atom; stable at or below")
    min_hull_entries: int = Field(0, ge=0, description="compounds that the hull must know to call one stable")
    elemental_references: str | None = Field(None, description="JSON file; by default shipped, else fitted")
    allow_mixed_scales: bool = False
    composition_rule: Literal["paper", "smact", "genbench"] = "paper"
    batch_size: int | None = Field(None, ge=1, description="uniqueness within batches of so many")
    num_batches: int | None = Field(None, ge=1, description="batches that the protocol asks for")
    matching: Literal["structure-matcher", "hash", "bonded-graph", "pdd", "disordered"] = "structure-matcher"
    fingerprints: str | None = Field(
        None, description="data set or Parquet file with LeMat's hashes, in which crystals are looked up too"
    )
    ltol: float = Field(0.2, gt=0, description="StructureMatcher's tolerance of lengths, a fraction")
    stol: float = Field(0.3, gt=0, description="StructureMatcher's tolerance of sites, of (V/N)^(1/3)")
    angle_tol: float = Field(5.0, gt=0, description="StructureMatcher's tolerance of angles, degrees")
    symprec: float = Field(0.1, gt=0, description="Å; of space groups")
    prototypes: bool = Field(False, description="look for known prototypes: matches with species ignored")
    trust: Trust | None = Field(
        None,
        description="close the hull, ask further judges, say how likely DFT is to agree; off: none of it",
    )

    @field_validator("trust", mode="before")
    @classmethod
    def _off(cls, trust: object) -> object:
        return None if trust == "off" else trust  # TOML has no null

    @property
    def rules(self) -> Rules:
        """What judging needs to know of it."""
        return Rules(
            composition=self.composition_rule,
            batch_size=self.batch_size,
            converged_only=self.converged_only,
            matching=self.matching,
            matcher=self.matcher(),
            symprec=self.symprec,
            e_above_hull_max=self.e_above_hull_max,
            min_hull_entries=self.min_hull_entries,
            allow_mixed_scales=self.allow_mixed_scales,
        )

    def matcher(self) -> StructureMatcher:
        """pymatgen's, with these tolerances."""
        from pymatgen.analysis.structure_matcher import StructureMatcher

        return StructureMatcher(ltol=self.ltol, stol=self.stol, angle_tol=self.angle_tol)


PRESETS: dict[str, Protocol] = {
    "default": Protocol(),
    "paper": Protocol(
        preset="paper",
        force_field="mattersim",
        relaxation=PAPER_RELAXATION,
        batch_size=1000,
        num_batches=10,
        prototypes=True,
    ),
    "strict": Protocol(
        preset="strict", relaxation=RelaxSettings(), converged_only=True, min_hull_entries=1, prototypes=True
    ),
    "mattergen": Protocol(
        preset="mattergen",
        relaxation=RelaxSettings(max_steps=500),
        composition_rule="smact",
        matching="disordered",
    ),
    "genbench": Protocol(
        preset="genbench",
        relaxation=RelaxSettings(max_steps=0),
        composition_rule="genbench",
        symprec=0.01,
    ),
}
"""``paper`` follows section 3 and appendix D.2: MatterSim, uniqueness within each of ten batches of 1,000.
How far to relax the paper does not say: FIRE on ASE's ExpCellFilter to 0.05 eV/Å in at most 500 steps is what
others of the field do; unconverged relaxations are kept. ``strict``: uniqueness over all, converged only, no
stability without a compound to compare with, and novelty also against what the generator was fine-tuned on.
It relaxes to 0.05 eV/Å too, on ASE's Frechet cell filter, which ends at the same places in a quarter of the
steps. ``default`` stops relaxing early, for a laptop. ``mattergen`` has the definitions of MatterGen's own
evaluation (its repository at 6f3b04c8): stable at most 0.1 eV/atom above the hull, unique and novel by its
matcher for disordered structures, validity by smact beside and not in S.U.N.; its judge (MatterSim) and its
reference (Alexandria and the Materials Project) are not bundled. ``genbench`` is LeMat-GenBench's way
(:mod:`crysjepa.evaluation.genbench`): crystals are judged as they were submitted, by the energy of the first
step; its judges (ORB, MACE, UMA, each above its own hull) and its reference (LeMat-Bulk) are not bundled."""


def preset(name: str) -> Protocol:
    """The protocol of that name. Raises ValueError for another."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def as_protocol(given: Protocol | str | None) -> Protocol | None:
    """A protocol, or the preset of that name; None for none. Raises ValueError for an unknown name."""
    return preset(given) if isinstance(given, str) else given
