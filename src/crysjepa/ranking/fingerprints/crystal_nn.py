"""CrystalNN's fingerprints of all sites of a crystal: matminer's numbers, to the last bit, in less time.

Every number comes from pymatgen's own functions, run as they are; what differs is how often, and on what:

- Order parameters of one coordination number share a pass over the triples of neighbours, where matminer
  makes one for each; and what depends on two neighbours only is computed once for a site
  (:class:`~crysjepa.ranking.fingerprints.order_parameters.Vector`).
- Of a Voronoi tessellation only the faces of the site in question are looked at.
- Sites are what CrystalNN asks of them and nothing else; pymatgen's compute it anew at every look.

To import this module takes matminer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matminer.featurizers.site import CrystalNNFingerprint
from numpy.typing import NDArray
from pymatgen.analysis.local_env import CrystalNN, LocalStructOrderParams, VoronoiNN
from pymatgen.core import Structure
from scipy.spatial import Voronoi

from crysjepa.ranking.fingerprints.order_parameters import (
    SHORT_ARRAYS,
    VECTORS,
    Vector,
    gramschmidt,
    with_names,
)

_BOND_ORIENTATIONAL = frozenset({"q2", "q4", "q6"})
_SOUTH_POLE = frozenset(
    {
        "tri_bipyr",
        "sq_bipyr",
        "pent_bipyr",
        "hex_bipyr",
        "oct_max",
        "sq_plan_max",
        "hex_plan_max",
        "see_saw_rect",
    }
)
"""What neighbours at the south pole contribute, pymatgen adds to the last order parameter alone, and only if
that is one of these: a pass has room for one of them, at its end."""


class SiteFingerprints:
    """The fingerprint of ``CrystalNNFingerprint.from_preset("ops")`` for every site."""

    def __init__(self) -> None:
        operators = CrystalNNFingerprint.from_preset("ops").ops
        self.near = _Neighbours()
        self.parts = {number: SitePart(operators.get(number, [])) for number in range(1, max(operators) + 1)}

    def __call__(self, structure: Structure) -> NDArray[np.float64]:
        """(sites, 61). Raises what CrystalNN raises, which is much."""
        crystal = _Crystal(structure)
        return np.array([self._of_site(crystal, site) for site in range(len(structure))])

    def _of_site(self, crystal: _Crystal, site: int) -> list[float]:
        found = self.near.get_nn_data(crystal, site)
        placed = {id(n["site"]): PlacedSite(Vector(n["site"].coords)) for n in found.all_nninfo}
        centre = PlacedSite(Vector(crystal[site].coords))
        values: list[float] = []
        for number, part in self.parts.items():
            weight = found.cn_weights.get(number, 0)
            around = [placed[id(n["site"])] for n in found.cn_nninfo[number]] if weight else []
            values += part(weight, [centre, *around])
        return values


class PlacedSite:
    """A site as order parameters see it."""

    __slots__ = ("coords",)

    def __init__(self, coords: Vector) -> None:
        self.coords = coords


class SitePart:
    """The fingerprint's part for one coordination number: its weight, and order parameters times that."""

    def __init__(self, operators: list[Any]) -> None:
        """From what matminer has for that number: "wt", or an object for one order parameter."""
        self.num_values = len(operators)
        self.weight_at = [i for i, operator in enumerate(operators) if operator == "wt"]
        kinds = {i: operator.get_type(0) for i, operator in enumerate(operators) if operator != "wt"}
        bonds = [i for i, kind in kinds.items() if kind in _BOND_ORIENTATIONAL]
        last = [i for i, kind in kinds.items() if kind in _SOUTH_POLE]
        rest = [i for i in kinds if i not in bonds + last]
        passes = [rest + last[:1], *([i] for i in last[1:]), bonds]
        self.passes = [(places, _together([operators[i] for i in places])) for places in passes if places]

    def __call__(self, weight: float, sites: list[PlacedSite]) -> list[float]:
        """Values, for the site and its neighbours."""
        values = [0.0] * self.num_values
        if weight:
            for i in self.weight_at:
                values[i] = weight
            for places, parameters in self.passes:
                found = parameters.get_order_parameters(sites, 0, indices_neighs=list(range(1, len(sites))))
                for i, value in zip(places, found, strict=True):
                    values[i] = weight * (value or 0)  # None where the neighbours are too few
        return values


