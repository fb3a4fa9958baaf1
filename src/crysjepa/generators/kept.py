"""Blocks of generated crystals kept in files: a run that was stopped goes on, and several can share one."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.base import Draws, Sampler, Samples
from crysjepa.generators.sampling import first_blocks, run_blocks
from crysjepa.runtime.files import file_metadata
from crysjepa.runtime.parts import Part, PartDone
from crysjepa.runtime.progress import Progress

_STAGE = "generate"


@dataclass(frozen=True)
class KeptSampler:
    """A generator whose samples are kept in a folder: what is there is read.

    ``key`` stands for all that a sample depends on beside its number, seed and prefix.
    """

    generator: Sampler
    folder: Path
    key: str

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """As the generator's."""
        path = self.path(num, seed, device, prefix)
        if (found := _read(path)) is not None:
            return found
        samples = self.generator.sample(num, seed=seed, device=device, prefix=prefix, progress=progress)
        order = [f"{prefix}-{i}" for i in range(num)]
        table = CandidateTable.from_crystals(samples.crystals, samples.failures, stage=_STAGE, order=order)
        for name, values in samples.columns.items():
            table = table.with_column(name, values, "string")
        metadata = {"draws": samples.draws and asdict(samples.draws), "columns": sorted(samples.columns)}
        table.write(path, metadata)
        return samples

    def path(self, num: int, seed: int, device: str, prefix: str) -> Path:
        """Where a sample is kept."""
        what = "\0".join([self.key, str(num), str(seed), device.split(":")[0]])
        return self.folder / f"{prefix}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.parquet"


def draw_part(
    kept: KeptSampler,
    num: int,
    part: Part,
    *,
    seed: int = 0,
    device: str = "cpu",
    processes: int = 1,
    progress: Progress | None = None,
) -> NoReturn:
    """Draw this part's share of the blocks that :func:`~crysjepa.generators.sampling.draw` begins with.

    What does not obey is drawn again when all parts are there. Raises PartDone.
    """
    tasks = first_blocks(num, seed, device)
    own = [tasks[k] for k in part.own([float(task[0]) for task in tasks])]
    for _ in run_blocks(kept, own, device, processes, progress):
        pass
    raise PartDone([kept.path(task[0], task[1], device, task[2]) for task in own], len(tasks))


def _read(path: Path) -> Samples | None:
    """Samples that were kept; None where there is no such file, or none that can be read."""
    try:
        table, metadata = CandidateTable.read(path), file_metadata(path)
    except (OSError, pa.ArrowException, ValueError):
        return None
    failures = {
        i: reason or ""
        for i, reason, status in zip(table.ids, table.column("reason"), table.column("status"), strict=True)
        if status != "ok"
    }
    columns = {
        name: {i: v for i, v in zip(table.ids, table.column(name), strict=True) if v is not None}
        for name in metadata["columns"]
    }
    draws = metadata["draws"]
    counts = None if draws is None else Draws(**{**draws, "notes": tuple(draws["notes"])})
    return Samples(table.crystals(table.ok_ids), failures, counts, columns)
