"""Where each named force field's weights come from, under which licence, and what they were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from crysjepa.relaxation.force_fields.entries import ENTRIES


@dataclass(frozen=True)
class Provenance:
    """Of one force field's weights.

    ``weights`` is a path within the package that brings them, with their ``sha256``, or the address that the
    library takes them from (``fetched`` False where today's library does not). ``licence`` is that of the
    weights, by what ``source`` says; ``code_licence`` that of the library, by its package's metadata.
    """

    code_licence: str
    weights: str
    licence: str
    source: str
    trained_on: str
    sha256: str | None = None
    fetched: bool = True


_MACE = "https://github.com/ACEsuit/mace-mp/releases/download"
_MACE_SAYS = "https://github.com/ACEsuit/mace-foundations"
_MATTERSIM = "https://raw.githubusercontent.com/microsoft/mattersim/main/pretrained_models"
_MATTERSIM_SAYS = "https://github.com/microsoft/mattersim"
_ORB = "https://orbitalmaterials-public-models.s3.us-west-1.amazonaws.com/forcefields/orb-v3"
_ORB_SAYS = "https://github.com/orbital-materials/orb-models"
_UMA = "https://huggingface.co/facebook/UMA/resolve/main/checkpoints"
_UMA_SAYS = "https://huggingface.co/facebook/UMA"
_SEVENN = "sevenn/pretrained_potentials"
_SEVENN_SAYS = "https://github.com/MDIL-SNU/SevenNet"
_MATTERSIM_DATA = "its authors' own, not published: off equilibrium, up to 5000 K and 1000 GPa"
_UMA_DATA = "OMat24, OMol25, OC20, OMC25 and ODAC25; used here: its task omat"
_UMA_12_DATA = "the same, and more of catalysts, molecules and polymers; used here: its task omat"
_ASL, _FAIR = "ASL (academic, not commercial)", "FAIR Chemistry License v1"

PROVENANCE = {
    "chgnet": Provenance(
        "BSD-3-Clause", "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
        "BSD-3-Clause, with the package", "https://github.com/CederGroupHub/chgnet", "MPtrj",
        "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
    ),
    "sevennet": Provenance(
        "MIT", f"{_SEVENN}/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "MIT, with the package", _SEVENN_SAYS, "MPtrj",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    ),
    "sevennet-l3i5": Provenance(
        "MIT", f"{_SEVENN}/SevenNet_l3i5/checkpoint_l3i5.pth",
        "MIT, with the package", _SEVENN_SAYS, "MPtrj",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
    ),
    "mattersim": Provenance(
        "MIT", f"{_MATTERSIM}/mattersim-v1.0.0-1M.pth", "MIT, of the repository that holds them",
        _MATTERSIM_SAYS, _MATTERSIM_DATA,
    ),
    "mattersim-5m": Provenance(
        "MIT", f"{_MATTERSIM}/mattersim-v1.0.0-5M.pth", "MIT, of the repository that holds them",
        _MATTERSIM_SAYS, _MATTERSIM_DATA,
    ),
    "mace": Provenance(
        "MIT", f"{_MACE}/mace_mpa_0/mace-mpa-0-medium.model", "MIT", _MACE_SAYS, "MPtrj and sAlex"
    ),
    "mace-mp-0b3": Provenance(
        "MIT", f"{_MACE}/mace_mp_0b3/mace-mp-0b3-medium.model", "MIT", _MACE_SAYS, "MPtrj"
    ),
    "mace-omat-0": Provenance(
        "MIT", f"{_MACE}/mace_omat_0/mace-omat-0-medium.model", _ASL, _MACE_SAYS, "OMat24"
    ),
    "orb": Provenance(
        "Apache-2.0", f"{_ORB}/orb-v3-conservative-inf-mpa-20250404.ckpt", "Apache-2.0", _ORB_SAYS,
        "MPtrj and Alexandria",
    ),
    "orb-omat": Provenance(
        "Apache-2.0", f"{_ORB}/orb-v3-conservative-inf-omat-20250404.ckpt", "Apache-2.0", _ORB_SAYS, "OMat24"
    ),
    "orb-direct-omat": Provenance(
        "Apache-2.0", f"{_ORB}/orb-v3-direct-20-omat-20250404.ckpt", "Apache-2.0", _ORB_SAYS, "OMat24"
    ),
    "uma-s-1": Provenance("MIT", f"{_UMA}/uma-s-1.pt", _FAIR, _UMA_SAYS, _UMA_DATA, fetched=False),
    "fairchem": Provenance("MIT", f"{_UMA}/uma-s-1p2p1.pt", _FAIR, _UMA_SAYS, _UMA_12_DATA),
}  # fmt: skip
"""By name, as :data:`~crysjepa.relaxation.force_fields.entries.ENTRIES`."""


def packaged_weights(name: str) -> Path | None:
    """The file of weights that a package has brought; None where they are downloaded.

    Raises importlib.metadata.PackageNotFoundError where the package is not installed.
    """
    made = PROVENANCE[name]
    if made.sha256 is None:
        return None
    return Path(str(metadata.distribution(ENTRIES[name].package).locate_file(made.weights)))
