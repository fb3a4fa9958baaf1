"""Lennard-Jones that sees six Å far: ASE's own sees three, in which most crystals have no neighbour."""

from ase.calculators.lj import LennardJones

FAR_SIGHTED = "far_sighted:FarSighted"


class FarSighted(LennardJones):
    """σ = 1 Å and ε = 1 eV, as by default."""

    def __init__(self):
        super().__init__(rc=6.0)
