"""The published data sets: where each is, in which form, its licence, and how a download is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crysjepa.datasets.importers import forms as formats

_MP_LICENCE = "CC BY 4.0 (Materials Project)"
_MP_CITATION = "A. Jain et al., APL Materials 1 (2013) 011002, doi:10.1063/1.4812323"
_CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data/mp_20"
_MATTERGEN = "data-release/alex-mp"
_MP2020 = "materials_project"
"""The scale of energies with the MP2020 corrections, as :mod:`crysjepa.energy` calls it."""
LEMAT_PBE = "lemat_pbe"
"""That of LeMat-Bulk's own energies, PBE and PBE+U without corrections, against its own elements."""


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
class HubFolder:
    """Files of a data set on the Hugging Face Hub, whose paths begin with ``prefix``."""

    repo: str
    prefix: str
    revision: str = "main"


@dataclass(frozen=True)
class Dataset:
    """What the registry knows of a dataset.

    ``kind`` is ``"crystals"`` or ``"hull"`` (the entries that a convex hull is built from). ``format`` is
    ``"parquet"``, or names what the files are converted from (:mod:`crysjepa.datasets.importers.convert`).
    ``size`` is that of the download; ``checked`` says how one knows that a download is the published file.
    ``scale`` is that of its formation energies, where the publisher states it; crystals of more than
    ``max_sites`` are left out, and counted, when it is converted. ``hub`` is where files are listed that are
    not in ``files``. Energies of ``split`` are those of ``force_field``, by ``name`` and ``model``.
    """

    name: str
    description: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str
    num_rows: int | None
    format: str
    kind: str
    size: str = ""
    checked: str = ""
    scale: str | None = None
    max_sites: int | None = None
    hub: HubFolder | None = None
    split: str | None = None
    force_field: Mapping[str, str] | None = None

    @property
    def url(self) -> str | None:
        """Where the (first) file is; None for the bundled dataset."""
        if self.hub is not None:
            return f"https://huggingface.co/datasets/{self.hub.repo}"
        return self.files[0].url if self.files else None

    @property
    def sha256(self) -> str | None:
        """The published SHA-256, where there is one file and it has one."""
        checksum = self.files[0].checksum if len(self.files) == 1 else None
        return checksum.removeprefix("sha256:") if checksum and checksum.startswith("sha256:") else None

    @property
    def bundled(self) -> bool:
        """Whether it comes with crysjepa and needs no network."""
        return not self.files and self.hub is None


_MP_ENTRIES = RemoteFile(
    "https://ndownloader.figshare.com/files/40344436",
    "sha256:553d6272f049a8f4ec26e503b89751e2616dd3af53d086545f6ea00f317a361f",
    "2023-02-07-mp-computed-structure-entries.json.gz",
)

_LEMAT_CITATION = "M. Siron et al., LeMat-Bulk, AI for Accelerated Materials Design, ICLR 2025"
_LEMAT = ("CC BY 4.0 (Materials Project, Alexandria, OQMD)", _LEMAT_CITATION)
_BY_HUB = "SHA-256 that the Hub states"


def _lemat_bulk(config: str, what: str, num_rows: int | None, scale: str | None, size: str) -> Dataset:
    hub = HubFolder("LeMaterial/LeMat-Bulk", f"{config}/train-")
    name = f"lemat_bulk_{config.removeprefix('compatible_')}"
    text = f"LeMat-Bulk ({config}): the Materials Project, Alexandria and OQMD, {what}, uncorrected energies"
    return Dataset(
        name, text, (), *_LEMAT, num_rows, formats.LEMAT, "crystals", size, _BY_HUB, scale, hub=hub
    )


def _lemat_hull(split: str, force_field: str, model: str) -> Dataset:
    """``force_field`` as :mod:`crysjepa.relaxation.force_fields` calls it; none for DFT."""
    hub = HubFolder("LeMaterial/LeMat-Bulk-MLIP-Hull", f"data/{split}-")
    of = {"name": force_field, "model": model} if force_field else None
    by = f"{force_field} ({model})" if force_field else model
    return Dataset(
        f"lemat_hull_{split}", f"The hull of LeMat-Bulk in energies of {by}, which no other may meet",
        (), *_LEMAT, None, formats.LEMAT_HULL, "hull", "size not stated", _BY_HUB,
        f"{force_field} {model}" if force_field else LEMAT_PBE, hub=hub, split=split, force_field=of,
    )  # fmt: skip


