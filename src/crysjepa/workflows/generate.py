"""The verb ``generate``: crystals of any generator, within constraints, into a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Unpack, cast

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.base import Draws, NarrowedSampler, Sampler
from crysjepa.generators.constraints import Constraints
from crysjepa.generators.kept import KeptSampler, draw_part
from crysjepa.generators.registry import (
    DEFAULT,
    GeneratorOptions,
    generator_names,
    make_generator,
    plug_in_of,
)
from crysjepa.generators.sampling import check_some, draw, drift
from crysjepa.runtime.execution import Execution, ExecutionOptions
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.parts import Part, part_in
from crysjepa.runtime.threads import default_processes
from crysjepa.workflows.inputs import Source, beside
from crysjepa.workflows.output import Output


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
    **how: Unpack[ExecutionOptions],
) -> Generated:
    """Draw ``num`` crystals and write them as a candidate table of ``num`` rows.

    Parameters
    ----------
    out
        In Parquet there is a row for each of ``num``; what other formats cannot hold is said in a note.
    generator
        A name from :func:`crysjepa.generators.registry.generator_names`, a checkpoint, any file of crystals,
        or ``NAME@FILE``, a plug-in as it was saved; by default the flow that ships.
    options
        What that generator may be told.
    constraints
        What a crystal may be made of; by default anything but radioactive elements and noble gases. What does
        not obey is drawn again and counted; a place that could not be filled is a ``failed`` row with the
        reason.
    how
        See :class:`~crysjepa.runtime.execution.Execution`. The crystals are the same for any number of
        processes.

    Returns
    -------
    Generated
        It is also in the file's metadata, under ``crysjepa``.

    Raises
    ------
    OutputError
        If ``out`` cannot be written, or is there and was made otherwise.
    ValueError
        If ``num`` < 1, for an unknown generator, or for constraints that nothing obeys.
    """
    run, place = Execution(**how), Output(out)
    if num < 1:
        raise ValueError(f"--num is {num}: ask for at least one crystal")
    if run.processes is not None and run.processes < 1:
        raise ValueError(f"--processes is {run.processes}: at least one is needed")
    place.check_holds(num)
    constraints, options = constraints or Constraints(), options or GeneratorOptions()
    settings, sources = _made_by(generator, num, options, constraints, seed)
    if (before := place.found("generate", settings, sources, overwrite=run.overwrite)) is not None:
        return _made_before(place, before)
    source, chosen = make_generator(generator, options), run.found_device
    named = settings["generator"]
    shards, work = beside(out, ".shards"), replace(run, device=chosen)
    kept = _kept(source, constraints, shards, place.made)
    if (part := part_in(shards)) is not None:
        _draw_part(kept, named, num, part, seed, work)
    samples = draw(kept, num, constraints, seed=seed, prefix="gen", **_drawing(work))
    check_some(samples, constraints)
    order = [f"gen-{i}" for i in range(num)]
    table = CandidateTable.from_crystals(samples.crystals, samples.failures, stage="generate", order=order)
    for name, values in samples.columns.items():
        table = table.with_column(name, values, "string")
    warnings = tuple(drift(samples, source, constraints))
    done = Generated(table, samples.counts, tuple(constraints.describe()), warnings)
    place.write(table, _about(named, seed, done))
    shutil.rmtree(shards, ignore_errors=True)
    return done


def _drawing(work: Execution) -> dict[str, Any]:
    processes = work.processes or default_processes(work.device)
    return {"device": work.device, "processes": processes, "progress": work.stage("generate")}


def _draw_part(kept: Sampler, name: str, num: int, part: Part, seed: int, work: Execution) -> NoReturn:
    """This part's share of the blocks. Raises PartDone; UsageError for a generator that has no blocks."""
    if not isinstance(kept, KeptSampler):
        raise UsageError(f"{name} draws some hundred crystals a second, all in one piece: leave --part out")
    draw_part(kept, num, part, seed=seed, **_drawing(work))


def _kept(source: Sampler, constraints: Constraints, shards: Path, made: Mapping[str, Any]) -> Sampler:
    """The generator, with its blocks kept; one that draws within constraints by itself draws in one piece."""
    if hasattr(source, "within"):
        source = cast(NarrowedSampler, source).within(constraints)
    if hasattr(source, "sample_within"):
        return source
    key = json.dumps(made, sort_keys=True)
    return KeptSampler(source, shards, key)


def _made_by(
    generator: Source | None, num: int, options: GeneratorOptions, constraints: Constraints, seed: int
) -> tuple[dict[str, Any], dict[str, Source | None]]:
    """All that decides what is drawn: settings, and files that are read."""
    name = DEFAULT if generator is None else str(generator)
    plug_in, saved = plug_in_of(name)
    is_file = plug_in is None and name not in generator_names()
    settings = {
        "num": num,
        "seed": seed,
        "generator": f"{plug_in}@{saved.name}" if saved is not None else Path(name).name,
        "constraints": constraints.describe(),
        "options": asdict(replace(options, source=None)) | {"parents": None},
    }
    by_parents = not is_file and name not in (
        "flow",
        "diffusion",
        "file",
    )  # a plug-in may start from them too
    return settings, {
        "generator": name if is_file else saved or options.source,
        "parents": options.parents if by_parents else None,
    }


def _made_before(place: Output, before: Mapping[str, Any]) -> Generated:
    draws = Draws(before["asked"], before["drawn"], before["rejected"], tuple(before["notes"]))
    table = CandidateTable.read(place.path) if place.has_everything else datasets.load(place.path)
    return Generated(table, draws, tuple(before["constraints"]), tuple(before["warnings"]))


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
