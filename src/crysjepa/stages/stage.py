"""What a stage is, and the one runner of stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.runtime.progress import Progress, StageProgress, of_stage
from crysjepa.runtime.run_directory import Run


@dataclass(frozen=True)
class Workspace:
    """Where a stage may write, and whom it tells how far it is.

    ``folder`` is the stage's own to write further files to; ``label`` follows a stage's name wherever
    progress is shown.
    """

    folder: Path
    report: StageProgress | None = None
    label: str = ""

    def progress(self, stage: str) -> Progress | None:
        """Progress of one stage, as ``progress(done, total)``."""
        return of_stage(self.report, f"{stage} ({self.label})" if self.label else stage)

    def staged(self) -> StageProgress | None:
        """Progress of work that names its own parts, as ``progress(stage, done, total)``."""
        report, label = self.report, self.label
        if report is None or not label:
            return report
        return lambda stage, done, total: report(f"{stage} ({label})", done, total)


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One step of the pipeline. Rows in are rows out, but where the stage's purpose is to take some.

    ``output`` names the file that its table goes to, in a folder perhaps; ``also`` further files that it
    writes to the workspace's folder, which is the table's. The same settings and the same table give the
    same files.
    """

    name: ClassVar[str]
    output: str

    @property
    def also(self) -> tuple[str, ...]:
        """Files that the stage writes besides its table."""
        return ()

    @abstractmethod
    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The table with what this stage has to say."""

    def about(self) -> Mapping[str, Any] | None:
        """What the table's file says of itself, in its metadata."""
        return None


@dataclass(frozen=True)
class Runner:
    """Runs stages in a run directory: one that is done is read again, not done again.

    Done is a stage whose files are all there, as they were written (:meth:`Run.stage`). ``folder`` is where,
    in the run directory, the files go.
    """

    directory: Run
    folder: str = ""
    report: StageProgress | None = None
    label: str = ""

    def within(self, folder: str, label: str) -> Runner:
        """The same for a folder in the run directory."""
        return replace(self, folder=folder, label=label)

    def path(self, name: str) -> Path:
        """Path of a file of these stages."""
        return self.directory.path(self._named(name))

    def __call__(self, stage: Stage, table: CandidateTable | None = None) -> CandidateTable:
        """The stage's table, as its file has it."""
        path = self.path(stage.output)

        def work() -> None:
            rows = CandidateTable.from_crystals(Crystals.empty()) if table is None else table
            found = stage.run(rows, Workspace(path.parent, self.report, self.label))
            found.write(path, stage.about())

        files = [self._named(stage.output)]
        files += [self._named(str(PurePosixPath(stage.output).with_name(name))) for name in stage.also]
        self.directory.stage(self._named(f"{stage.name}: {stage.output}"), files, work)
        return CandidateTable.read(path)

    def _named(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name