def _together(operators: list[Any]) -> _OrderParameters:
    """One object for several order parameters, which computes them in this order."""
    given = [operator.get_parameters(0) for operator in operators]
    # They come in types of a YAML reader's, which are slow to look into.
    plain = [p and {key: v if type(v) is int else float(v) for key, v in p.items()} for p in given]
    return _OrderParameters([operator.get_type(0) for operator in operators], parameters=plain)


class _OrderParameters(LocalStructOrderParams):
    """pymatgen's, for sites with a :class:`Vector` for coordinates."""

    get_order_parameters = with_names(
        LocalStructOrderParams.get_order_parameters, np=VECTORS, gramschmidt=gramschmidt
    )


# -- neighbours ------------------------------------------------------------------------------


class _Site:
    """A site, or the image of one, as CrystalNN sees it; with its distance from the site in question in Å."""

    __slots__ = ("coords", "distance", "specie")
    is_ordered = True

    def __init__(self, specie: Any, coords: NDArray[np.float64], distance: float = 0.0) -> None:
        self.specie = specie
        self.coords = coords
        self.distance = distance

    def __getitem__(self, item: int) -> Any:
        """Like pymatgen's neighbours: the site itself, and the distance."""
        return (self, self.distance)[item]


class _Crystal:
    """A crystal as CrystalNN sees it."""

    def __init__(self, structure: Structure) -> None:
        self.lattice = structure.lattice
        self.frac_coords = structure.frac_coords
        self.elements = list(structure.elements)
        self.sites = [_Site(site.specie, site.coords) for site in structure]

    def __getitem__(self, site: int) -> _Site:
        return self.sites[site]

    def get_sites_in_sphere(self, centre: NDArray[np.float64], radius: float) -> list[_Site]:
        """Sites and images within ``radius`` in Å of a point, itself among them where it is a site."""
        lattice, sites = self.lattice, self.sites
        found = lattice.get_points_in_sphere(self.frac_coords, centre, radius)
        # One by one: the same product of many rows at once can differ in the last bit.
        return [_Site(sites[i].specie, lattice.get_cartesian_coords(f), d) for f, d, i, _ in found]


class _Faces:
    """A Voronoi tessellation as VoronoiNN reads it, with the faces of the first point's cell alone."""

    def __init__(self, points: list[NDArray[np.float64]]) -> None:
        whole = Voronoi(points)
        self.vertices = whole.vertices
        own = np.flatnonzero((whole.ridge_points == 0).any(axis=1)).tolist()
        self.ridge_dict = {tuple(whole.ridge_points[i].tolist()): whole.ridge_vertices[i] for i in own}


def _for_short_arrays(name: str) -> Any:
    return with_names(VoronoiNN._extract_cell_info.__globals__[name], np=SHORT_ARRAYS)


class _FacesOfSite(VoronoiNN):
    """VoronoiNN, less what fingerprints do not ask: which faces touch, and of which sites and cells
    neighbours are images."""

    get_voronoi_polyhedra = with_names(VoronoiNN.get_voronoi_polyhedra, Voronoi=_Faces)
    _extract_cell_info = with_names(
        VoronoiNN._extract_cell_info,
        solid_angle=_for_short_arrays("solid_angle"),
        vol_tetra=_for_short_arrays("vol_tetra"),
    )

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, compute_adj_neighbors=False)

    @staticmethod
    def _get_image(structure: Any, site: Any) -> Any:
        return None

    @staticmethod
    def _get_original_site(structure: Any, site: Any) -> Any:
        return None


class _Neighbours(CrystalNN):
    """CrystalNN with those faces."""

    get_nn_data = with_names(CrystalNN.get_nn_data, VoronoiNN=_FacesOfSite)
