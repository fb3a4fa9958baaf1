"""One CIF data block to arrays. Nothing is guessed, merged or dropped: whatever cannot be read has a reason.

pymatgen splits the text into items and finds the lattice and the symmetry operations. Sites are expanded
here, because pymatgen's own expansion adds up atoms that share a position.
"""

from __future__ import annotations

import math
import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.io.cif import CifBlock, CifParser

MAX_CRYSTAL_BYTES = 10_000_000
"""Text of one crystal beyond this size is not parsed."""
MAX_SITES = 10_000
"""Cells with more sites are not read."""
MAX_LENGTH = 10_000.0
"""Å. Cells with longer edges are not read."""
MAX_LINE = 2_048
"""Longest line that the CIF 1.1 syntax allows; far longer ones stall regular expressions."""
MAX_OPERATIONS = 400

SAME_SPOT = 0.01
"""Å. Two atoms closer than this stand on one spot."""
SAME_IMAGE = 0.05
"""Å. Symmetry images of one atom that are closer than this are one atom on a special position."""
_THIRDS_TOLERANCE = 1e-4


class ReadError(ValueError):
    """A crystal, or a whole file, that cannot be read; the message says why."""


class RawCrystal(NamedTuple):
    """``atomic_numbers`` (N,), ``frac_coords`` (N, 3) and ``lattice`` (3, 3) in Å, rows a, b, c."""

    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]


