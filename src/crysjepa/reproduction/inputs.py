"""What a plan reads: its data by name or path, and whether all of it is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.datasets import DatasetError
from crysjepa.evaluation.metrics import scale_of
from crysjepa.generators.base import load_generator
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.fingerprints.ranker import Fingerprints
from crysjepa.ranking.registry import ranker_info
from crysjepa.relaxation.force_fields.registry import (
    force_field_info,
    force_field_names,
    require_installed,
)
from crysjepa.reproduction.plan import FINGERPRINT, Plan
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.progress import StageProgress
from crysjepa.workflows.train import ENERGY

MAX_SITES = 20
"""Of what Crys-JEPA is pretrained on (section 4.1)."""


@dataclass(frozen=True)
class Inputs:
    """Data sets by name, in the folder ``data``, to which they are downloaded where they are missing."""

    data: Path | None = None
    progress: StageProgress | None = None

    def source(self, name: str) -> str:
        """A path as it is, or a data set's file in the folder of the data. Raises DatasetError."""
        if Path(name).exists():
            return name
        if self.data is not None and (self.data / name).exists():
            return str(self.data / name)
        try:
            if datasets.info(name).bundled:
                return name
            return str(datasets.fetch(name, folder=self.data, report=self.progress))
        except DatasetError as error:
            raise DatasetError(
                f"{error}. Or name crystals of your own: training, pretraining, reference and hull are "
                "settings of --config"
            ) from error

    def check(self, plan: Plan) -> None:
        """What is missing is better said now than in a day.

        Raises
        ------
        UsageError
            For energies that the pretraining crystals lack, or the training crystals where a ranker needs
            them; for a file that is not there.
        CheckpointError
            For a model that cannot be read.
        DatasetError
            For data that are not there and cannot be downloaded.
        ImportError
            For a package, naming it.
        """
        for name in (plan.training, plan.reference, plan.hull, *(() if plan.jepa else plan.pretraining)):
            self.source(name)
        for name in () if plan.jepa else plan.pretraining:
            if not has_energies(self.source(name)):
                raise UsageError(f"Crys-JEPA learns from the column {ENERGY}, which {name} has not")
        if plan.jepa:
            CrysJepa.load(plan.jepa)
        if plan.generator:
            load_generator(plan.generator)
        force_fields = [plan.force_field, *(n for n in plan.rankers if ranker_info(n).force_field)]
        for name in force_fields:
            force_field_info(name)
            if name.partition("@")[0] in force_field_names():
                require_installed(name)
        if FINGERPRINT in plan.rankers:
            _ = Fingerprints().content_hash  # raises ImportError without matminer
        if plan.elemental_references and not Path(plan.elemental_references).is_file():
            raise UsageError(f"no such file: {plan.elemental_references}")
        needy = [name for name in plan.rankers if ranker_info(name).needs_hull]
        if needy and not has_energies(self.source(plan.training)):
            raise UsageError(
                f"{needy[0]} ranks by the energies of the training crystals, and {plan.training} has none: "
                "leave it out of rankers"
            )

    def small(self, name: str, path: Path) -> str:
        """Crystals of a data set with at most :data:`MAX_SITES`: in the file ``path``, if some have more."""
        source = self.source(name)
        table = datasets.load(source)
        crystals = table.crystals(table.ok_ids)
        fit = {i for i, n in zip(crystals.ids, crystals.num_atoms, strict=True) if n <= MAX_SITES}
        if len(fit) == len(crystals):
            return source
        path.parent.mkdir(parents=True, exist_ok=True)
        scale, kept = scale_of(source), table.frame[table.frame["id"].isin(fit)].reset_index(drop=True)
        CandidateTable(kept).write(path, None if scale is None else {"scale": scale})
        return str(path)


def has_energies(source: str) -> bool:
    """Whether crystals come with formation energies; of Parquet without reading them."""
    if Path(source).suffix.lower() == ".parquet":
        return ENERGY in pq.read_schema(source).names
    return ENERGY in datasets.load(source)
