"""Readers of whole texts of crystals: CIF and POSCAR."""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import atomic_numbers
from crysjepa.io.cif.blocks import MAX_SITES, RawCrystal, ReadError, brief, read_block, split_blocks
from crysjepa.io.entry import Entry, attempt, check_numbers
from crysjepa.runtime.notes import note

_SMALLEST_BLOCK = 100
"""Characters: a data block with a cell and an atom has more."""
MAX_BLOCKS = 200_000
"""Of one text: each takes some 30 µs and 1 kB, even an empty one."""


def read_cif(text: str, stem: str) -> list[Entry]:
    """An entry for each data block; named by the blocks where those names are unique, else numbered."""
    many = sum(1 for _ in re.finditer(r"^[ \t]*data_", text, re.MULTILINE | re.IGNORECASE))
    if many > 10_000 and many * _SMALLEST_BLOCK > len(text):
        raise ReadError(f"{many} data blocks in {len(text) / 1e6:.0f} MB: too small to hold crystals")
    if many > MAX_BLOCKS:
        raise ReadError(f"{many} data blocks in one file (limit {MAX_BLOCKS}): split it")
    blocks = split_blocks(text)
    if len(blocks) == 1:
        return [attempt(stem, lambda: read_block(blocks[0][1]))]
    named = [name for name, _ in blocks]
    if not all(named) or len(set(named)) < len(named):
        named = [str(i) for i in range(len(blocks))]
    return [
        attempt(f"{stem}-{name}", lambda block=block: read_block(block))  # type: ignore[misc]
        for name, (_, block) in zip(named, blocks, strict=True)
    ]


def read_poscar(text: str, stem: str) -> list[Entry]:
    """The one entry of a POSCAR or CONTCAR."""
    return [attempt(stem, lambda: poscar(text))]


def poscar(text: str) -> RawCrystal:
    """The crystal in a POSCAR that names its elements."""
    from pymatgen.core import DummySpecies
    from pymatgen.io.vasp import Poscar

    text = _checked_head(_plain_numbers(text.replace("\r\n", "\n").replace("\r", "\n")))
    for line in text.splitlines()[5:7]:
        counts = line.split()
        if not counts or not all(c.isdigit() for c in counts):
            continue
        if any(not c.isascii() or len(c) > 15 for c in counts):
            raise ReadError(f"unparsable POSCAR: a number of sites is {line.strip()[:40]!r}")
        if sum(map(int, counts)) > MAX_SITES:
            raise ReadError(f"{sum(map(int, counts))} sites (limit {MAX_SITES})")
    words = [word for line in text.splitlines()[1:] for word in line.split()[:3]]
    check_numbers(word for word in words if re.match(r"[-+.\d]", word))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = Poscar.from_str(_with_factor(text), read_velocities=False)
        except Exception as error:  # a parser of free text raises anything; the reason is kept
            raise ReadError(f"unparsable POSCAR: {brief(error)}") from error
    if not read.true_names:
        raise ReadError("the POSCAR names no elements (VASP 4 format)")
    structure = read.structure
    for site in structure:
        if isinstance(site.specie, DummySpecies):
            raise ReadError(f"{site.species_string!r} is not an element")
    _check_extent(text, len(structure))
    _tell_other_labels(text, [site.specie.symbol for site in structure])
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    return RawCrystal(numbers, np.array(structure.frac_coords), np.array(structure.lattice.matrix))


def _checked_head(text: str) -> str:
    """The same POSCAR without the comments behind its scale, vectors, elements and counts.

    Raises ReadError for a blank line among these, for what is no scale or no lattice vector, and for VASP's
    hydrogens of a fractional charge, such as H.75, which pymatgen takes for hydrogen.
    """
    lines = text.split("\n")
    last = next((i for i in range(5, len(lines)) if re.match(r"\s*\d", lines[i])), 6)  # the counts
    for i in range(1, min(last + 1, len(lines))):
        lines[i] = re.sub(r"(^|\s)[!#].*", "", lines[i])
    for word in (w for line in lines[5:last] for w in line.split()):
        if re.fullmatch(r"[A-Z][a-z]?\d*\.\d*(_\w*)?(/\w*)?", word):
            raise ReadError(f"{word[:40]!r} is an atom of a fraction's charge, and no element")
    filled = len("\n".join(lines).rstrip().split("\n"))
    for i in range(1, min(last + 2, filled)):
        if not lines[i].strip():
            raise ReadError(f"line {i + 1} of the POSCAR is blank: take it out")
    if len(lines) > 4:
        if len(scales := lines[1].split()) not in (1, 3) or not all(map(_is_number, scales)):
            raise ReadError(f"line 2 of the POSCAR is {lines[1].strip()[:40]!r}, where its scale stands")
        for i in (2, 3, 4):
            if not _is_lattice_row(lines[i].split()):
                raise ReadError(
                    f"line {i + 1} of the POSCAR is {lines[i].strip()[:40]!r}, "
                    "where the three numbers of a lattice vector stand"
                )
    return "\n".join(lines)


