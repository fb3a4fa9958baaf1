"""Small pictures of crystals: a unit cell in oblique view as inline SVG, without any script."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from markupsafe import Markup
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals

MAX_ATOMS = 300
"""Crystals with more sites than this are not drawn: at this size nothing could be seen."""

_AZIMUTH, _ELEVATION = np.radians(22.0), np.radians(14.0)
_RADIUS = 0.5  # drawn radius over covalent radius
_EDGE_PIECES = 32  # an edge is sorted by depth piece by piece, so that atoms can hide a part of it
_SIZES = np.maximum(covalent_radii, 0.45)  # Å; a smaller hydrogen would be a speck
_BOUNDARY = 0.02  # fractional distance at which an atom counts as lying on a face


@dataclass(frozen=True)
class Element:
    """An entry of a picture's legend; ``radius`` is in pixels."""

    symbol: str
    colour: str
    radius: float


@dataclass(frozen=True)
class Picture:
    """An SVG element, what it shows in words, its legend, and the same for a viewer in three dimensions.

    ``scene`` is for JSON: ``cell``, the three lattice vectors; ``elements`` with symbol, colour and radius;
    ``atoms``, each the number of its element and x, y, z. In Å, turned as in the picture: x to the right, y
    upwards, z towards the eye; the origin is the cell's.
    """

    svg: Markup
    label: str
    legend: tuple[Element, ...]
    scene: Mapping[str, Any] = field(default_factory=dict)


