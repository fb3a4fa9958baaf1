"""Files that are written whole or not at all, read with a reason, and told apart by their bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysjepa.runtime.errors import RunError

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"crysjepa"
"""Of what a Parquet or Arrow file says of itself, as JSON in its metadata."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, which replaces ``path`` in the end; if anything is raised, it is removed.

    The name is this process's own, so that two that write the same file do not meet. Folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, all or nothing."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises RunError naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON, all or nothing."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


def write_parquet(table: pa.Table, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write Parquet, all or nothing; ``about`` is what the file says of itself."""
    import pyarrow.parquet as pq

    if about is not None:
        table = table.replace_schema_metadata(as_metadata(about))
    with replacing(path) as partial:
        pq.write_table(table, partial, write_page_checksum=True)


def as_metadata(about: Mapping[str, Any]) -> dict[bytes, bytes]:
    """What a file says of itself, as metadata of its Arrow schema."""
    return {_KEY: json.dumps(about, sort_keys=True).encode()}


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """What a file says of itself, from its Arrow schema; {} for files of others."""
    try:
        metadata = json.loads((schema.metadata or {})[_KEY])
    except (KeyError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def file_metadata(path: str | Path) -> dict[str, Any]:
    """What a Parquet file says of itself; {} for all other files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return metadata_of(pq.read_schema(path))
    except (OSError, pa.ArrowException):
        return {}


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