def _plain_numbers(text: str) -> str:
    """The same POSCAR, Fortran's exponents (``1.0D-3``) below its comment in C's spelling."""
    comment, newline, rest = text.partition("\n")
    return (
        comment
        + newline
        + re.sub(r"(?<![^\s])([-+]?(?:\d+\.?\d*|\.\d+))[dD]([-+]?\d+)(?!\S)", r"\1e\2", rest)
    )


def _with_factor(text: str) -> str:
    """The same POSCAR, a volume (a negative scale), or three scales, as the one factor and the vectors that
    they mean.

    pymatgen multiplies Cartesian coordinates by the negative number itself, and knows no three.
    """
    lines = text.split("\n")
    if len(lines) > 5 and len(scales := lines[1].split()) == 3 and all(map(_is_number, scales)):
        return _with_three_factors(lines, np.array(scales, dtype=float))
    if len(lines) < 5 or not (scale := float(lines[1])) < 0:
        return text
    volume = abs(np.linalg.det(np.array([line.split() for line in lines[2:5]], dtype=float)))
    if not volume > 0:
        raise ReadError("singular cell (volume 0)")
    return "\n".join([lines[0], repr(float(np.cbrt(-scale / volume))), *lines[2:]])


def _with_three_factors(lines: list[str], scales: NDArray[np.float64]) -> str:
    """VASP multiplies x, y and z of the lattice vectors, and of Cartesian coordinates, by one each."""
    if not (scales > 0).all():
        raise ReadError("one of three scales is not positive")
    modes = [i for i in range(5, min(len(lines), 20)) if lines[i].strip()[:1].lower() in ("c", "k", "d")]
    first = next((i for i in range(5, len(lines)) if lines[i].split() and lines[i].split()[0].isdigit()), 0)
    mode = next((i for i in modes if i > first), None)
    if mode is not None and lines[mode].strip()[0] in "cCkK":
        raise ReadError("three scales with Cartesian coordinates are not read: write direct ones")
    vectors = np.array([line.split()[:3] for line in lines[2:5]], dtype=float) * scales
    rows = [" ".join(map(repr, row)) for row in vectors.tolist()]
    return "\n".join([lines[0], "1.0", *rows, *lines[5:]])


def _check_extent(text: str, sites: int) -> None:
    """Raise where a POSCAR of which ``sites`` were read names more elements than it counts, or lists more."""
    lines = [line.partition("#")[0].split() for line in text.split("\n")]
    start = next(i for i in range(5, len(lines)) if lines[i] and lines[i][0].isdigit())
    stop = next(i for i in range(start, len(lines)) if not (lines[i] and lines[i][0].isdigit()))
    symbols, counts = (sum(map(len, part)) for part in (lines[5:start], lines[start:stop]))
    if symbols and symbols != counts:
        raise ReadError(f"the POSCAR names {symbols} elements and counts {counts}")
    first = stop + 1 + (lines[stop][0][0] in "sS")
    after = lines[first + sites :]
    if after and len(after[0]) >= 3 and all(_is_number(word) for word in after[0][:3]):
        raise ReadError(f"the POSCAR counts {sites} sites and lists more")
    if any(words[:2] == ["Direct", "configuration="] for words in after):
        raise ReadError("an XDATCAR of several configurations: one file holds one crystal")
    if any(
        _is_number(after[i][0]) and all(_is_lattice_row(row) for row in after[i + 1 : i + 4])
        for i in range(len(after) - 4)
        if len(after[i]) == 1 and after[i + 4] and not _is_number(after[i + 4][0])
    ):
        raise ReadError("a second POSCAR follows the first: one file holds one")


def _tell_other_labels(text: str, symbols: list[str]) -> None:
    """A note where the names behind the coordinates are of other elements than those above the counts."""
    lines = [line.split() for line in text.split("\n")]
    start = next(i for i in range(5, len(lines)) if lines[i] and lines[i][0].isdigit())
    first = next(i for i in range(start, len(lines)) if lines[i] and not lines[i][0].isdigit())
    first += 1 + (lines[first][0][0] in "sS")
    for words, symbol in zip(lines[first:], symbols, strict=False):
        behind = [w for w in words[3:] if w.upper() not in ("T", "F", ".TRUE.", ".FALSE.")]
        label = re.match(r"[A-Z][a-z]?(?![a-z])", behind[0]) if behind else None
        if label and label[0] != symbol and label[0] in atomic_numbers():
            note(
                f"a POSCAR's names behind its coordinates ({label[0]}) are of other elements than those "
                f"above its counts ({symbol}): those above are taken, as VASP does"
            )
            return


def _is_lattice_row(words: list[str]) -> bool:
    return len(words) == 3 and all(map(_is_number, words))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
