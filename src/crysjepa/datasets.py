"""Named datasets: where from, which hash, what licence. One is bundled; a local path always wins over a name.

The registry names the publishers' own locations. A checksum in it was published with the file, by its
publisher or by several independent users of it. Where none was to be had (``mp_20``) the checksum is None:
then the SHA-256 of the first download, or of the file put there by hand, is written beside it
(``NAME.sha256``) and checked ever after.
"""

from __future__ import annotations

import difflib
import importlib.resources
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crysjepa._download import DatasetError, Progress, fetch_file
from crysjepa.candidates import CandidateTable
from crysjepa.io import read_crystals

__all__ = ["Dataset", "DatasetError", "RemoteFile", "available", "fetch", "info", "load"]

_MP_LICENCE = "CC BY 4.0 (Materials Project)"
_MP_CITATION = "A. Jain et al., APL Materials 1 (2013) 011002, doi:10.1063/1.4812323"
_CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data/mp_20"
_MATTERGEN = "data-release/alex-mp"


@dataclass(frozen=True)
class RemoteFile:
    """A file to download. ``checksum`` is ``"sha256:..."`` or ``"md5:..."``; None if nobody published one."""

    url: str
    checksum: str | None = None
    name: str = ""

    @property
    def file_name(self) -> str:
        """What it is called in the cache: ``name``, or the last part of the URL."""
        return self.name or self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Dataset:
    """What the registry knows of a dataset.

    ``kind`` is ``"crystals"`` or ``"hull"`` (the entries that a convex hull is built from). ``format`` names
    what the files are; :func:`load` reads ``parquet``, ``csv``, ``zip of csv`` and ``zip of extxyz``.
    """

    name: str
    description: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str
    num_rows: int | None
    format: str
    kind: str

    @property
    def url(self) -> str | None:
        """Where the (first) file is; None for the bundled dataset."""
        return self.files[0].url if self.files else None

    @property
    def sha256(self) -> str | None:
        """The published SHA-256, where there is one file and it has one."""
        checksum = self.files[0].checksum if len(self.files) == 1 else None
        return checksum.removeprefix("sha256:") if checksum and checksum.startswith("sha256:") else None

    @property
    def bundled(self) -> bool:
        """Whether it comes with crysjepa and needs no network."""
        return not self.files


_MP_ENTRIES = RemoteFile(
    "https://ndownloader.figshare.com/files/40344436",
    "sha256:553d6272f049a8f4ec26e503b89751e2616dd3af53d086545f6ea00f317a361f",
    "2023-02-07-mp-computed-structure-entries.json.gz",
)

_REGISTRY = {
    d.name: d
    for d in (
        Dataset(
            "flla",
            "Materials Project crystals of 2015 with at most 25 sites, as chosen by Faber et al. (bundled)",
            (),
            "CC BY 4.0 (Materials Project), as collected in matminer (modified BSD)",
            f"F. Faber et al., Int. J. Quantum Chem. 115 (2015) 1094, doi:10.1002/qua.24917; {_MP_CITATION}",
            3_938,
            "parquet",
            "crystals",
        ),
        Dataset(
            "mp_20",
            "MP-20: Materials Project crystals known to experiment, at most 20 sites, in CDVAE's split",
            tuple(RemoteFile(f"{_CDVAE}/{split}.csv") for split in ("train", "val", "test")),
            _MP_LICENCE,
            f"T. Xie et al., ICLR 2022, arXiv:2110.06197; {_MP_CITATION}",
            45_229,
            "csv",
            "crystals",
        ),
        Dataset(
            "alex_mp_20",
            "Alex-MP-20: Alexandria and MP-20, at most 20 sites, within 0.1 eV/atom of the hull (MatterGen)",
            (
                RemoteFile(
                    f"https://github.com/microsoft/mattergen/raw/main/{_MATTERGEN}/alex_mp_20.zip",
                    "sha256:6688e652e45fac4ac8b016dbc4a3280afde9ba687bdacfd8c676775ed19b6228",
                ),
            ),
            "CC BY 4.0 (Alexandria and Materials Project)",
            "C. Zeni et al., Nature 639 (2025) 624, doi:10.1038/s41586-025-08628-5; J. Schmidt et al., "
            "Materials Cloud Archive 2022.126, doi:10.24435/materialscloud:m7-50",
            None,
            "zip of csv",
            "crystals",
        ),
        Dataset(
            "mp_2022",
            "Materials Project v2022.10.28: every relaxed structure and its energy (Matbench Discovery)",
            (_MP_ENTRIES,),
            _MP_LICENCE,
            f"{_MP_CITATION}; J. Riebesell et al., figshare 22715158",
            154_719,
            "computed structure entries (json.gz)",
            "crystals",
        ),
        Dataset(
            "mptrj",
            "MPtrj: 1.58 million frames of Materials Project relaxations, extended XYZ (Matbench Discovery)",
            (
                RemoteFile(
                    "https://ndownloader.figshare.com/files/49034296",
                    "md5:7f433171e4e5f2ef9304dccd42d5488f",
                    "2024-09-03-mp-trj.extxyz.zip",
                ),
            ),
            "MIT (MPtrj, figshare 23713842); this form CC BY 4.0 (figshare 22715158)",
            "B. Deng et al., Nature Machine Intelligence 5 (2023) 1031, doi:10.1038/s42256-023-00716-3",
            1_580_395,
            "zip of extxyz",
            "crystals",
        ),
        Dataset(
            "mp_2023_hull",
            "The MP-2023 hull's entries: the Materials Project as of 2023-02-07, MP2020 corrections",
            (_MP_ENTRIES,),
            _MP_LICENCE,
            f"{_MP_CITATION}; J. Riebesell et al., figshare 22715158",
            154_719,
            "computed structure entries (json.gz)",
            "hull",
        ),
        Dataset(
            "alex_mp_2020correction_hull",
            "MatterGen's reference: Alexandria and the Materials Project, PBE with MP2020 corrections",
            (
                RemoteFile(
                    f"https://huggingface.co/microsoft/mattergen/resolve/main/{_MATTERGEN}"
                    "/reference_MP2020correction.gz",
                    "sha256:c722f72c7d0cd398fc382870f0b731425b54bd4492b089ca36e3119e49f469b5",
                ),
            ),
            "CC BY 4.0 (Alexandria and Materials Project)",
            "C. Zeni et al., Nature 639 (2025) 624, doi:10.1038/s41586-025-08628-5",
            845_997,
            "gzipped LMDB",
            "hull",
        ),
    )
}

