"""The verb ``generate``: crystals of any generator, within constraints, into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.base import Draws
from crysjepa.generators.constraints import Constraints
from crysjepa.generators.registry import DEFAULT, GeneratorOptions, make_generator
from crysjepa.generators.sampling import draw, drift
from crysjepa.runtime.threads import default_processes
from crysjepa.workflows.inputs import Report, Source, check_file, resolve_device, stage


@dataclass(frozen=True)
class Generated:
    """What was written: the table, how often was drawn, what was asked for, and what to beware of."""

    table: CandidateTable
    draws: Draws
    asked: tuple[str, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    def counts(self) -> dict[str, int]:
        """How many rows ended in which state."""
        return self.table.counts()


def generate(
    num: int,
    out: Source,
    *,
    generator: Source | None = None,
    options: GeneratorOptions | None = None,
    constraints: Constraints | None = None,
    seed: int = 0,
    device: str = "auto",
    processes: int | None = None,
    progress: Report | None = None,
) -> Generated:
    """Draw ``num`` crystals and write them as a candidate table of ``num`` rows.

    Parameters
    ----------
    generator
        A name from :func:`crysjepa.generators.registry.generator_names`, a checkpoint, or any file of
        crystals; by default the flow that ships.
    options
        What that generator may be told.
    constraints
        What a crystal may be made of; by default anything but radioactive elements and noble gases. What does
        not obey is drawn again and counted; a place that could not be filled is a ``failed`` row with the
        reason.
    processes
        The crystals are the same for any number of them; by default one for each core, or one on a GPU.

    Returns
    -------
    Generated
        Also in the file's metadata, under ``crysjepa``.

    Raises
    ------
    ValueError
        If ``num`` < 1, for an unknown generator, or for constraints that nothing obeys.
    """
    check_file(out)
    if num < 1:
        raise ValueError(f"--num is {num}: ask for at least one crystal")
    if processes is not None and processes < 1:
        raise ValueError(f"--processes is {processes}: at least one is needed")
    constraints = constraints or Constraints()
    source, chosen = make_generator(generator, options), resolve_device(device)
    samples = draw(
        source,
        num,
        constraints,
        seed=seed,
        device=chosen,
        processes=processes or default_processes(chosen),
        progress=stage(progress, "generate"),
    )
    order = [f"gen-{i}" for i in range(num)]
    table = CandidateTable.from_crystals(samples.crystals, samples.failures, stage="generate", order=order)
    for name, values in samples.columns.items():
        table = table.with_column(name, values, "string")
    warnings = tuple(drift(samples, source, constraints))
    done = Generated(table, samples.counts, tuple(constraints.describe()), warnings)
    named = DEFAULT if generator is None else Path(generator).name
    table.write(out, _about(named, seed, done))
    return done


def _about(generator: str, seed: int, done: Generated) -> dict[str, Any]:
    draws = done.draws
    return {
        "generator": generator,
        "seed": seed,
        "constraints": list(done.asked),
        "asked": draws.asked,
        "drawn": draws.drawn,
        "rejected": dict(draws.rejected),
        "notes": list(draws.notes),
        "warnings": list(done.warnings),
    }
