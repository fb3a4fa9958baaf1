"""Named datasets: where from, which hash, what licence. One is bundled; a local path always wins over a name.

What publishers give out is downloaded once (:func:`download`) and converted once into our own Parquet
(:func:`fetch`), which is all that is read from then on.

The registry names the publishers' own locations. A checksum in it was published with the file, by its
publisher or by several independent users of it. Where none was to be had (``mp_20``) the checksum is None:
then the SHA-256 of the first download, or of the file put there by hand, is written beside it
(``NAME.sha256``) and checked ever after.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable
from crysjepa.data.bundle import NAME, bundled_file
from crysjepa.datasets.hub import hub_files
from crysjepa.datasets.importers import convert as formats
from crysjepa.datasets.registry import REGISTRY, Dataset, RemoteFile
from crysjepa.io import read_crystals
from crysjepa.runtime.download import DatasetError, fetch_file, recorded_checksum
from crysjepa.runtime.files import file_metadata
from crysjepa.runtime.progress import Progress, StageProgress

__all__ = ["Dataset", "DatasetError", "RemoteFile", "available", "download", "fetch", "info", "load"]


def available() -> list[Dataset]:
    """Every dataset in the registry, the bundled ones first."""
    return list(REGISTRY.values())


def info(name: str) -> Dataset:
    """What the registry knows of ``name``. Raises DatasetError for an unknown name."""
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise DatasetError(f"no dataset and no file {name!r}; {hint}the datasets are {', '.join(REGISTRY)}")


def cache_folder() -> Path:
    """Where downloads are kept: ``$CRYSJEPA_DATA``, else the user's cache folder for crysjepa."""
    if chosen := os.environ.get("CRYSJEPA_DATA"):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("crysjepa"))