REGISTRY = {
    d.name: d
    for d in (
        Dataset(
            "known",
            "What the Materials Project knows: crystals of MP-20, MPTS-52 and FLLA, and a hull of 40,784 "
            "compounds, MP-20's 36,681 near the hull among them (bundled; the default everywhere)",
            (),
            "CC BY 4.0 (Materials Project; LeMat-Bulk)",
            f"{_MP_CITATION}; MP-20: T. Xie et al., arXiv:2110.06197; MPTS-52: S. Baird et al., J. Open "
            "Source Softw. 9 (2024) 5618; FLLA: F. Faber et al., doi:10.1002/qua.24917; LeMat-Bulk: M. Siron "
            "et al., 2024",
            27_708,
            "parquet",
            "crystals",
            "in the package",
            "built by data/build_known.py",
            _MP2020,
        ),
        Dataset(
            "flla",
            "Materials Project crystals of 2015 with at most 25 sites, as chosen by Faber et al. (bundled)",
            (),
            "CC BY 4.0 (Materials Project), as collected in matminer (modified BSD)",
            f"F. Faber et al., Int. J. Quantum Chem. 115 (2015) 1094, doi:10.1002/qua.24917; {_MP_CITATION}",
            3_938,
            "parquet",
            "crystals",
            "in the package",
            "built by data/build_flla.py",
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
            "some 80 MB",
            "no published checksum: the first download's is kept",
        ),
        Dataset(
            "mp_20_train",
            "MP-20's training split alone: what the paper trains on, and measures distances from",
            (RemoteFile(f"{_CDVAE}/train.csv", name="mp_20_train.csv"),),
            _MP_LICENCE,
            f"T. Xie et al., ICLR 2022, arXiv:2110.06197; {_MP_CITATION}",
            27_136,
            "csv",
            "crystals",
            "some 50 MB",
            "no published checksum: the first download's is kept",
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
            607_684,
            "zip of csv",
            "crystals",
            "187 MB",
            "published SHA-256",
        ),
        Dataset(
            "mp_2022",
            "Materials Project v2022.10.28: every relaxed structure and its energy (Matbench Discovery)",
            (_MP_ENTRIES,),
            _MP_LICENCE,
            f"{_MP_CITATION}; J. Riebesell et al., figshare 22715158",
            154_719,
            formats.ENTRIES,
            "crystals",
            "179 MB",
            "published SHA-256",
            _MP2020,
        ),
        Dataset(
            "mptrj",
            "MPtrj: the frames with at most 20 sites of 1.58 million of Materials Project relaxations",
            (
                RemoteFile(
                    "https://ndownloader.figshare.com/files/41619375",
                    "md5:50ead5f27f9a4f6beb7564c4188f1e9f",
                    "MPtrj_2022.9_full.json",
                ),
            ),
            "MIT (figshare 23713842)",
            "B. Deng et al., Nature Machine Intelligence 5 (2023) 1031, doi:10.1038/s42256-023-00716-3",
            None,
            formats.MPTRJ,
            "crystals",
            "12.2 GB",
            "published MD5",
            _MP2020,
            20,
        ),
        Dataset(
            "mp_2023_hull",
            "The MP-2023 hull's entries: the Materials Project as of 2023-02-07, MP2020 corrections",
            (_MP_ENTRIES,),
            _MP_LICENCE,
            f"{_MP_CITATION}; J. Riebesell et al., figshare 22715158",
            154_719,
            formats.ENTRIES,
            "hull",
            "179 MB",
            "published SHA-256",
            _MP2020,
        ),
        Dataset(
            "mp_2023_phase_diagram",
            "The same hull as a pickled phase diagram: compositions and energies, no structures",
            (
                RemoteFile(
                    "https://ndownloader.figshare.com/files/48241624",
                    "md5:60d19d691fa1d338aa496a40a9641bef",
                    "2023-02-07-ppd-mp.pkl.gz",
                ),
            ),
            _MP_LICENCE,
            f"{_MP_CITATION}; J. Riebesell et al., figshare 22715158",
            154_719,
            formats.DIAGRAM,
            "hull",
            "220 MB",
            "published MD5; read without running pickled code",
            _MP2020,
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
            formats.LMDB,
            "hull",
            "873 MB",
            "published SHA-256; read without running pickled code",
            _MP2020,
        ),
        _lemat_bulk("compatible_pbe", "PBE and PBE+U", 5_335_299, LEMAT_PBE, "3.0 GB"),
        _lemat_bulk("compatible_pbesol", "PBEsol", None, "lemat_pbesol", "size not stated"),
        _lemat_bulk("compatible_scan", "SCAN", None, "lemat_scan", "size not stated"),
        _lemat_bulk("non_compatible", "settings that do not go together", None, None, "270 MB"),
        _lemat_hull("dft", "", "PBE and PBE+U"),
        _lemat_hull("mace_mp", "mace-mp-0b3", "medium-0b3"),
        _lemat_hull("mace_omat", "mace-omat-0", "medium-omat-0"),
        _lemat_hull("orb_conserv_inf", "orb-omat", "orb-v3-conservative-inf-omat"),
        _lemat_hull("orb_direct_20", "orb-direct-omat", "orb-v3-direct-20-omat"),
        _lemat_hull("uma", "uma-s-1", "uma-s-1"),
    )
}
