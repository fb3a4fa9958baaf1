"""Where a verb writes, and what becomes of what is there: one rule for all of them.

What was made with the same settings from the same inputs is kept, and nothing is done. What was made
otherwise, or of which nothing says how it was made, is refused, unless it is to be overwritten. How an output
was made stands in a Parquet file's metadata, and for other formats in a JSON file next to it.

Light: where an output cannot be written is said before anything is imported that takes time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysjepa import __version__
from crysjepa.data.bundle import NAME
from crysjepa.io.kinds import output_kind
from crysjepa.runtime.files import metadata_of, write_text
from crysjepa.runtime.notes import ReadError, UsageError, note

if TYPE_CHECKING:
    from crysjepa.core.candidates import CandidateTable

MODEL = "model"
_SHOWN = 4
"""Settings that differ and are named."""


class OutputError(UsageError):
    """An output that cannot be written, or that would replace another one."""


def check_writable(out: str | Path, *, folder: bool = False) -> None:
    """Raises OutputError where ``out`` cannot be: its folder is a file, or may not be written to."""
    out = Path(out)
    place = out if folder else out.parent
    there = next(p for p in (place, *place.parents, Path(place.anchor or ".")) if os.path.lexists(p))
    if not there.is_dir():
        raise OutputError(f"{there} is a file, where {out} needs a folder: choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {there} cannot be written to: choose another --out")


def check_folder(out: str | Path) -> None:
    """Before the work rather than after it. Raises OutputError if ``out`` is a file, or cannot be written."""
    if Path(out).is_file():
        raise OutputError(f"{out} is a file: name a folder to write to")
    check_writable(out, folder=True)


class Output:
    """A file (or a folder of CIFs) to write, named and placed so that it can be written.

    Parameters
    ----------
    out
        Its suffix is the format, see :func:`crysjepa.io.output_kind`.
    only
        Why it has to be Parquet, for what is no table of structures.
    model
        Whether it is a checkpoint, of any name.

    Raises
    ------
    OutputError
        For a suffix that is not written, and for a place that cannot be written to.
    """

    def __init__(self, out: str | Path, *, only: str = "", model: bool = False) -> None:
        self.path = Path(out)
        if model:
            if self.path.is_dir():
                raise OutputError(f"{out} is a folder: name a file to write")
            self.kind = MODEL
        else:
            try:
                self.kind = output_kind(out)
            except ReadError as error:
                raise OutputError(str(error)) from None
            if only and self.kind != "parquet":
                raise OutputError(f"{only}: name a Parquet file (.parquet) to write, not {self.path.name}")
        check_writable(out, folder=self.kind == "folder")
        self.made: dict[str, Any] = {}

    def check_holds(self, num: int) -> None:
        """Raises OutputError if the format cannot hold so many crystals."""
        if self.kind == "poscar" and num != 1:
            raise OutputError(f"a POSCAR holds one crystal, not {num}: write .extxyz, .cif or a folder")

    @property
    def has_everything(self) -> bool:
        """Whether the format holds every row and column."""
        return self.kind == "parquet"

    @property
    def beside(self) -> Path:
        """Where it stands how the output was made, for what has no metadata."""
        if self.kind == MODEL:
            return self.path.with_name(f"{self.path.name}.curve.json")
        return self.path.with_name(f".{self.path.name}.made.json")  # hidden: no reader takes it for crystals

    def found(
        self, verb: str, settings: Mapping[str, Any], sources: Mapping[str, Any], *, overwrite: bool = False
    ) -> dict[str, Any] | None:
        """What is known of an output that is there and was made just so; None where there is work to do.

        ``settings`` are all that decide what is written, ``sources`` the files and data sets that are read
        (None where there is none), which count by their contents.

        Raises
        ------
        OutputError
            For an output that was made otherwise, unless it is to be overwritten; for a folder with files of
            others, and a source that would be overwritten, even then.
        """
        for name, source in sources.items():
            if isinstance(source, str | Path) and Path(source).exists() and self._is(Path(source)):
                raise OutputError(f"{self.path} is what is to be read: choose another --out")
            if name == "input" and isinstance(source, str | Path) and self._inside(Path(source)):
                raise OutputError(
                    f"{self.path} lies in {source}, which is read: choose an --out outside of it"
                )
        inputs = {name: hash_of(source) for name, source in sources.items() if source is not None}
        made = {"verb": verb, "crysjepa": __version__, "settings": dict(settings), "inputs": inputs}
        self.made = json.loads(json.dumps(made, sort_keys=True, default=str))
        if not self._is_there():
            return None
        metadata = self._stated()
        if overwrite:
            self._clear(metadata)
            return None
        if metadata is None:
            raise OutputError(
                f"{self.path} is there, and nothing says how it was made: choose another --out, or "
                "--overwrite"
            )
        if differs := differences(metadata["made"], self.made):
            raise OutputError(f"{self.path} is there, {differs}: choose another --out, or --overwrite")
        note(
            f"{self.path} is there, made with the same settings from the same input: nothing was done "
            "(--overwrite makes it anew)"
        )
        return metadata

    def write(self, table: CandidateTable, about: Mapping[str, Any]) -> None:
        """Write a table of structures; what the format cannot hold is said in a note."""
        from crysjepa.io.write import write_crystals

        metadata = {**about, "made": self.made, "rows": len(table)}
        written = write_crystals(table, self.path, about=metadata)
        if self.has_everything:
            return
        self.keep(metadata)
        lost = [f"{len(table) - written.num} rows ({'; '.join(written.reasons()[:3])})"] * bool(
            written.failures
        )
        lost += [f"the columns {', '.join(written.left_out)}"] * bool(written.left_out)
        lost += ["where its energies come from"] * ("energies" in about)
        if lost:
            note(f"{self.path.name} cannot hold {', nor '.join(lost)}: .parquet holds everything")

    def keep(self, metadata: Mapping[str, Any]) -> None:
        """Write next to the output how it was made."""
        more = {"made": self.made, "sha256": _sha256(self.path)}
        if self.kind == "folder":
            more["files"] = sorted(p.name for p in self.path.glob("*.cif"))
        text = json.dumps({**metadata, **more}, sort_keys=True, ensure_ascii=False, default=str)
        write_text(self.beside, text + "\n")

    # -- what is there ---------------------------------------------------------------------

    def _is(self, source: Path) -> bool:
        return self.path.exists() and self.path.samefile(source)

    def _inside(self, source: Path) -> bool:
        is_run = (source / "metrics.json").is_file()
        return source.is_dir() and not is_run and self.path.resolve().is_relative_to(source.resolve())

    def _is_there(self) -> bool:
        if self.kind == "folder":
            return self.path.is_dir() and any(self.path.iterdir())
        return self.path.exists()

    def _stated(self) -> dict[str, Any] | None:
        """What the output, as it was written, says of itself; None where it says nothing."""
        metadata = self._metadata if self.has_everything else self._kept
        return metadata if isinstance(metadata, dict) and isinstance(metadata.get("made"), dict) else None

    @cached_property
    def _metadata(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                metadata, rows = metadata_of(file.schema_arrow), file.metadata.num_rows
        except (pa.ArrowException, OSError, ValueError):
            return None
        return metadata if metadata.get("rows") == rows else None  # rewritten by others

    @cached_property
    def _kept(self) -> Any:
        try:
            metadata = json.loads(self.beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return (
            metadata if isinstance(metadata, dict) and metadata.get("sha256") == _sha256(self.path) else None
        )

    def _clear(self, metadata: Mapping[str, Any] | None) -> None:
        """A folder's own CIFs go, lest they be taken for the new ones; a file is replaced when written."""
        if self.kind != "folder":
            return
        own = set(metadata.get("files", ())) if metadata else set()
        others = sorted({p.name for p in self.path.iterdir()} - own)
        if others:
            raise OutputError(f"{self.path} holds {others[0]}, not of crysjepa: choose another --out")
        for name in own:
            (self.path / name).unlink(missing_ok=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two ways of making an output differ, in words; empty where they do not."""
    if before.get("verb") != now["verb"]:
        return f"made by crysjepa {before.get('verb')}"
    if before.get("crysjepa") != now["crysjepa"]:
        return f"made with crysjepa {before.get('crysjepa')}, and this is {now['crysjepa']}"
    old, new = (dict(_flat(m.get("settings") or {})) for m in (before, now))
    changes = [
        f"{name} was {_word(old.get(name))}, is {_word(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changes:
        more = f", and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        return f"made with other settings ({'; '.join(changes[:_SHOWN])}{more})"
    theirs, ours = before.get("inputs") or {}, now["inputs"]
    other = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return f"made from another {', '.join(other)}" if other else ""


def hash_of(source: Any) -> str:
    """Of a file, of all files in a folder, of a data set (which is fetched), or of several such."""
    from crysjepa import datasets

    if isinstance(source, list | tuple):
        return hashlib.sha256("".join(hash_of(s) for s in source).encode()).hexdigest()
    path = Path(source)
    if not path.exists() or str(source) == NAME:
        path = datasets.fetch(str(source))
    return _sha256(path)


def _sha256(path: Path) -> str:
    from crysjepa.io.read import sha256_of

    return sha256_of(path)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _word(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