_READABLE = ("parquet", "csv", "zip of csv", "zip of extxyz")
_CONVERSION = {
    "computed structure entries (json.gz)": (
        "entries = monty.serialization.loadfn(FILE); take e.structure and e.energy_per_atom of each e, form "
        "Crystals.from_structures(structures, ids) with e.entry_id as ids, and write_parquet their to_arrow()"
    ),
    "gzipped LMDB": (
        "mattergen's LMDBGZSerializer().deserialize(FILE) gives the entries; take composition and energy of "
        "each, or form Crystals.from_structures(structures, ids) and write_parquet their to_arrow()"
    ),
}


def available() -> list[Dataset]:
    """Every dataset in the registry, the bundled one first."""
    return list(_REGISTRY.values())


def info(name: str) -> Dataset:
    """What the registry knows of ``name``. Raises DatasetError for an unknown name."""
    if name in _REGISTRY:
        return _REGISTRY[name]
    near = difflib.get_close_matches(name, _REGISTRY, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise DatasetError(f"no dataset and no file {name!r}; {hint}the datasets are {', '.join(_REGISTRY)}")


def cache_folder() -> Path:
    """Where downloads are kept: ``$CRYSJEPA_DATA``, else the user's cache folder for crysjepa."""
    if chosen := os.environ.get("CRYSJEPA_DATA"):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("crysjepa"))


def fetch(
    name: str, *, url: str | None = None, folder: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """The dataset on this machine, downloaded if it is not there yet.

    An interrupted download goes on where it stopped. The file appears under its name only when it is complete
    and its checksum is right.

    Parameters
    ----------
    name
        A name from :func:`available`.
    url
        Another place to get it from (a mirror): of the file, or of the folder that holds the dataset's files
        where it has several. The checksum still holds.
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
        with importlib.resources.as_file(_bundled(name)) as path:
            return path
    home = Path(folder) if folder is not None else cache_folder()
    if len(dataset.files) == 1:
        (file,) = dataset.files
        return fetch_file(url or file.url, file.checksum, home / file.file_name, progress)
    for file in dataset.files:
        source = f"{url.rstrip('/')}/{file.file_name}" if url else file.url
        fetch_file(source, file.checksum, home / name / file.file_name, progress)
    return home / name


def load(
    name_or_path: str | Path,
    *,
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CandidateTable:
    """The crystals of a named dataset or of any path that :func:`crysjepa.io.read_crystals` reads.

    An existing path always wins over a name. ``mp_20`` and ``alex_mp_20`` have a column ``split``.

    Raises
    ------
    DatasetError
        If it is neither; if the download fails; if the dataset is in a form that has to be converted first.
    ReadError
        If the path exists and holds nothing to read.
    """
    path = Path(name_or_path)
    if path.exists():
        return read_crystals(path, progress=progress)
    dataset = info(str(name_or_path))
    if dataset.format not in _READABLE:
        file = dataset.files[0].file_name
        raise DatasetError(
            f"{dataset.name} comes as {dataset.format} and has to be converted before it is read. "
            f"crysjepa.datasets.fetch({dataset.name!r}) downloads {file}; then "
            f"{_CONVERSION[dataset.format].replace('FILE', repr(file))}, and load that file by its path"
        )
    if dataset.bundled:
        with importlib.resources.as_file(_bundled(dataset.name)) as bundled:
            return read_crystals(bundled, progress=progress)
    table = read_crystals(fetch(dataset.name, folder=folder, progress=progress), progress=progress)
    return table if dataset.format not in ("csv", "zip of csv") else _with_split(table)


def _with_split(table: CandidateTable) -> CandidateTable:
    """The split that the file of each row is named for."""
    splits = [Path(file).stem for file in table.column("file")]
    frame = table.frame.drop(columns="file")
    return CandidateTable(frame.assign(split=pd.array(splits, dtype="string")))


def _bundled(name: str) -> importlib.resources.abc.Traversable:
    return importlib.resources.files("crysjepa") / "data" / f"{name}.parquet"
