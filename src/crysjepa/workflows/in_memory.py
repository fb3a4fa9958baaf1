"""The verbs on tables in memory: each is the verb of the same name, on files that it makes and removes.

What ``import crysjepa as cj`` gives: ``cj.read``, ``cj.generate``, ``cj.predict``, ``cj.rank``, ``cj.relax``,
``cj.evaluate`` and ``cj.compete``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

import pandas as pd
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.given import is_run, rows_of_run
from crysjepa.evaluation.protocol import Protocol, Trust
from crysjepa.generators.constraints import ConstraintOptions, Constraints
from crysjepa.generators.registry import GeneratorOptions
from crysjepa.prediction.settings import PredictSettings
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.bars import shown
from crysjepa.runtime.files import file_metadata
from crysjepa.runtime.progress import StageProgress
from crysjepa.workflows import evaluate as evaluating
from crysjepa.workflows import generate as generating
from crysjepa.workflows import predict as predicting
from crysjepa.workflows import relax as relaxing
from crysjepa.workflows import screen as screening
from crysjepa.workflows.from_objects import from_objects
from crysjepa.workflows.judged import Evaluation

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

Readable: TypeAlias = "CandidateTable | Crystals | str | Path | Iterable[Structure | Atoms]"
"""What :func:`read` takes: a table, crystals, a path or the name of a data set, structures or atoms."""


def read(source: Readable, *, structure_column: str | None = None) -> CandidateTable:
    """Crystals as a table: a row each, also for what could not be read, with the reason.

    Parameters
    ----------
    source
        A file, folder or zip of any format, a finished run, the name of a data set, or any number of pymatgen
        Structures and ASE Atoms, with their magnetic moments and the single values in ``properties`` or
        ``info`` (``material_id`` or ``id`` is the id there, else ``crystal-0``, ``crystal-1`` and so on).
        Of a run there is every row that its page has. The short list are those with a ``shortlist_rank``,
        among them polymorphs that a search put in a crystal's place (``in_place_of``); :func:`evaluate`
        counts these in no rate.
    structure_column
        See :func:`crysjepa.io.read_crystals`.

    Raises
    ------
    DatasetError, ReadError
        If there is nothing to read.
    TypeError
        For what holds no structures one after the other: a dictionary, a data frame, bytes.
    """
    if isinstance(source, CandidateTable):
        return source
    if isinstance(source, Crystals):
        return CandidateTable.from_crystals(source)
    if not isinstance(source, str | Path):
        return from_objects(source)
    if is_run(source):
        return rows_of_run(source)
    table = datasets.load(source, structure_column=structure_column)
    return replace(table, metadata=file_metadata(source) or None) if Path(source).is_file() else table


def generate(
    num: int,
    *,
    generator: str | Path | None = None,
    options: GeneratorOptions | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: StageProgress | None = None,
    **wanted: Unpack[ConstraintOptions],
) -> CandidateTable:
    """``num`` new crystals, as ``crysjepa generate`` makes them; ``metadata`` says how often was drawn.

    ``elements="Li-P-S"`` allows these alone, ``chemical_system="Li-P-S"`` asks for exactly these,
    ``formula="ABX3"`` and ``space_group="cubic"`` for such ones: the options of the command line
    (:meth:`~crysjepa.generators.constraints.Constraints.parse`). See
    :func:`crysjepa.workflows.generate.generate`. Raises ConstraintError where they contradict one another.
    """
    constraints = Constraints.parse(**wanted)
    with tempfile.TemporaryDirectory() as folder, shown(progress) as report:
        out = Path(folder) / "generated.parquet"
        generating.generate(
            num, out, generator=generator, options=options, constraints=constraints, seed=seed, device=device,
            progress=report,
        )  # fmt: skip
        return CandidateTable.read(out)


def predict(
    formula: str,
    *,
    settings: PredictSettings | None = None,
    device: str = "auto",
    processes: int | None = None,
    progress: StageProgress | None = None,
) -> CandidateTable:
    """The structures of a formula, the lowest in energy first, as ``crysjepa predict`` finds them.

    ``metadata`` says how many candidates each step had. See :func:`crysjepa.workflows.predict.predict`.
    """
    with tempfile.TemporaryDirectory() as folder, shown(progress) as report:
        out = Path(folder) / "predicted"
        predicting.predict(
            formula, out, settings=settings, device=device, processes=processes, progress=report
        )
        return CandidateTable.read(out / "polymorphs.parquet")


class Asked(TypedDict, total=False):
    """What :func:`rank` may be asked for beside stability."""

    objectives: Sequence[str]
    combine: str
    force_field: str


def rank(
    source: Readable,
    *,
    by: str = "jepa-hull",
    reference: str | Path = NAME,
    hull: str | Path | None = None,
    device: str = "auto",
    progress: StageProgress | None = None,
    **asked: Unpack[Asked],
) -> CandidateTable:
    """The table best first, as ``crysjepa screen`` ranks it, with the columns that it writes.

    A lower score is better; with ``objectives``, such as ``["bulk_modulus>=200"]``, a higher merit. What
    cannot be ranked keeps its row, with a reason. See :func:`crysjepa.workflows.screen.screen`.
    """
    _check_names(reference=reference, hull=hull)
    table = read(source)
    with tempfile.TemporaryDirectory() as folder, shown(progress) as report:
        there, out = Path(folder) / "candidates.parquet", Path(folder) / "ranked.parquet"
        table.write(there)
        screening.screen(there, reference, out, by=by, hull=hull, device=device, progress=report, **asked)
        return screening.with_ranking(pq.read_table(out), table)


def relax(
    source: Readable,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "auto",
    progress: StageProgress | None = None,
) -> CandidateTable:
    """The table with relaxed structures and energies, as ``crysjepa relax`` writes it.

    ``metadata`` says which force field the energies are of, so that :func:`evaluate` does not relax again.
    See :func:`crysjepa.workflows.relax.relax`.
    """
    with tempfile.TemporaryDirectory() as folder, shown(progress) as report:
        there, out = Path(folder) / "candidates.parquet", Path(folder) / "relaxed.parquet"
        read(source).write(there)
        relaxing.relax(there, out, force_field=force_field, settings=settings, device=device, progress=report)
        return CandidateTable.read(out)


def evaluate(
    source: Readable,
    *,
    reference: str | Path | None = None,
    hull: str | Path | None = None,
    protocol: Protocol | str | None = None,
    finetuned_on: str | Path | None = None,
    device: str = "auto",
    processes: int = 1,
    progress: StageProgress | None = None,
) -> Evaluation:
    """Valid, stable, unique, novel: crystals judged as ``crysjepa evaluate`` does.

    Crystals of :func:`relax` are judged by the energies they have. See
    :func:`crysjepa.workflows.evaluate.evaluate`.
    """
    return _evaluation(
        evaluating.evaluate, source, progress, reference=reference, hull=hull, protocol=protocol,
        finetuned_on=finetuned_on, device=device, processes=processes,
    )  # fmt: skip


def compete(
    source: Readable,
    *,
    reference: str | Path | None = None,
    hull: str | Path | None = None,
    protocol: Protocol | str | None = None,
    trust: Trust | None = None,
    device: str = "auto",
    processes: int = 1,
    progress: StageProgress | None = None,
) -> Evaluation:
    """Crystals judged by the closed hull: what competes with them is searched for.

    As ``crysjepa compete`` does it. See :func:`crysjepa.workflows.evaluate.compete`.
    """
    return _evaluation(
        evaluating.compete, source, progress, reference=reference, hull=hull, protocol=protocol,
        trust=trust, device=device, processes=processes,
    )  # fmt: skip


def _evaluation(
    verb: Callable[..., dict[str, Any]], source: Readable, progress: StageProgress | None, **options: Any
) -> Evaluation:
    """A verb that judges, into a folder of its own that goes when its result does."""
    _check_names(**{name: options.get(name) for name in ("reference", "hull", "finetuned_on")})
    folder = Path(tempfile.mkdtemp(prefix="crysjepa-"))
    try:
        with shown(progress) as report:
            metrics = verb(_on_disk(source, folder), folder / "result", progress=report, **options)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Evaluation(folder / "result", metrics)


def _check_names(**given: object) -> None:
    """Known crystals and hulls are named, for their hash and their scale are part of the result."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str | os.PathLike):
            how = "to_parquet(path)" if isinstance(value, pd.DataFrame) else "cj.read(...).write(path)"
            raise TypeError(
                f"{name} is a path or the name of a data set, not a {type(value).__name__}: write it to a "
                f"Parquet file first ({how}), and give its path"
            )


def _on_disk(source: Readable, folder: Path) -> str | Path:
    """A finished run stays where it is, for what it says of itself; everything else becomes a file."""
    if isinstance(source, str | Path) and is_run(source):
        return source
    read(source).write(folder / "crystals.parquet")
    return folder / "crystals.parquet"
