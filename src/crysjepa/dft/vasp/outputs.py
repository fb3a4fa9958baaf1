"""Read VASP folders: vasprun.xml, plain or compressed, and OUTCAR for what became of a broken one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import iterparse

import numpy as np
from monty.io import zopen
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.vasp.outputs import Vasprun

from crysjepa.dft.outcome import WHOLE, Outcome, State, Step, is_same, outcome, short
from crysjepa.dft.vasp.convergence import convergence
from crysjepa.dft.vasp.manifest import STAGES
from crysjepa.dft.vasp.settings import differences, divisions, functional

_ENDINGS = ("", ".gz", ".bz2", ".xz", ".lzma", ".Z")
_ENDS_WITH = "General timing and accounting"
"""What OUTCAR says when VASP came to its end."""


def read_folder(folder: Path, composition: Composition, exported: Structure | None = None) -> Outcome:
    """What became of the calculations in the folder of one crystal.

    Each stage has its subfolder; a folder with a vasprun.xml of its own and none in subfolders is read as one
    calculation. ``composition`` is that of the ``exported`` cell, whose mesh of k-points is compared. Never
    raises for what VASP left: that is in the outcome.
    """
    started = [s for s in STAGES if _started(folder / s)]
    if not started and _started(folder):
        alien = _begun_elsewhere(folder, exported)
        return alien or outcome({WHOLE: read_step(folder, exported)}, composition)
    if started[:1] == [STAGES[0]] and (alien := _begun_elsewhere(folder / STAGES[0], exported)):
        return alien
    if started[:2] == list(STAGES[:2]) and (alien := _goes_on_elsewhere(folder)):
        return alien
    # The static calculation, and the relaxation that it stands on; earlier ones decide nothing.
    needed = started[-2:] if started[-1:] == [STAGES[-1]] else started[-1:]
    found = outcome({s: read_step(folder / s, exported) for s in needed}, composition)
    if started and _file(folder, "vasprun.xml") is not None:
        return replace(found, notes=(*found.notes, "the vasprun.xml beside the stages is not read"))
    return found


def _goes_on_elsewhere(folder: Path) -> Outcome | None:
    """The outcome where the second relaxation began from another structure than the first ended with."""
    ended, began = (_structure_in(folder / stage, name)
                    for stage, name in zip(STAGES, ("finalpos", "initialpos"), strict=False))  # fmt: skip
    if ended is None or began is None or ended.composition != began.composition or is_same(ended, began):
        return None
    return Outcome(
        State.WRONG_STRUCTURE,
        f"{STAGES[1]}: VASP began from {_shape(began)}, {STAGES[0]} ended with {_shape(ended)}: results of "
        "another run?",
    )


def _structure_in(folder: Path, name: str) -> Structure | None:
    path = _file(folder, "vasprun.xml")
    if path is None:
        return None
    try:
        with zopen(path, mode="rb") as file:
            return _named_structure(file, name)
    except Exception:  # noqa: BLE001 - what is wrong with the file is said where all of it is read
        return None


def _begun_elsewhere(folder: Path, exported: Structure | None) -> Outcome | None:
    """The outcome of a calculation that began from another structure of the exported composition."""
    if exported is None:
        return None
    begun = _structure_in(folder, "initialpos")
    if begun is None or begun.composition != exported.composition:
        return None
    if StructureMatcher(primitive_cell=False, scale=False).fit(begun, exported):
        return None
    return Outcome(
        State.WRONG_STRUCTURE,
        f"{folder.name}: VASP began from {_shape(begun)}, exported was {_shape(exported)}: results of "
        "another structure of this composition?",
    )


def _named_structure(file: Any, name: str) -> Structure | None:
    """What VASP says that its first or last positions are; None where the file ends before."""
    symbols: list[str] = []
    for _, element in iterparse(file):
        if element.tag == "array" and element.get("name") == "atoms":
            symbols = [(row[0].text or "").strip() for row in element.iter("rc")]
        if element.tag == "structure" and element.get("name") == name:
            rows = {
                array.get("name"): [[float(x) for x in (v.text or "").split()] for v in array.iter("v")]
                for array in element.iter("varray")
            }
            return Structure(rows["basis"], symbols, rows["positions"])
    return None


def _shape(structure: Structure) -> str:
    lengths = " × ".join(f"{x:.2f}" for x in structure.lattice.abc)
    return f"a cell of {lengths} Å ({structure.volume:.1f} Å³)"


def read_step(folder: Path, exported: Structure | None = None) -> Step:
    """One VASP calculation; ``trouble`` says why, if it cannot be read."""
    path = _file(folder, "vasprun.xml")
    if path is None:
        return Step(trouble=f"OUTCAR, but no vasprun.xml; {_ending(folder)}")
    try:
        if other := _contradicting(folder, path):
            return Step(trouble=f"{path.name} and {other} hold different results: remove the one that is old")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not converged is said in another way
            run = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False)
            entry = run.get_computed_entry(inc_structure=True)
            assert isinstance(entry, ComputedStructureEntry)
            if not np.isfinite(entry.energy):
                return Step(trouble="no energy in vasprun.xml")
            steps, parameters, incar = run.ionic_steps, dict(run.parameters), dict(run.incar)
            told = differences(
                run.final_structure, parameters, incar, exported=exported, hubbards=run.hubbards,
                run_type=functional(run.run_type, run.potcar_symbols), valences=_valences(path),
                mesh=divisions(run.kpoints),
            )  # fmt: skip
            return Step(
                entry,
                convergence(steps, parameters, len(run.final_structure)),
                run.vasp_version,
                settings=told,
                electrons=parameters.get("NELECT"),
                ionic_steps=parameters.get("NSW"),
            )
    except Exception as error:  # noqa: BLE001 - of a file cut off anywhere, the parser may raise anything
        why = short(str(error).split("\n", 1)[0]) or type(error).__name__
        return Step(trouble=f"{path.name} cannot be parsed ({why}); {_ending(folder)}")


def _valences(path: Path) -> dict[str, float] | None:
    """Electrons of an atom by element, as its POTCAR has them; None where the file does not say."""
    with zopen(path, mode="rb") as file:
        for _, element in iterparse(file):
            if element.tag == "array" and element.get("name") == "atomtypes":
                rows = [[(c.text or "").strip() for c in row] for row in element.iter("rc")]
                found = {row[1]: float(row[3]) for row in rows}
                # with fewer than two electrons, but for hydrogen, the row holds something else
                return found if all(v > 1 or e == "H" for e, v in found.items()) else None
    return None


def _started(folder: Path) -> bool:
    return any(_file(folder, name) is not None for name in ("vasprun.xml", "OUTCAR"))


def _contradicting(folder: Path, path: Path) -> str | None:
    """The name of another vasprun.xml of the folder, packed in another way, with other content."""
    others = [p for e in _ENDINGS if (p := folder / f"vasprun.xml{e}").is_file() and p != path]
    if not others:
        return None
    contents = []
    for one in (path, *others):
        with zopen(one, mode="rb") as file:
            contents.append(file.read())
    return next((p.name for p, text in zip(others, contents[1:], strict=True) if text != contents[0]), None)


def _file(folder: Path, name: str) -> Path | None:
    return next((p for ending in _ENDINGS if (p := folder / f"{name}{ending}").is_file()), None)


def _ending(folder: Path) -> str:
    path = _file(folder, "OUTCAR")
    if path is None:
        return "there is no OUTCAR"
    try:
        with zopen(path, mode="rt", encoding="utf-8", errors="replace") as file:
            finished = any(_ENDS_WITH in str(line) for line in file)
    except (OSError, EOFError) as error:
        return f"OUTCAR cannot be read ({error})"
    return "OUTCAR is complete" if finished else "VASP stopped before the end of OUTCAR"
