"""The force fields that have a name."""

from __future__ import annotations

from dataclasses import dataclass

MP, MP_RAW, OMAT24 = "materials_project", "materials_project_uncorrected", "omat24"


@dataclass(frozen=True)
class Entry:
    """A force field with a name.

    ``adapter`` is a module of :mod:`crysjepa.relaxation.force_fields.adapters`, None for CHGNet, which has
    its own; ``module`` is what is imported of the library, ``package`` what its version belongs to,
    ``install`` what to type. ``cutoff`` (Å) is that of the published model.
    ``file`` is what its publisher calls the weights that are downloaded, None where they come with the
    package.
    """

    adapter: str | None
    module: str
    package: str
    install: str
    model: str
    scale: str
    file: str | None = None
    max_atomic_number: int = 118
    functional: str = "PBE, PBE+U"

    @property
    def cutoff(self) -> float | None:
        """Å; None where it is not known."""
        return CUTOFFS.get(self.adapter or "")


CUTOFFS = {"sevennet": 5.0, "mattersim": 5.0, "mace": 6.0, "orb": 6.0, "fairchem": 6.0}
"""Å, by adapter, of the published models."""
_SEVENN = ("sevennet", "sevenn", "sevenn", '"crysjepa[sevennet]"')
_MATTERSIM = ("mattersim", "mattersim.forcefield", "mattersim", '"crysjepa[mattersim]"')
_MACE = ("mace", "mace", "mace-torch", '"crysjepa[mace]"')
_ORB = ("orb", "orb_models", "orb-models", '"crysjepa[orb]"')
_INF = "orb-v3-conservative-inf"
_FAIRCHEM = ("fairchem", "fairchem.core", "fairchem-core", '"crysjepa[fairchem]"')

ENTRIES = {
    "chgnet": Entry(None, "chgnet", "chgnet", "chgnet", "0.3.0", MP, max_atomic_number=94),
    "sevennet": Entry(*_SEVENN, "7net-0", MP_RAW, max_atomic_number=94),
    "sevennet-l3i5": Entry(*_SEVENN, "7net-l3i5", MP_RAW, max_atomic_number=94),
    "mattersim": Entry(*_MATTERSIM, "MatterSim-v1.0.0-1M", MP_RAW, "mattersim-v1.0.0-1M.pth", 94),
    "mattersim-5m": Entry(*_MATTERSIM, "MatterSim-v1.0.0-5M", MP_RAW, "mattersim-v1.0.0-5M.pth", 94),
    "mace": Entry(*_MACE, "medium-mpa-0", MP_RAW, "mace-mpa-0-medium.model"),
    "mace-mp-0b3": Entry(*_MACE, "medium-0b3", MP_RAW, "mace-mp-0b3-medium.model"),
    "mace-omat-0": Entry(*_MACE, "medium-omat-0", OMAT24, "mace-omat-0-medium.model"),
    "orb": Entry(*_ORB, f"{_INF}-mpa", MP_RAW, f"{_INF}-mpa-20250404.ckpt"),
    "orb-omat": Entry(*_ORB, f"{_INF}-omat", OMAT24, f"{_INF}-omat-20250404.ckpt"),
    "orb-direct-omat": Entry(*_ORB, "orb-v3-direct-20-omat", OMAT24, "orb-v3-direct-20-omat-20250404.ckpt"),
    "uma-s-1": Entry(*_FAIRCHEM, "uma-s-1", OMAT24, "uma-s-1.pt", max_atomic_number=100),
    "fairchem": Entry(*_FAIRCHEM, "uma-s-1p2p1", OMAT24, "uma-s-1p2p1.pt", max_atomic_number=100),
}
