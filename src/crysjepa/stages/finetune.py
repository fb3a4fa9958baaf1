"""Fine-tune: the generator learns from the crystals that were selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import Generator
from crysjepa.nn.training import TrainSettings
from crysjepa.runtime.files import write_json
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Finetune(Stage):
    """``file``: ``generator`` fine-tuned on what ``select`` names (section 4.2, step 2).

    The table is the fine-tuning set. ``beside`` adds known crystals to it, that what was learnt first is not
    forgotten. With nothing to learn from the generator stays as it was.
    """

    name: ClassVar[str] = "finetune"
    output: str = "finetuning_set.parquet"
    generator: Callable[[], Generator]
    select: Callable[[CandidateTable], list[str]]
    settings: TrainSettings
    beside: Callable[[Crystals], Crystals] | None = None
    seed: int = 0
    device: str = "cpu"
    file: str = "generator.safetensors"

    @property
    def also(self) -> tuple[str, ...]:
        """The generator."""
        return (self.file,)

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The fine-tuning set, best first, canonical."""
        chosen, _ = canonicalise(table.crystals(self.select(table)))
        generator = self.generator()
        crystals = chosen if self.beside is None else self.beside(chosen)
        if len(crystals):
            generator, training = generator.finetune(
                crystals,
                self.settings,
                seed=self.seed,
                device=self.device,
                state=work.folder / "finetune-state.safetensors",
                progress=work.progress(self.name),
            )
            write_json(work.folder / "finetune-curve.json", training.curve)
        generator.save(work.folder / self.file)
        return CandidateTable.from_crystals(chosen)
