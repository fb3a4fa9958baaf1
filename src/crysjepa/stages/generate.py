"""Generate: crystals of any generator, within constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.base import Sampler
from crysjepa.generators.constraints import Constraints
from crysjepa.generators.sampling import check_some, draw
from crysjepa.runtime.files import write_json
from crysjepa.runtime.threads import default_processes
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Generate(Stage):
    """``num`` new rows, with ids ``PREFIX-0``, ``PREFIX-1`` and so on; the table that comes in is not used.

    ``draws.json`` says how often was drawn, and why again.
    ``source`` gives the generator, and is called only if crystals are drawn. ``processes`` are by default one
    for each core, or one on a GPU; they decide nothing but the time it takes.
    """

    name: ClassVar[str] = "generate"
    output: str = "generated.parquet"
    source: Callable[[], Sampler]
    num: int
    seed: int
    prefix: str = "gen"
    constraints: Constraints = field(default_factory=Constraints)
    device: str = "cpu"
    processes: int | None = None

    @property
    def also(self) -> tuple[str, ...]:
        """The count of draws."""
        return ("draws.json",)

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """A row for each crystal asked for; one that could not be drawn has failed, with the reason.

        Raises ConstraintError where not one crystal obeys.
        """
        samples = draw(
            self.source(),
            self.num,
            self.constraints,
            seed=self.seed,
            device=self.device,
            prefix=self.prefix,
            processes=self.processes or default_processes(self.device),
            progress=work.progress(self.name),
        )
        if self.constraints != Constraints():
            check_some(samples, self.constraints)
        write_json(work.folder / "draws.json", asdict(samples.counts))
        order = [f"{self.prefix}-{i}" for i in range(self.num)]
        return CandidateTable.from_crystals(samples.crystals, samples.failures, stage=self.name, order=order)
