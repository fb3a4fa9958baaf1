"""A verb's work in parts, by tasks that know nothing of one another, and their merging.

Each task does its share of the chunks (:mod:`crysjepa.runtime.parts`) and leaves a record of them beside.
Merged is what has all parts, each once and all of one making: then the verb itself finds every chunk done,
and ends as it would have on one machine, in the same bytes.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from crysjepa import __version__
from crysjepa.evaluation.force_field_hull import PHASES
from crysjepa.runtime.execution import Execution
from crysjepa.runtime.files import file_hash, read_json, replacing, write_json
from crysjepa.runtime.parts import Part, PartDone, sharing
from crysjepa.workflows import embed, evaluate, generate, relax, screen
from crysjepa.workflows.inputs import Source, beside
from crysjepa.workflows.output import OutputError, differences, hash_of

VERBS: dict[str, Callable[..., Any]] = {
    "generate": generate.generate,
    "relax": relax.relax,
    "hull": relax.hull,
    "screen": screen.screen,
    "embed": embed.embed,
    "evaluate": evaluate.evaluate,
    "compete": evaluate.compete,
}
"""The verbs whose work can be shared out."""
_JUDGING = ("evaluate", "compete")
"""Verbs that are told where their shards are."""
_HOW = ("device", "processes", "overwrite", "progress", "shards")
"""Keywords that decide nothing (the device does, by its chunks, and is looked at by itself)."""
_READ = ("source", "reference", "hull", "jepa", "generator", "finetuned_on")
"""Arguments that may name files or data sets: they count by their contents."""


@dataclass(frozen=True)
class PartRecord:
    """What a task did: ``num_chunks`` of ``total``, its record in ``path``."""

    part: Part
    num_chunks: int
    total: int
    path: Path


def work_on_part(part: Part | str, verb: str, *arguments: Any, **options: Any) -> PartRecord:
    """Do a part of a verb's work: ``work_on_part("3/10", "relax", "new.parquet", "relaxed.parquet")``.

    The chunks and the record go to a folder beside ``out``, which all tasks share, or which is brought there
    before :func:`merge`. A part that was stopped goes on. Of ``evaluate`` and ``compete`` relaxation is
    shared out; all else is done when merging.

    Raises
    ------
    UsageError
        For what is no part, or a verb whose work is not shared out.
    ValueError
        As the verb does, and where the verb has nothing to share out.
    """
    part = Part.parse(part) if isinstance(part, str) else part
    if verb not in VERBS:
        raise OutputError(f"the work of {verb} is not shared out: only that of {', '.join(VERBS)}")
    bound = inspect.signature(VERBS[verb]).bind(*arguments, **options).arguments
    bound |= bound.pop("how", {})
    out, device = Path(bound["out"]), Execution(device=bound.get("device", "auto")).found_device
    folder, record = _shards(verb, out), _record(verb, out, part)
    made = _made(verb, bound, device)
    _check_number(out, part)
    if verb in _JUDGING:
        bound["shards"] = folder
    record.unlink(missing_ok=True)  # until it is done anew
    try:
        with sharing(part, folder):
            VERBS[verb](**bound)
    except PartDone as done:
        chunks = {p.name: file_hash(p) for p in done.files}
        content = {"part": part.number, "of": part.of, "total": done.total, "made": made, "chunks": chunks}
        content["arguments"] = _as_json(VERBS[verb], bound)
        write_json(record, content)
        return PartRecord(part, len(chunks), done.total, record)
    raise OutputError(f"{out} is there already, whole: there is nothing to do in parts")


def merge(out: Source, folders: Sequence[Source] = (), **how: Any) -> Any:
    """Put together what :func:`work_on_part` did, and end as the verb does: its result is returned.

    Parameters
    ----------
    out
        The output that was named to every part.
    folders
        Folders of parts that were done elsewhere (``OUT.shards``), if they are not all
        beside ``out``; they are copied there.
    how
        See :class:`~crysjepa.runtime.execution.Execution`.

    Raises
    ------
    OutputError
        If there is no part, while one is missing, is there twice, or is of other settings, and for one whose
        chunks are gone or damaged.
    """
    out = Path(out)
    found = _records(out, folders)
    first = found[0][1]
    _check(found)
    verb, device = first["made"]["verb"], first["made"]["settings"]["device"]
    place = _shards(verb, out)
    for path, record in found:
        _bring(path.parent / place.name if verb == "hull" else path.parent, place, record)
    arguments = _from_json(VERBS[verb], first["arguments"])
    arguments |= {"out": out, **({"shards": place} if verb in _JUDGING else {})}
    result = VERBS[verb](**{**arguments, "device": device, **how})
    shutil.rmtree(_home(out), ignore_errors=True)
    return result


# -- where parts are -------------------------------------------------------------------------


def _home(out: Path) -> Path:
    """Where the parts' records are."""
    return beside(out, ".shards")


