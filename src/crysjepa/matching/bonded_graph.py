"""Crystals by the graph of their bonds, as LeMat's fingerprint BAWL has them.

BAWL (bonding algorithm, Weisfeiler-Lehman) [M. Siron et al., LeMat-Bulk, AI for Accelerated Materials Design,
ICLR 2025] is three things in one text: a Weisfeiler-Lehman hash of the graph of bonds that pymatgen's EconNN
finds, the number of the space group, and the formula.

Two hashes are here:

- :func:`bonded_graph_hash`, ours: of moyo's primitive cell, whose graph has no direction, and with the number
  of bonds between two sites. Neither the cell nor the order of the sites changes it.
- :func:`bawl`, the published one, to be looked up in LeMat's column ``entalpic_fingerprint``. It hashes the
  cell as it is given. An edge leads from the earlier site to the later one, and a site hears of those that
  come later only: the same crystal with its sites in another order can have another hash.
  :func:`bawl_candidates` gives those of every order of the elements.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import symmetry_of
from crysjepa.runtime.errors import describe_error

if TYPE_CHECKING:
    import networkx as nx
    from pymatgen.core import Structure

BONDING: dict[str, Any] = {"tol": 0.2, "cutoff": 10, "use_fictive_radius": True}
"""EconNN's settings in BAWL; the cutoff is in Å."""
SYMPREC = 0.1
"""Å; of the primitive cell and the space group of our hash."""
BAWL_SYMPREC = 0.01
"""Å; of the space group in LeMat's published column."""
ROUNDS, BAWL_ROUNDS = 10, 100
"""Of the Weisfeiler-Lehman algorithm."""
MAX_ELEMENTS = 5
"""Of crystals with more, only the order of elements that they come with is tried."""


def bonded_graph_hash(crystal: Crystals) -> str:
    """Formula, space group and graph of one crystal, such as ``Cl1Na1|225|6c3d…``.

    Raises
    ------
    ValueError
        If it has no symmetry that moyo settles on, or EconNN finds no bonds.
    """
    import networkx as nx

    number, primitive = _primitive(crystal, SYMPREC)
    bonds = _bonds(primitive)
    graph = nx.Graph()
    for site, one in enumerate(primitive):
        graph.add_node(site, element=one.specie.symbol)
    for a, b in {(a, b) for a, b, _ in bonds.edges(keys=True)}:
        graph.add_edge(a, b, bonds=f"{bonds.number_of_edges(a, b)}-")
    found = nx.weisfeiler_lehman_graph_hash(graph, edge_attr="bonds", node_attr="element", iterations=ROUNDS)
    return f"{_reduced(primitive)}|{number}|{found}"


def bawl(crystal: Crystals) -> str:
    """BAWL of one crystal as it is given, such as ``aff1…_225_Na1Cl1``: its cell and order of sites count.

    Raises ValueError as :func:`bonded_graph_hash` does.
    """
    number = int(symmetry_of(crystal, BAWL_SYMPREC).number)
    return _bawl(crystal.to_structures()[0], number, None)


def bawl_candidates(crystal: Crystals) -> list[str]:
    """BAWL of the primitive cell of one crystal, for each order in which its elements may be listed.

    Raises ValueError as :func:`bonded_graph_hash` does.
    """
    number, primitive = _primitive(crystal, BAWL_SYMPREC)
    elements = list(dict.fromkeys(site.specie.symbol for site in primitive))
    orders = permutations(elements) if len(elements) <= MAX_ELEMENTS else [tuple(elements)]
    bonds = _bonds(primitive)
    return list(dict.fromkeys(_bawl(primitive, number, order, bonds) for order in orders))


def _primitive(crystal: Crystals, symprec: float) -> tuple[int, Structure]:
    """The number of the space group, and moyo's standard primitive cell."""
    from pymatgen.core import Element, Lattice, Structure

    found = symmetry_of(crystal, symprec)
    cell = found.prim_std_cell
    species = [Element.from_Z(number) for number in cell.numbers]
    return int(found.number), Structure(Lattice(np.array(cell.basis)), species, np.array(cell.positions))


def _bonds(structure: Structure) -> nx.MultiDiGraph:
    """Bonds between sites and images, each once: an edge from the earlier site to the later."""
    from pymatgen.analysis.local_env import EconNN

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of oxidation states that are not stated, at every site
        try:
            return EconNN(**BONDING).get_bonded_structure(structure).graph
        except Exception as error:
            # pymatgen can fail in many ways; the reason is kept
            raise ValueError(f"EconNN finds no bonds ({describe_error(error)})") from error


def _bawl(structure: Structure, number: int, order: Sequence[str] | None, bonds: Any = None) -> str:
    """With the sites in their order, or sorted by their elements' place in ``order``."""
    import networkx as nx

    class OneWay(nx.DiGraph):
        """A graph whose sites hear of later sites only, which is how BAWL reads it."""

        def is_directed(self) -> bool:
            return False  # networkx would take the earlier ones, too

    bonds = _bonds(structure) if bonds is None else bonds
    places = range(len(structure))
    if order is not None:
        by_element = sorted(places, key=lambda site: order.index(structure[site].specie.symbol))
        places = {site: place for place, site in enumerate(by_element)}  # type: ignore[assignment]
    graph = OneWay()
    for site, one in enumerate(structure):
        graph.add_node(site, specie=one.specie.name)
    for a, b in bonds.edges():
        graph.add_edge(*((a, b) if places[a] <= places[b] else (b, a)))
    found = nx.weisfeiler_lehman_graph_hash(graph, node_attr="specie", iterations=BAWL_ROUNDS)
    return f"{found}_{number}_{structure.composition.formula.replace(' ', '')}"


def _reduced(structure: Structure) -> str:
    """As the hash of orbits writes it: elements by atomic number."""
    amounts = structure.composition.element_composition.reduced_composition
    return "".join(f"{e.symbol}{amounts[e]:g}" for e in sorted(amounts, key=lambda e: e.Z))
