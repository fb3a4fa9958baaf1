"""Options that go together, as one object.

A verb takes such an object as it takes an option: :func:`crysjepa.cli.console.grouped` makes options of its
fields.
"""

from __future__ import annotations

from dataclasses import dataclass

from crysjepa.cli.options import (
    Best,
    ChemicalSystem,
    Combine,
    Config,
    Contains,
    ContainsAny,
    Device,
    Distinct,
    Elements,
    ExcludeElements,
    Fmax,
    ForceField,
    Formula,
    FormulaUnits,
    Generator,
    HullSource,
    Index,
    Jepa,
    JudgingIfAny,
    MatchingProcesses,
    MaxElements,
    MaxSites,
    MaxSteps,
    MinHullEntries,
    Objectives,
    OnExecutor,
    Overwrite,
    Parents,
    PartOfWork,
    Pick,
    Processes,
    ReferenceIfAny,
    Seed,
    SpaceGroup,
    Steps,
    Temperature,
)


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a verb works, whatever it does."""

    overwrite: Overwrite = False
    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class InParts(Running):
    """The same, or a part of it."""

    part: PartOfWork = None


@dataclass(frozen=True, kw_only=True)
class Anywhere(Running):
    """The same, here or elsewhere."""

    executor: OnExecutor = "local"


@dataclass(frozen=True, kw_only=True)
class InProcesses(Anywhere):
    """The same, in processes."""

    processes: Processes = None


@dataclass(frozen=True, kw_only=True)
class InProcessesAndParts(InProcesses, InParts):
    """The same in processes, or a part of it."""


@dataclass(frozen=True, kw_only=True)
class Comparing(Running):
    """The same, with processes that compare crystals."""

    processes: MatchingProcesses = 1


@dataclass(frozen=True, kw_only=True)
class JudgingInParts(Comparing, InParts, Anywhere):
    """The same, or a part of the relaxation."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a generated crystal may be."""

    elements: Elements = None
    exclude_elements: ExcludeElements = None
    chemical_system: ChemicalSystem = None
    contains: Contains = None
    contains_any: ContainsAny = None
    formula: Formula = None
    formula_units: FormulaUnits = None
    space_group: SpaceGroup = None
    max_sites: MaxSites = None
    max_elements: MaxElements = None
    distinct: Distinct = False


@dataclass(frozen=True, kw_only=True)
class Aimed:
    """What else is wanted of a crystal than that it is stable."""

    objective: Objectives = None
    combine: Combine = None


@dataclass(frozen=True, kw_only=True)
class AimedBy(Aimed):
    """The same, and who calculates what takes a force field."""

    force_field: ForceField = None


@dataclass(frozen=True, kw_only=True)
class Order(Aimed, Wanted):
    """What a crystal may be, and what else is wanted of it."""


@dataclass(frozen=True, kw_only=True)
class ForGenerator:
    """What one kind of generator may be told."""

    parents: Parents = None
    temperature: Temperature = None
    pick: Pick = None


@dataclass(frozen=True, kw_only=True)
class Models:
    """Checkpoints in place of those that ship."""

    generator: Generator = None
    jepa: Jepa = None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What rankers need."""

    seed: Seed = 0
    jepa: Jepa = None
    index: Index = None
    min_hull_entries: MinHullEntries = 1
    best: Best = None


@dataclass(frozen=True, kw_only=True)
class Relaxing:
    """How far a relaxation goes."""

    fmax: Fmax = None
    max_steps: MaxSteps = None
    config: Config = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a training goes on, and its other settings."""

    steps: Steps = None
    seed: Seed = 0
    config: Config = None


@dataclass(frozen=True, kw_only=True)
class JudgedBy:
    """What crystals are judged by."""

    reference: ReferenceIfAny = None
    hull: HullSource = None
    force_field: ForceField = None
    config: Config = None


@dataclass(frozen=True, kw_only=True)
class Judged(JudgedBy):
    """The same, by the rules of a preset."""

    preset: JudgingIfAny = None