def _shards(verb: str, out: Path) -> Path:
    return _home(out) / PHASES if verb == "hull" else _home(out)


def _record(verb: str, out: Path, part: Part) -> Path:
    width = len(str(part.of))
    return _home(out) / f"part-{part.number:0{width}d}-of-{part.of}.json"


def _check_number(out: Path, part: Part) -> None:
    """Raises OutputError where the work was cut into another number of parts before."""
    for record in sorted(_home(out).glob("part-*-of-*.json")):
        of = int(record.stem.rpartition("-")[2])
        if of != part.of:
            raise OutputError(
                f"{record} is of {of} parts, and this is part {part}: say --part {part.number}/{of}, or "
                "remove it"
            )


def _records(out: Path, folders: Sequence[Source]) -> list[tuple[Path, dict[str, Any]]]:
    """Records of parts, in the order of their numbers."""
    places = list(dict.fromkeys(p.resolve() for p in (_home(out), *map(Path, folders))))
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise OutputError(f"no such folder of parts: {folder}")
    paths = [p for place in places for p in sorted(place.glob("part-*-of-*.json"))]
    if not paths:
        raise OutputError(f"no parts of {out} are done: give a verb --part I/N, with --out {out}")
    found = [(p, read_json(p)) for p in paths]
    return sorted(found, key=lambda entry: (entry[1]["part"], str(entry[0])))


def _check(found: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """All parts are there, once, and of one making. Raises OutputError, naming those that are not."""
    path, first = found[0]
    for other, record in found:
        if record["of"] != first["of"]:
            raise OutputError(
                f"{path.name} and {other.name} are parts of other numbers of parts: remove one kind"
            )
    for other, record in found:
        if differs := differences(record["made"], first["made"]):
            raise OutputError(f"part {record['part']} ({other}) differs from part {first['part']}: {differs}")
    numbers = [record["part"] for _, record in found]
    if twice := sorted({n for n in numbers if numbers.count(n) > 1}):
        where = ", ".join(str(p) for p, record in found if record["part"] == twice[0])
        raise OutputError(f"part {twice[0]} is there twice: {where}")
    if missing := [n for n in range(1, first["of"] + 1) if n not in numbers]:
        shown = ", ".join(map(str, missing[:20])) + (
            f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        )
        raise OutputError(f"of {first['of']} parts, {shown} {'is' if len(missing) == 1 else 'are'} missing")
    chunks = [name for _, record in found for name in record["chunks"]]
    if len(set(chunks)) != first["total"]:
        raise OutputError(f"the parts hold {len(set(chunks))} of {first['total']} chunks: do them anew")


def _bring(source: Path, place: Path, record: Mapping[str, Any]) -> None:
    """A part's chunks, where the verb looks for them. Raises OutputError for one that is not as it was."""
    for name, digest in record["chunks"].items():
        path = source / name
        if not path.is_file() or file_hash(path) != digest:
            how = "damaged" if path.is_file() else "gone"
            raise OutputError(f"part {record['part']}: {path} is {how}: do this part anew")
        if not (place / name).exists():
            with replacing(place / name) as partial:
                shutil.copyfile(path, partial)
        times = path.with_suffix(".seconds.json")
        if times.is_file() and not (place / times.name).exists():
            shutil.copyfile(times, place / times.name)


# -- a verb's arguments, as JSON ------------------------------------------------------------


def _made(verb: str, arguments: Mapping[str, Any], device: str) -> dict[str, Any]:
    """How the output is made: as :meth:`crysjepa.workflows.output.Output.found` has it."""
    values = _as_json(VERBS[verb], arguments)
    read = {n: v for n, v in values.items() if n in _READ and v is not None and _is_file_or_name(v)}
    settings = {n: v for n, v in values.items() if n not in (*read, "out", *_HOW)} | {"device": device}
    inputs = {name: hash_of(value) for name, value in read.items()}
    return {"verb": verb, "crysjepa": __version__, "settings": settings, "inputs": inputs}


def _is_file_or_name(value: Any) -> bool:
    from crysjepa.data.bundle import NAME
    from crysjepa.datasets.registry import REGISTRY

    return isinstance(value, str) and (Path(value).exists() or value == NAME or value in REGISTRY)


def _as_json(verb: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    values = {}
    for name, value in arguments.items():
        if name in _HOW or name == "out":
            continue
        if name in _READ and isinstance(value, str | Path) and Path(value).exists():
            value = str(Path(value).absolute())
        values[name] = TypeAdapter(_kind(verb, name)).dump_python(value, mode="json")
    return values


def _from_json(verb: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: TypeAdapter(_kind(verb, n)).validate_python(v) for n, v in values.items()}


def _kind(verb: Callable[..., Any], name: str) -> Any:
    hints = get_type_hints(verb)
    if name in hints:
        return hints[name]
    of_options = get_type_hints(hints["how"].__args__[0])
    return of_options[name]
