"""Files damaged at random: nothing crashes or hangs, no row is lost, no crystal becomes another silently.

500 examples in all, the same ones each time; with ``CRYSJEPA_FUZZ=10000`` so many, of another seed each time.
"""

import bz2
import csv
import gzip
import io
import itertools
import json
import os
import re
import resource
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ase import Atoms
from ase.db import connect
from ase.io import write as ase_write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import MAX_COORDINATE, MAX_LENGTH, MAX_SITES, Crystals
from crysjepa.io import ReadError, read_crystals, write_crystals
from crysjepa.runtime.notes import ReadNote

EXAMPLES = int(os.environ.get("CRYSJEPA_FUZZ", "500"))
_MEMORY = 3_000_000_000
"""Bytes that reading a small file may take beyond what is in use."""


def fuzz(share: float):
    """Settings of a test that has this share of all examples."""
    return settings(
        max_examples=max(1, round(EXAMPLES * share)),
        deadline=timedelta(seconds=30),
        derandomize="CRYSJEPA_FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# -- three crystals, and every kind of file that holds them --------------------------------------------

KNOWN = Crystals(
    [55, 17, 3, 9, 8, 26, 8],
    [
        [0.0, 0, 0], [0.5, 0.5, 0.5],
        [0.125, 0.25, 0.75], [0.5625, 0.6875, 0.3125], [0.875, 0.0625, 0.1875],
        [0.25, 0.75, 0.5], [0.6875, 0.3125, 0.0625],
    ],
    [
        np.eye(3) * 4.125,
        [[4.25, 0, 0], [-0.75, 5.125, 0], [0.625, -1.25, 6.5]],
        [[3.875, 0, 0], [-1.25, 4.625, 0], [-0.5, 0.875, 5.25]],
    ],
    [2, 3, 2],
    ("k0", "k1", "k2"),
)  # fmt: skip


def torch_bytes(crystals: Crystals) -> bytes:
    tensors = {
        "frac_coords": torch.tensor(crystals.frac_coords),
        "atom_types": torch.tensor(crystals.atomic_numbers),
        "num_atoms": torch.tensor(crystals.num_atoms),
        "lattices": torch.tensor(crystals.lattices),
    }
    torch.save(tensors, held := io.BytesIO())
    return held.getvalue()


def csv_bytes(cells: list[str]) -> bytes:
    writer = csv.writer(text := io.StringIO())
    writer.writerow(["material_id", "e_hull", "cif"])
    writer.writerows([f"m-{i}", 0.25 * i, cell] for i, cell in enumerate(cells))
    return text.getvalue().encode()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return held.getvalue()


@lru_cache(maxsize=1)
def whole() -> dict[str, bytes]:
    """Bytes of a sound file of each kind, by its name."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for end in ("cif", "xyz", "json", "jsonl", "csv", "csv.gz", "parquet", "zip", "cif.xz"):
            write_crystals(KNOWN, folder / f"a.{end}")
        write_crystals(KNOWN[1], folder / "POSCAR.vasp")
        ase_write(folder / "a.traj", KNOWN.to_atoms())
        with connect(folder / "a.db") as db:
            for atoms in KNOWN.to_atoms():
                db.write(atoms)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["a.pt"] = torch_bytes(KNOWN)
    files["a.xyz.bz2"] = bz2.compress(files["a.xyz"])
    files["a.json.zst"] = pa.compress(files["a.json"], codec="zstd", asbytes=True)
    return files


# -- what holds whatever a file holds ------------------------------------------------------------------


@contextmanager
def bounded_memory() -> Iterator[None]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def read(path: Path) -> CandidateTable | None:
    """The table of a file, which is sound, and passes the next step; None where the file is refused."""
    with warnings.catch_warnings(), bounded_memory():
        warnings.simplefilter("ignore", ReadNote)
        try:
            table = read_crystals(path)
        except ReadError as error:
            assert str(error) and "memory" not in str(error)
            return None
    assert len(set(table.ids)) == len(table)
    states = list(zip(*(table.column(n) for n in ("status", "stage", "reason")), strict=True))
    assert all(s == ("ok", None, None) or (s[0] == "failed" and s[1] == "read" and s[2]) for s in states)
    assert not any("memory" in reason for *_, reason in states if reason)
    crystals = table.crystals()
    assert list(crystals.ids) == table.ok_ids
    assert np.isfinite(crystals.lattices).all() and (np.abs(crystals.lattices) <= MAX_LENGTH).all()
    assert np.isfinite(crystals.frac_coords).all()
    assert (np.abs(crystals.frac_coords) <= MAX_COORDINATE).all()
    assert ((crystals.atomic_numbers >= 1) & (crystals.atomic_numbers <= 118)).all()
    assert not len(crystals) or crystals.num_atoms.max() <= MAX_SITES
    assert (crystals.volumes > 0).all()
    canonical, failures = canonicalise(crystals)
    assert sorted([*canonical.ids, *failures]) == sorted(crystals.ids)
    return table


def same(first: Crystals, second: Crystals) -> bool:
    """Whether two single crystals have the same sites in the same order, and the same cell but for a turn."""
    if first.atomic_numbers.tolist() != second.atomic_numbers.tolist():
        return False
    gaps = first.frac_coords - second.frac_coords
    metric, other = (c.lattices[0] @ c.lattices[0].T for c in (first, second))
    return bool(np.allclose(gaps, np.round(gaps), atol=1e-5) and np.allclose(metric, other, atol=1e-4))


def crystal_at(table: CandidateTable, row: int) -> Crystals | None:
    id_ = table.ids[row]
    return table.crystals([id_]) if table.column("status")[row] == "ok" else None


# -- bytes ---------------------------------------------------------------------------------------------

PLACE = st.floats(0, 1, exclude_max=True)
WORDS = [
    b"nan",
    b"1e300",
    b"-0",
    b"99999999999",
    b"\0",
    b"\xff\xfe",
    b"\xe2\x88\x92",
    b"'",
    b'"',
    b";",
    b"\n",
]
NUMBERS = [struct.pack(f"<{kind}", value) for kind, value in [("d", np.nan), ("d", 1e300), ("d", -0.0),
           ("q", -1), ("q", 2**62), ("i", 2**31 - 1), ("i", 0)]]  # fmt: skip

BYTE_DAMAGE = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(1, 255)),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 200)),
    st.tuples(st.just("end"), PLACE, st.just(0)),
    st.tuples(st.just("twice"), PLACE, st.integers(1, 200)),
    st.tuples(st.just("insert"), PLACE, st.sampled_from(WORDS)),
    st.tuples(st.just("over"), PLACE, st.sampled_from(NUMBERS)),
)


def damaged_bytes(data: bytes, damage: tuple) -> bytes:
    what, place, how = damage
    at = int(place * len(data))
    if what == "flip":
        return data[:at] + bytes([data[at] ^ how]) + data[at + 1 :] if data else data
    if what == "end":
        return data[:at]
    if what == "insert":
        return data[:at] + how + data[at:]
    if what == "over":
        at -= at % 4  # numbers are often aligned
        return data[:at] + how + data[at + len(how) :]
    return data[:at] + data[at : at + how] * (2 * (what == "twice")) + data[at + how :]


NAMES = [
    "a.cif", "a.xyz", "a.json", "a.jsonl", "a.csv", "a.csv.gz", "a.parquet", "a.zip", "POSCAR.vasp", "a.traj",
    "a.db", "a.pt", "a.cif.xz", "a.xyz.bz2", "a.json.zst",
]  # fmt: skip


@fuzz(0.4)
@given(name=st.sampled_from(NAMES), damages=st.lists(BYTE_DAMAGE, max_size=3))
def test_damaged_bytes(tmp_path_factory, name, damages):
    data = whole()[name]
    for damage in damages:
        data = damaged_bytes(data, damage)
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    table = read(path)
    if data == whole()[name]:
        expected = KNOWN[1:2] if name == "POSCAR.vasp" else KNOWN
        assert all(same(c, k) for c, k in zip(table.crystals(), expected, strict=True))


# -- the text of one crystal among three ---------------------------------------------------------------

POISON = ["nan", "NaN", "inf", "-Infinity", "1e300", "-1e300", "1e999", "9" * 400]
"""No crystal has such a number, wherever it stands."""
OTHER_DIGITS = (
    str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"),
    str.maketrans("0123456789.", "０１２３４５６７８９．"),
)
SPELLINGS = [
    lambda n: f"+{n}", lambda n: f"{n}(3)", lambda n: n.replace("-", "\N{MINUS SIGN}"),
    lambda n: n.replace("-", "\N{EN DASH}"), lambda n: n.translate(OTHER_DIGITS[0]),
    lambda n: n.translate(OTHER_DIGITS[1]), lambda n: n.replace(".", ","), lambda n: f"{n}e0",
    lambda n: f"{n}D+00", lambda n: f"{n}d0", lambda n: n.replace(".", "_"), lambda n: f"{n[:2]}_{n[2:]}",
    lambda n: f"0{n}", lambda n: n.replace("0.", "."), lambda n: f"{n}00" if "." in n else f"{n}.",
    lambda n: f"{n}\N{NO-BREAK SPACE}", lambda n: f"{n}\N{ZERO WIDTH SPACE}", lambda n: f'"{n}"',
    lambda n: f"'{n}'", lambda n: n.replace("-", "- "), lambda n: f"{n}#", lambda n: f"--{n}",
]  # fmt: skip
"""Other ways to write a number, or what looks like one: it is that number, or there is a reason."""
_NUMBER = re.compile(r"(?<![\w.+-])-?\d+(\.\d+)?(?![\w.])")

HARMLESS = st.one_of(
    st.tuples(st.just("number"), PLACE, st.sampled_from(POISON)),
    st.tuples(st.just("spelling"), PLACE, st.sampled_from(SPELLINGS)),
)
DAMAGE = st.one_of(
    st.tuples(st.just("number"), PLACE, st.sampled_from(["0", "-1", "1e4", "0.5", "-0", "12e3", "1/2"])),
    st.tuples(st.just("drop"), PLACE, st.just(0)),
    st.tuples(st.just("double"), PLACE, st.just(0)),
    st.tuples(st.just("swap"), PLACE, PLACE),
    st.tuples(st.just("truncate"), PLACE, st.just(0)),
    st.tuples(st.just("insert"), PLACE, st.sampled_from([*"\"';#?_-.\0\\{}[]:,\N{SNOWMAN}", "loop_", " "])),
)


def damaged_text(text: str, damage: tuple) -> str:
    what, place, how = damage
    if what in ("number", "spelling"):
        if not (found := list(_NUMBER.finditer(text))):
            return text
        number = found[int(place * len(found))]
        return text[: number.start()] + (how if what == "number" else how(number[0])) + text[number.end() :]
    at = int(place * len(text))
    if what == "truncate":
        return text[:at]
    if what == "insert":
        return text[:at] + how + text[at:]
    lines = text.splitlines(keepends=True)
    row = int(place * len(lines))
    if what == "swap" and lines:
        other = int(how * len(lines))
        lines[row], lines[other] = lines[other], lines[row]
    elif lines:
        lines[row : row + 1] = lines[row : row + 1] * (2 * (what == "double"))
    return "".join(lines)


@lru_cache
def texts_of(kind: str) -> list[str]:
    """The text of each known crystal alone."""
    texts = []
    for crystal in KNOWN:
        if kind == "xyz":
            atoms = crystal.to_atoms()[0]
            ase_write(text := io.StringIO(), atoms, format="extxyz")
            texts.append(text.getvalue())
        elif kind == "json":
            texts.append(json.dumps(crystal.to_structures()[0].as_dict(verbosity=0), indent=1))
        elif kind == "poscar":
            texts.append(crystal.to_structures()[0].to(fmt="poscar"))
        else:
            text = crystal.to_structures()[0].to(fmt="cif")
            texts.append(text.split("data_", 1)[1].partition("\n")[2] if kind == "block" else text)
    return texts


def cif_file(texts: list[str]) -> bytes:
    """The blocks of three CIFs; where each begins is not damaged."""
    return "".join(f"data_b{i}\n{text}\n" for i, text in enumerate(texts)).encode()


def lines_file(texts: list[str]) -> bytes:
    return "".join(text.replace("\n", " ") + "\n" for text in texts).encode()


def xyz_file(texts: list[str]) -> bytes:
    return "".join(text.rstrip("\n") + "\n" for text in texts).encode()


def parquet_file(texts: list[str]) -> bytes:
    pq.write_table(pa.table({"material_id": ["a", "b", "c"], "cif": texts}), held := io.BytesIO())
    return held.getvalue()


def zip_file(end: str):
    return lambda texts: zip_bytes({f"{i}{end}": text.encode() for i, text in enumerate(texts)})


HOLDERS = {
    "a.cif": ("block", cif_file),
    "a.csv": ("cif", csv_bytes),
    "b.csv": ("json", csv_bytes),
    "b.csv.gz": ("cif", lambda texts: gzip.compress(csv_bytes(texts))),
    "a.parquet": ("cif", parquet_file),
    "a.zip": ("cif", zip_file(".cif")),
    "b.zip": ("poscar", zip_file(".vasp")),
    "c.zip": ("json", zip_file(".json")),
    "a.xyz": ("xyz", xyz_file),
    "a.jsonl": ("json", lines_file),
}


def check_middle(folder, name, damages, harmless):
    kind, together = HOLDERS[name]
    first, middle, last = texts_of(kind)
    for damage in damages:
        middle = damaged_text(middle, damage)
    (folder / name).write_bytes(together([first, middle, last]))
    table = read(folder / name)
    holds_any = r"(?i)_(cell_length|atom_site)" if kind == "block" else r"\S"
    assert table is not None and len(table) >= 2 + bool(re.search(holds_any, middle))
    assert len(table) <= 3 or kind in ("block", "xyz", "json")  # of which there may be lists
    assert same(crystal_at(table, 0), KNOWN[0]) and same(crystal_at(table, len(table) - 1), KNOWN[2])
    if harmless:
        found = [c for row in range(1, len(table) - 1) if (c := crystal_at(table, row)) is not None]
        assert all(same(c, KNOWN[1]) for c in found), middle
        assert damages or len(found) == 1


@fuzz(0.2)
@given(name=st.sampled_from(sorted(HOLDERS)), damages=st.lists(DAMAGE | HARMLESS, min_size=1, max_size=4))
def test_a_damaged_crystal_does_not_harm_its_neighbours(tmp_path_factory, name, damages):
    check_middle(tmp_path_factory.getbasetemp(), name, damages, False)


@fuzz(0.25)
@given(name=st.sampled_from(sorted(HOLDERS)), damages=st.lists(HARMLESS, max_size=2))
def test_a_number_in_another_spelling_is_that_number_or_none(tmp_path_factory, name, damages):
    check_middle(tmp_path_factory.getbasetemp(), name, damages, True)


# -- extremes in arrays --------------------------------------------------------------------------------

EXTREME = st.sampled_from(
    [0.0, -0.0, 1e-320, 1e-12, 1e-3, 0.5, 1.0, 4.0, 99.5, 9999.0, 10001.0, 1e6, 1e8, 1e16, 1e155, 1e300, -1.0,
     -4.0, -1e300, np.inf, -np.inf, np.nan, 0.1 + 0.2, 1 / 3]
)  # fmt: skip
NUMBER = EXTREME | st.floats(-5, 5) | st.floats(width=64)


@fuzz(0.15)
@given(data=st.data(), form=st.sampled_from(["pt", "parquet", "json", "traj"]))
def test_extremes(tmp_path_factory, data, form):
    sites = data.draw(st.integers(1, 4))
    numbers = [data.draw(st.sampled_from([1, 17, 118]) | st.integers(-3, 300)) for _ in range(sites)]
    coords = np.array([[data.draw(NUMBER) for _ in range(3)] for _ in range(sites)])
    cell = np.eye(3) * 4.0
    for i, j in data.draw(st.lists(st.sampled_from(list(itertools.product(range(3), repeat=2))), max_size=4)):
        cell[i, j] = data.draw(NUMBER)
    if data.draw(st.booleans()):
        coords = coords % 1 if np.isfinite(coords).all() else np.zeros((sites, 3))
    path = tmp_path_factory.getbasetemp() / f"x.{form}"
    if form == "pt":
        tensors = {"frac_coords": coords, "lattices": cell[None], "atom_types": numbers, "num_atoms": [sites]}
        torch.save({k: torch.tensor(v) for k, v in tensors.items()}, path)
    elif form == "parquet":
        columns = {"atomic_numbers": [numbers], "frac_coords": [coords.ravel()], "lattice": [cell.ravel()]}
        pd.DataFrame({"id": ["x"], **columns}).to_parquet(path)
    elif form == "traj":
        with np.errstate(all="ignore"):
            positions = coords @ cell
        ase_write(path, Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True), format="traj")
    else:
        names = dict(enumerate(["X", "H", *["He"] * 15, "Cl"]))
        at = [
            {"species": [{"element": names.get(z, "Og"), "occu": 1}], "abc": list(x)}
            for z, x in zip(numbers, coords, strict=True)
        ]
        path.write_text(json.dumps([{"lattice": {"matrix": cell.tolist()}, "sites": at}]))
    table = read(path)
    assert table is not None and len(table) == 1
    if (crystal := crystal_at(table, 0)) is not None and form != "json":
        given_ = Crystals(numbers, coords, cell, [sites], ("x",))
        gaps = crystal.frac_coords - given_.frac_coords
        assert crystal.atomic_numbers.tolist() == numbers and np.array_equal(crystal.lattices[0], cell)
        if form != "traj":
            assert np.allclose(gaps, np.round(gaps), atol=1e-9)