def download(
    name: str, *, url: str | None = None, folder: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """The published file of a dataset on this machine, downloaded if it is not there yet.

    An interrupted download goes on where it stopped. The file appears under its name only when it is complete
    and its checksum is right.

    Parameters
    ----------
    name
        A name from :func:`available`.
    url
        Another place to get it from (a mirror): of the file, of the folder that holds the dataset's files
        where it has several, or of the Hub. The checksum still holds.
    folder
        Where to keep it; by default :func:`cache_folder`.
    progress
        Called as ``progress(bytes_done, bytes_total)`` for each file; total is 0 if the server does not say.

    Returns
    -------
    The file, or the folder ``folder/name`` where the dataset has several.

    Raises
    ------
    DatasetError
        If the name is unknown, the server cannot be reached (the message says where to put the file by hand),
        the transfer breaks off, or a file is not the published one.
    """
    dataset = info(name)
    if dataset.bundled:
        return _bundled(name)
    files = _files(dataset, folder, url)
    paths = _paths(dataset, folder, files)
    mirror = None if dataset.hub is not None else url
    for file, path in zip(files, paths, strict=True):
        many = len(files) > 1
        source = f"{mirror.rstrip('/')}/{file.file_name}" if mirror and many else mirror or file.url
        fetch_file(source, file.checksum, path, progress)
    return paths[0] if len(paths) == 1 else paths[0].parent


def fetch(
    name: str,
    *,
    url: str | None = None,
    folder: str | Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    report: StageProgress | None = None,
) -> Path:
    """The dataset as our Parquet, ``folder/name.parquet``: downloaded and converted if it is not there yet.

    Once it is there, the published files are no longer needed. Its metadata key ``crysjepa`` has the source,
    its checksums, the licence, and how many rows there are, failed, or were left out, and why.

    Parameters
    ----------
    name, url, folder
        As for :func:`download`.
    processes
        That convert; by default one a core. The file does not depend on it.
    progress
        Called as ``progress(done, total)``, in bytes of the download and then of the conversion.
    report
        Called as ``report(stage, done, total)`` instead, where the two are to be told apart.

    Raises
    ------
    DatasetError
        As :func:`download` does; if a file cannot be converted, or a package is missing that reads it.
    """
    dataset = info(name)
    if dataset.bundled:
        return _bundled(name)
    out = _home(folder) / f"{name}.parquet"
    if _is_current(out, dataset, folder):
        return out
    downloading = partial(report, f"download {name}") if report is not None else progress
    converting = partial(report, f"convert {name}") if report is not None else progress
    download(name, url=url, folder=folder, progress=downloading)
    files = _files(dataset, folder)
    paths = _paths(dataset, folder, files)
    formats.convert(
        dataset.format, paths, out, _about(dataset, files, paths), max_sites=dataset.max_sites,
        processes=processes, progress=converting,
    )  # fmt: skip
    return out


def _about(dataset: Dataset, files: Sequence[RemoteFile], paths: Sequence[Path]) -> dict[str, Any]:
    """What the converted file says of itself."""
    return {
        "dataset": dataset.name,
        "kind": dataset.kind,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "sources": {f.url: recorded_checksum(p, f.checksum) for f, p in zip(files, paths, strict=True)},
        "expected_rows": dataset.num_rows,
        "importer": formats.VERSION,
        **({"scale": dataset.scale} if dataset.scale else {}),
        **({"split": dataset.split} if dataset.split else {}),
        **({"force_field": dict(dataset.force_field)} if dataset.force_field else {}),
    }


def contents(name: str) -> list[str]:
    """What a bundled data set holds, a line for each of its files; nothing for others."""
    if not info(name).bundled:
        return []
    lines = []
    for file in _BUNDLE.get(name, (f"{name}.parquet",)):
        metadata = file_metadata(bundled_file(file))
        parts = [f"{pq.read_metadata(bundled_file(file)).num_rows:,} rows"]
        parts += [f"{n:,} of {source}" for source, n in metadata.get("rows_by_source", {}).items()]
        parts += [f"{metadata['with_energy']:,} with an energy"] if "with_energy" in metadata else []
        parts += [f"scale {metadata['scale']}"] if "scale" in metadata else []
        parts += [metadata["note"]] if "note" in metadata else []
        lines.append(f"{file}: {'; '.join(parts)}")
    return lines


def load(
    name_or_path: str | Path,
    *,
    folder: str | Path | None = None,
    structure_column: str | None = None,
    progress: Progress | None = None,
) -> CandidateTable:
    """The crystals of a named dataset or of any path that :func:`crysjepa.io.read_crystals` reads.

    An existing path always wins over a name, but for ``known``, which is the default in many places: a folder
    that is called so is ``./known``. ``mp_20`` and ``alex_mp_20`` have a column ``split``.

    Raises
    ------
    DatasetError
        If it is neither; if it cannot be downloaded or converted; if the dataset has no structures.
    ReadError
        If the path exists and holds nothing to read.
    """
    path = Path(name_or_path)
    if path.exists() and str(name_or_path) != NAME:
        return read_crystals(path, structure_column=structure_column, progress=progress)
    dataset = info(str(name_or_path))
    if dataset.format in formats.WITHOUT_CRYSTALS:
        raise DatasetError(f"{dataset.name} has compositions and energies, but no crystals: it is a hull")
    fetched = fetch(dataset.name, folder=folder, progress=progress)
    return read_crystals(fetched, structure_column=structure_column, progress=progress)


def _home(folder: str | Path | None) -> Path:
    return Path(folder) if folder is not None else cache_folder()


def _listing(dataset: Dataset, folder: str | Path | None) -> Path:
    """Where the listing of files on the Hub is kept."""
    return _home(folder) / dataset.name / "files.json"


def _files(dataset: Dataset, folder: str | Path | None, url: str | None = None) -> tuple[RemoteFile, ...]:
    if dataset.hub is None:
        return dataset.files
    return hub_files(dataset.hub, _listing(dataset, folder), url)


def _paths(dataset: Dataset, folder: str | Path | None, files: Sequence[RemoteFile]) -> list[Path]:
    home = _home(folder)
    home = home / dataset.name if len(files) > 1 or dataset.hub is not None else home
    return [home / file.file_name for file in files]


def _is_current(path: Path, dataset: Dataset, folder: str | Path | None) -> bool:
    """Whether a converted file is there, made by the present reader from the files now in the registry, or
    in the listing that is kept of the Hub."""
    if not path.exists():
        return False
    metadata = file_metadata(path)
    sources = metadata.get("sources", {})
    if dataset.hub is not None and not _listing(dataset, folder).is_file():
        return False  # whoever deletes the listing asks for a newer version
    return metadata.get("importer") == formats.VERSION and all(
        file.url in sources and file.checksum in (None, sources[file.url]) for file in _files(dataset, folder)
    )


def _bundled(name: str) -> Path:
    return bundled_file(f"{name}.parquet")


_BUNDLE = {NAME: ("known.parquet", "known_hull.parquet", "lemat_systems.parquet")}