def draw_structure(crystal: Crystals, name: str, size: int = 150) -> Picture:
    """Draw the conventional unit cell of one crystal, atoms on its faces repeated.

    Atoms are circles of half their covalent radius in Jmol's colours; the view is along a, slightly from
    the right and above, with c upwards (or to the right in a cell much taller than wide).

    Parameters
    ----------
    crystal
        A batch of one.
    name
        Prefix of the ids inside the picture; unique on the page.
    size
        Longest side in pixels.

    Raises
    ------
    ValueError
        If the cell has no volume, a coordinate is not finite, an atomic number is impossible, or there
        are too many atoms.
    """
    _check_drawable(crystal)
    lattice, frac, numbers = _conventional(crystal)
    frac, species = _with_boundary(frac, numbers)
    view = view_of(lattice)
    corners = _edges() @ lattice @ view
    if np.ptp(corners[..., 1]) > 1.7 * np.ptp(corners[..., 0]):  # lay a tall cell down
        view = view @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        corners = _edges() @ lattice @ view
    atoms = frac @ lattice @ view
    radii = _RADIUS * _SIZES[species]
    low = np.minimum((atoms[:, :2] - radii[:, None]).min(0), corners[..., :2].min((0, 1)))
    high = np.maximum((atoms[:, :2] + radii[:, None]).max(0), corners[..., :2].max((0, 1)))
    scale = (size - 4) / (high - low).max()
    width, height = (high - low) * scale + 4

    def to_page(points: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = (points[..., :2] - low) * scale + 2
        return np.stack([flat[..., 0], height - flat[..., 1]], axis=-1)

    symbols = [chemical_symbols[z] for z in species]
    shapes = _edge_shapes(to_page(corners), _edge_order(corners, atoms, radii))
    shapes += _atom_shapes(to_page(atoms), atoms[:, 2], radii * scale, symbols, name)
    kinds = [int(z) for z in np.unique(species)]
    label = f"Unit cell with {_contents(numbers)}"
    svg = (
        f'<svg class="cell" role="img" aria-label="{label}" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'width="{width:.0f}" height="{height:.0f}"><defs>'
        + "".join(_gradient(z, name) for z in kinds)
        + "</defs>"
        + "".join(shape for _, shape in sorted(shapes))
        + "</svg>"
    )
    legend = tuple(
        Element(chemical_symbols[z], _hex(_colour(z)), round(float(_RADIUS * _SIZES[z] * scale), 1))
        for z in kinds
    )
    # the SVG has numbers, element symbols and `name` only
    return Picture(Markup(svg), label, legend, _scene(lattice @ view, atoms, species))


def _scene(
    cell: NDArray[np.float64], atoms: NDArray[np.float64], species: NDArray[np.int64]
) -> Mapping[str, Any]:
    """See :class:`Picture`."""
    kinds, of_atom = np.unique(species, return_inverse=True)
    elements = [
        [chemical_symbols[z], _hex(_colour(z)), round(float(_RADIUS * _SIZES[z]), 2)] for z in kinds.tolist()
    ]
    places = zip(of_atom.tolist(), np.round(atoms, 3).tolist(), strict=True)
    return {
        "cell": np.round(cell, 3).tolist(),
        "elements": elements,
        "atoms": [[kind, *xyz] for kind, xyz in places],
    }


def _check_drawable(crystal: Crystals) -> None:
    if not (np.isfinite(crystal.lattices).all() and np.isfinite(crystal.frac_coords).all()):
        raise ValueError("a coordinate is not a finite number")
    if not ((crystal.atomic_numbers >= 1) & (crystal.atomic_numbers < len(chemical_symbols))).all():
        raise ValueError("an atomic number is not that of an element")
    if crystal.volumes[0] < 0.1:
        raise ValueError("the cell has no volume")
    if crystal.num_atoms[0] > MAX_ATOMS:
        raise ValueError(f"{crystal.num_atoms[0]} atoms are too many to draw")


def _conventional(crystal: Crystals) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    import spglib

    cell: Any = (crystal.lattices[0], crystal.frac_coords, crystal.atomic_numbers)
    found = None
    no_symmetry = getattr(spglib, "SpglibError", RuntimeError)  # newer versions raise, older return None
    with warnings.catch_warnings(), contextlib.suppress(no_symmetry):
        # spglib announces a change of its error handling whenever it finds no symmetry.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"spglib")
        found = spglib.standardize_cell(cell, to_primitive=False, no_idealize=False, symprec=0.05)
    if found is None or len(found[2]) > MAX_ATOMS:
        return cell
    return np.asarray(found[0]), np.asarray(found[1]), np.asarray(found[2], dtype=np.int64)


def _with_boundary(
    frac: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sites moved into the cell, and repeated on the opposite side where they lie on a face."""
    frac = frac - np.floor(frac + _BOUNDARY)
    for axis in range(3):
        on_face = frac[:, axis] < _BOUNDARY
        frac = np.concatenate([frac, frac[on_face] + np.eye(3)[axis]])
        numbers = np.concatenate([numbers, numbers[on_face]])
    return frac, numbers


def view_of(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3): columns are the directions to the right, upwards and towards the eye."""
    up = lattice[2] / np.linalg.norm(lattice[2])
    right = lattice[1] - (lattice[1] @ up) * up
    right /= np.linalg.norm(right)
    front = np.cross(right, up)
    s, c, t, u = np.sin(_AZIMUTH), np.cos(_AZIMUTH), np.sin(_ELEVATION), np.cos(_ELEVATION)
    return np.stack(
        [c * right - s * front, u * up - t * (c * front + s * right), t * up + u * (c * front + s * right)],
        axis=1,
    )


def _edges() -> NDArray[np.float64]:
    """(12, pieces + 1, 3) fractional points along the edges of the cell."""
    along = np.linspace(0.0, 1.0, _EDGE_PIECES + 1)
    lines = []
    for axis in range(3):
        for first in (0.0, 1.0):
            for second in (0.0, 1.0):
                line = np.empty((len(along), 3))
                line[:, axis], line[:, axis - 1], line[:, axis - 2] = along, first, second
                lines.append(line)
    return np.stack(lines)


def _edge_order(
    edges: NDArray[np.float64], atoms: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(12, pieces): how many atoms, counted from the back, each piece of an edge lies in front of.

    A piece inside an atom lies behind it.
    """
    middle = (edges[:, :-1] + edges[:, 1:]) / 2
    levels = np.unique(np.round(atoms[:, 2], 3))
    order = np.searchsorted(levels, np.round(middle[..., 2], 3))
    inside = np.linalg.norm(middle[:, :, None] - atoms, axis=-1) < radii
    behind = np.where(inside, np.searchsorted(levels, np.round(atoms[:, 2], 3)), len(levels))
    return np.minimum(order, behind.min(axis=-1))


def _edge_shapes(points: NDArray[np.float64], order: NDArray[np.int64]) -> list[tuple[float, str]]:
    shapes = []
    for line, levels in zip(points, order, strict=True):
        ends = [0, *(np.flatnonzero(np.diff(levels)) + 1), len(levels)]
        for first, last in itertools.pairwise(ends):  # pieces of one level are one line
            (x1, y1), (x2, y2) = line[first], line[last]
            path = f'<path class="e" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
            shapes.append((float(levels[first]), path))
    return shapes


def _atom_shapes(
    points: NDArray[np.float64],
    depths: NDArray[np.float64],
    radii: NDArray[np.float64],
    symbols: list[str],
    name: str,
) -> list[tuple[float, str]]:
    levels = np.unique(np.round(depths, 3))
    order = np.searchsorted(levels, np.round(depths, 3)) + 0.5
    return [
        (float(o), f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="url(#{name}-{symbol})"/>')
        for (x, y), o, r, symbol in zip(points, order, radii, symbols, strict=True)
    ]


def _gradient(z: int, name: str) -> str:
    base = _colour(z)
    light, dark = base + (1 - base) * 0.6, base * 0.62
    return (
        f'<radialGradient id="{name}-{chemical_symbols[z]}" cx=".35" cy=".3" r=".8">'
        f'<stop offset="0" stop-color="{_hex(light)}"/><stop offset=".5" stop-color="{_hex(base)}"/>'
        f'<stop offset="1" stop-color="{_hex(dark)}"/></radialGradient>'
    )


def _colour(z: int) -> NDArray[np.float64]:
    return jmol_colors[z] if z < len(jmol_colors) else np.array([0.9, 0.1, 0.6])


def _hex(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in colour)


def _contents(numbers: NDArray[np.int64]) -> str:
    kinds, counts = np.unique(numbers, return_counts=True)
    parts = [f"{n} {chemical_symbols[z]}" for z, n in zip(kinds, counts, strict=True)]
    joined = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"{joined} atom{'s' if len(numbers) > 1 else ''}"