def split_blocks(text: str) -> list[tuple[str, str]]:
    """Name and text of each data block that could hold a crystal.

    Blocks without cell and sites (a publication's bibliography, say) are left out, unless there is no other.

    Raises
    ------
    ReadError
        If there is no data block at all.
    """
    parts = re.split(r"^[ \t]*data_", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    if not parts:
        raise ReadError("no data block: not a CIF")
    blocks = [(part.split(maxsplit=1)[0] if part[:1].strip() else "", f"data_{part}") for part in parts]
    return [b for b in blocks if re.search(r"^[ \t]*_(cell_length|atom_site)", b[1], re.M | re.I)] or blocks[
        :1
    ]


def read_block(text: str) -> RawCrystal:
    """The crystal in one CIF data block.

    Raises
    ------
    ReadError
        With the reason why there is none.
    """
    if len(text) > MAX_CRYSTAL_BYTES:
        raise ReadError(
            f"{len(text) / 1e6:.0f} MB of text for one crystal (limit {MAX_CRYSTAL_BYTES / 1e6:.0f})"
        )
    # pymatgen's regular expressions take quadratic time over blank lines and over very long ones
    lines = [line for line in text.splitlines() if line.strip()]
    if max(map(len, lines), default=0) > MAX_LINE:
        raise ReadError(f"a line is longer than the {MAX_LINE} characters that CIF allows")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _crystal("\n".join(lines) + "\n")
        except ReadError:
            raise
        except Exception as error:  # a parser of free text raises anything; the reason is kept
            if isinstance(error, KeyError):
                raise ReadError(f"the data item {brief(error)} is missing") from error
            if isinstance(error, ZeroDivisionError) or re.search(r"zip\(\)|not a multiple", str(error)):
                raise ReadError("a loop is incomplete: the file seems truncated") from error
            raise ReadError(f"unparsable CIF: {brief(error)}") from error


def brief(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return (lines[0][:160] if lines else "") or type(error).__name__


def _crystal(text: str) -> RawCrystal:
    from pymatgen.io.cif import CifBlock, CifParser

    parser = CifParser.from_str(text, frac_tolerance=0, check_cif=False)
    items = next(iter(parser.as_dict().values()), None)
    if items is None:
        raise ReadError("no structure in the data block")
    block = CifBlock(items, [], "block")
    numbers, coords = _rows(items)
    lattice = _lattice(parser, block)
    operations = _operations(parser, block)
    if len(operations) > 1:
        coords = exact_thirds(coords)
    atomic_numbers, frac_coords = expand(numbers, coords, operations, lattice)
    check_declared(items, len(atomic_numbers))
    return RawCrystal(atomic_numbers, frac_coords, lattice)


# -- what the file says ------------------------------------------------------------------------


def _column(items: dict[str, Any], key: str) -> list[str] | None:
    value = items.get(key)
    return [value] if isinstance(value, str) else value


def _rows(items: dict[str, Any]) -> tuple[list[int], NDArray[np.float64]]:
    """Atomic number and fractional coordinates of every row of the atom loop."""
    labels = _column(items, "_atom_site_label")
    symbols = _column(items, "_atom_site_type_symbol")
    names = symbols or labels
    if not names:
        raise ReadError("no atom sites")
    if len(names) > MAX_SITES:
        raise ReadError(f"{len(names)} sites (limit {MAX_SITES})")
    columns = [_column(items, f"_atom_site_fract_{axis}") for axis in "xyz"]
    if any(column is None or len(column) != len(names) for column in columns):
        raise ReadError("no fractional coordinates")
    for text in _column(items, "_atom_site_occupancy") or []:
        if text not in (".", "?") and abs((occupancy := _number(text, "an occupancy")) - 1) > 1e-3:
            raise ReadError(
                f"a site is partially occupied ({occupancy:g})"
                if occupancy < 1
                else f"an occupancy is {text}"
            )
    if any(number(h) for h in _column(items, "_atom_site_attached_hydrogens") or [] if h not in (".", "?")):
        raise ReadError("hydrogens are declared without coordinates")
    if "dum" in (_column(items, "_atom_site_calc_flag") or []):
        raise ReadError("a dummy site is not an element")
    coords = [[_number(text, "a coordinate") for text in column or []] for column in columns]
    return [atomic_number(name, is_label=symbols is None) for name in names], np.array(coords).T


def number(text: str) -> float:
    """A CIF number, its uncertainty in brackets left off. Raises ValueError for anything else."""
    return float(text.split("(", 1)[0])


def _number(text: str, what: str) -> float:
    try:
        value = number(text)
    except ValueError:
        raise ReadError(f"{what} is {text[:40]!r}, not a number") from None
    if not math.isfinite(value):
        raise ReadError(f"{what} is not finite ({text})")
    return value


@lru_cache(maxsize=4096)
def atomic_number(text: str, *, is_label: bool = False) -> int:
    """Atomic number of a type symbol such as ``Fe3+``, or of a site label such as ``Fe1A``; D and T are 1.

    Raises
    ------
    ReadError
        If it names no element (a vacancy, a dummy, a molecule).
    """
    from ase.data import atomic_numbers

    table = {**atomic_numbers, "D": 1, "T": 1}
    match = re.match(r"[A-Za-z]+", text.strip())
    letters = match.group() if match else ""
    spellings = [letters]
    if is_label and letters.lower() not in ("va", "vac", "wat", "du", "dum"):
        spellings += [letters[:2], letters[:1] if len(letters) <= 2 or letters[1].isupper() else ""]
    for spelling in spellings:
        if z := table.get(spelling.title(), 0):
            return z
    raise ReadError(f"{text[:40]!r} is not an element")


def _lattice(parser: CifParser, block: CifBlock) -> NDArray[np.float64]:
    for key in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        text = block.data.get(f"_cell_{key}")
        if text is not None and _number(text, f"the cell's {key.replace('_', ' ')}") <= 0:
            raise ReadError(f"the cell's {key.replace('_', ' ')} is {text}")
    lattice = parser.get_lattice(block)
    if lattice is None:
        raise ReadError("no unit cell")
    return np.array(lattice.matrix)


def _operations(parser: Any, block: CifBlock) -> NDArray[np.float64]:
    """(O, 4, 4) affine symmetry operations on fractional coordinates."""
    if parser.feature_flags["magcif_incommensurate"]:
        raise ReadError("an incommensurate structure has no unit cell")
    magnetic = parser.feature_flags["magcif"]
    operations = parser.get_magsymops(block) if magnetic else parser.get_symops(block)
    if any("Defaulting to P1" in warning for warning in parser.warnings):
        # pymatgen falls back to P1 when it does not know the symbol, and most of the atoms would be missing
        declared = [
            v
            for k, v in block.data.items()
            if re.search(r"space_group_(name|IT)|Int_Tables", k) and isinstance(v, str)
        ]
        if other := [
            v for v in declared if re.sub(r"[\s'\"]", "", v).upper() not in ("P1", "1", "", ".", "?")
        ]:
            raise ReadError(f"the symmetry {other[0]!r} could not be read")
    if len(operations) > MAX_OPERATIONS:
        raise ReadError(f"{len(operations)} symmetry operations (limit {MAX_OPERATIONS})")
    return np.array([operation.affine_matrix for operation in operations])


def check_declared(items: dict[str, Any], sites: int) -> None:
    """Raise when the cell's formula says that atoms are missing, as they are in a truncated file."""
    formula = re.findall(r"([A-Z][a-z]?)\s*([\d.]*)", str(items.get("_chemical_formula_sum", "")))
    counts = [
        float(count or 1) if re.fullmatch(r"\d*\.?\d*", count) and count != "." else 0.5
        for _, count in formula
    ]
    total = sum(counts)
    if not counts or any(c != int(c) for c in counts) or total < 1:
        return
    try:
        units = number(str(items.get("_cell_formula_units_Z", "?")))
    except ValueError:
        units = math.nan
    # pymatgen and ASE write the formula of the whole cell; the IUCr means that of one formula unit
    if sites not in (total, total * units) and (math.isfinite(units) or sites % total):
        raise ReadError(
            f"the file declares {' '.join(e + n for e, n in formula)} but has {sites} sites in the cell"
        )


# -- the sites of the whole cell -----------------------------------------------------------------


def exact_thirds(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """0.3333 and 0.6667 to the fractions they stand for, so that images under a threefold axis coincide."""
    thirds = np.round(coords * 3) / 3
    return np.where(np.abs(coords - thirds) < _THIRDS_TOLERANCE, thirds, coords)


def expand(
    numbers: list[int],
    coords: NDArray[np.float64],
    operations: NDArray[np.float64],
    lattice: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Every atom of the cell, in the order of the rows."""
    if len(operations) == 1 and np.allclose(operations[0], np.eye(4)):
        images = [row[None] for row in coords]
    else:
        images, total = [], 0
        for row in coords:
            images.append(_orbit(row, operations, lattice))
            total += len(images[-1])
            if total > MAX_SITES:
                raise ReadError(f"more than {MAX_SITES} sites")
    frac = np.concatenate(images)
    for i in range(1, len(frac)):
        near = _distances(frac[:i] - frac[i], lattice) < SAME_SPOT
        if near.any():
            spot = ", ".join(f"{x % 1.0:.4g}" if x % 1.0 else "0.0" for x in frac[i])
            raise ReadError(f"two atoms on one spot at ({spot})")
    return np.repeat(np.array(numbers), [len(i) for i in images]), frac


def _orbit(
    row: NDArray[np.float64], operations: NDArray[np.float64], lattice: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distinct images of one atom, the first of each coinciding cluster, wrapped into the cell."""
    images = operations[:, :3, :3] @ row + operations[:, :3, 3]
    images -= np.floor(images)
    same = _distances(images[:, None] - images[None], lattice) < SAME_IMAGE
    first = [i for i in range(len(images)) if not same[i, :i].any()]
    return images[first]


def _distances(difference: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length in Å of fractional differences, less whole lattice vectors; exact when it is small."""
    return np.linalg.norm((difference - np.round(difference)) @ lattice, axis=-1)
