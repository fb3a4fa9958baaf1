"""In what a calculation differs from the Materials Project's input sets, and whether its energy still counts.

What gives the energy another meaning is refused; the rest is noted beside the result.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.vasp.sets import MPRelaxSet, MPStaticSet

_PBE = ("GGA", "GGA+U", "PBE", "PBE+U")
_TOLERANCE = 1e-3
_POTCARS = "PAW_PBE"
"""What the titles of the input set's POTCARs begin with; PAW alone is LDA, PAW_GGA is PW91."""
_NO_RELAXATION = {
    0: "molecular dynamics", 5: "finite differences, of displaced atoms",
    6: "finite differences, of displaced atoms", 40: "a reaction path", 44: "a saddle point",
}  # fmt: skip
"""IBRION of runs that end with another structure than a relaxed one."""
_LEAST_K_POINTS = 0.5
"""Of the input set's number: with fewer, energies of metals are off by more than what is judged."""


@dataclass(frozen=True)
class Differences:
    """``refused``: another energy altogether; ``noted``: the same energy, somewhat otherwise."""

    refused: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()


def differences(
    structure: Structure,
    parameters: Mapping[str, Any],
    incar: Mapping[str, Any],
    *,
    run_type: Any = None,
    hubbards: Mapping[str, float] | None = None,
    valences: Mapping[str, float] | None = None,
    mesh: Sequence[int] | None = None,
    exported: Structure | None = None,
) -> Differences:
    """Compare a calculation with the input set that ``crysjepa dft export`` writes for its structure.

    Parameters
    ----------
    parameters, incar
        What VASP used, and what its INCAR said, as pymatgen's Vasprun has them.
    run_type, hubbards
        As in the parameters of pymatgen's entries.
    valences
        Electrons of an atom in its POTCAR, by element; without them NELECT is not counted.
    mesh, exported
        Divisions of the mesh of k-points, compared with the coarser of the input set's for the structure and
        for the one that was exported: atomate2 makes it anew from each relaxed cell, the folders do not.
    """
    used = {**incar, **{k: v for k, v in parameters.items() if v is not None}}
    wanted = _input_set(structure, relaxing=used.get("NSW", 0) > 1)
    refused = _functional(structure, used, wanted, run_type, hubbards)
    refused += _electrons(structure, used, incar, valences)
    if (ions := used.get("IBRION")) in _NO_RELAXATION and (ions in (5, 6) or (used.get("NSW") or 0) > 1):
        refused.append(f"IBRION {ions}: {_NO_RELAXATION[ions]}")
    if abs(used.get("PSTRESS") or 0) > _TOLERANCE:
        refused.append(f"PSTRESS {used['PSTRESS']:g} kB: a crystal under pressure")
    refused += [f"{name}: no spin-orbit coupling in the input set"
                for name in ("LSORBIT", "LNONCOLLINEAR") if used.get(name) is True][:1]  # fmt: skip
    if used.get("LSOL") is True:
        refused.append("LSOL: a crystal in a solvent")
    if abs(used.get("EFIELD") or 0) > _TOLERANCE:
        refused.append(f"EFIELD {used['EFIELD']:g}: a crystal in an electric field")
    if (used.get("ICHARG") or 0) >= 10:
        refused.append(f"ICHARG {used['ICHARG']}: the charge was held fixed")
    others = [f"{n} {used[n]} (input set: {wanted[n]})" for n in ("ISIF", "ISMEAR", "SIGMA", "LASPH", "PREC")
              if n in used and n in wanted and not _same(used[n], wanted[n])]  # fmt: skip
    if (fixed := used.get("NUPDOWN")) is not None and fixed >= 0:
        others.append(f"NUPDOWN {fixed:g}: the moment was held fixed")
    parts = [
        Differences(tuple(refused)),
        _cutoff(used, wanted),
        _spin(structure, used, wanted),
        Differences(noted=(*others, *_held(structure, used))),
    ]
    if mesh is not None and (usual := _mesh(wanted, exported, used)) is not None:
        parts.append(_k_points(mesh, usual))
    loose, precise = used.get("EDIFF"), wanted.get("EDIFF")
    if loose is not None and precise is not None and loose > 1.01 * precise:
        parts.append(Differences(noted=(f"EDIFF {loose:g} (input set: {precise:g})",)))
    return Differences(
        tuple(why for part in parts for why in part.refused),
        tuple(why for part in parts for why in part.noted),
    )


def _functional(
    structure: Structure,
    used: Mapping[str, Any],
    wanted: Mapping[str, Any],
    run_type: Any,
    hubbards: Mapping[str, float] | None,
) -> list[str]:
    if run_type is not None and str(run_type) not in _PBE:
        return [f"the functional is {run_type}, the input set's is PBE"]
    if str(used.get("METAGGA") or "--").lower() not in ("--", "none"):
        return [f"the functional is {used['METAGGA']}, the input set's is PBE"]
    for name in ("IVDW", "LVDW"):
        if used.get(name):
            return [f"{name} {used[name]}: no dispersion correction in the input set"]
    return [] if hubbards is None else _other_u(wanted, structure, used, hubbards)


def functional(run_type: Any, titles: Iterable[Any]) -> Any:
    """``run_type``, or what POTCARs with these titles make of it.

    Where the INCAR names no functional, VASP takes the POTCARs' own, and pymatgen calls it GGA whatever it
    is.
    """
    for title in map(str, titles):
        family = title.partition(" ")[0]
        if re.fullmatch(r"(PAW|US|NC)(_\w+)?", family) and family != _POTCARS:
            return f"{'LDA' if family == 'PAW' else family} (POTCAR {title})"
    return run_type


def _held(structure: Structure, used: Mapping[str, Any]) -> list[str]:
    """Of a relaxation with selective dynamics: how many atoms could not go everywhere."""
    free = structure.site_properties.get("selective_dynamics") or ()
    held = sum(not np.all(one) for one in free if one is not None)
    return [f"{held} of {len(structure)} atoms were held fixed"] if held and used.get("NSW", 0) > 1 else []


def _cutoff(used: Mapping[str, Any], wanted: Mapping[str, Any]) -> Differences:
    cutoff, least = used.get("ENMAX", used.get("ENCUT")), wanted.get("ENCUT")
    if cutoff is not None and least is not None:
        if cutoff < least - _TOLERANCE:
            return Differences((f"ENCUT {cutoff:g} eV, less than the input set's {least:g}",))
        if cutoff > least + _TOLERANCE:
            return Differences(noted=(f"ENCUT {cutoff:g} (input set: {least:g})",))
    return Differences()


def _spin(structure: Structure, used: Mapping[str, Any], wanted: Mapping[str, Any]) -> Differences:
    if used.get("ISPIN") != 1 or wanted.get("ISPIN") != 2:
        return Differences()
    elements = structure.composition.elements
    magnetic = [e for e in elements if e.is_transition_metal or e.is_lanthanoid or e.is_actinoid]
    if not magnetic:
        return Differences(noted=("ISPIN 1 (input set: 2)",))
    return Differences((f"ISPIN 1, no spin polarisation, with {', '.join(sorted(map(str, magnetic)))}",))


def _k_points(mesh: Sequence[int], usual: Sequence[int]) -> Differences:
    share, points = math.prod(mesh) / math.prod(usual), f"k-points {_times(mesh)}"
    if share < _LEAST_K_POINTS:
        return Differences((f"{points}, less than half of the input set's {_times(usual)}",))
    return Differences(noted=(f"{points} (input set: {_times(usual)})",) if share < 1 else ())


def _input_set(structure: Structure, relaxing: bool) -> Mapping[str, Any]:
    kind = MPRelaxSet if relaxing else MPStaticSet
    bare = structure.copy(site_properties={})  # moments of VASP's result are none of the settings
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = kind(bare, force_gamma=True, auto_metal_kpoints=True, inherit_incar=False)
            mesh = made.kpoints.kpts[0] if made.kpoints is not None else None
            return dict(made.incar) | {"@sites": made.poscar.site_symbols, "@mesh": mesh}
    except (ValueError, KeyError):  # an element that the set does not know
        return {}


def _mesh(
    wanted: Mapping[str, Any], exported: Structure | None, used: Mapping[str, Any]
) -> Sequence[int] | None:
    meshes = [wanted.get("@mesh")]
    if exported is not None:
        meshes.append(_input_set(exported, relaxing=used.get("NSW", 0) > 1).get("@mesh"))
    found = [tuple(mesh) for mesh in meshes if mesh is not None and len(mesh) == 3]
    return min(found, key=math.prod, default=None)


def _times(mesh: Sequence[int]) -> str:
    return "×".join(str(int(n)) for n in mesh)


def divisions(kpoints: Any) -> tuple[int, ...] | None:
    """Of a mesh that pymatgen's Kpoints, or emmet's dictionary of them, holds; None for a list of points."""
    held = kpoints if isinstance(kpoints, Mapping) else getattr(kpoints, "as_dict", dict)()
    points: Sequence[Any] = held.get("kpoints") or ()
    style = str(held.get("generation_style", "")).lower()
    if len(points) != 1 or len(points[0]) != 3 or not style.startswith(("g", "m")):
        return None
    return tuple(int(n) for n in points[0]) if all(n >= 1 for n in points[0]) else None


def _other_u(
    wanted: Mapping[str, Any], structure: Structure, used: Mapping[str, Any], found: Mapping[str, float]
) -> list[str]:
    if not wanted:
        return []
    with_u = bool(wanted.get("LDAU"))
    should = dict(zip(wanted["@sites"], wanted.get("LDAUU", ()), strict=False)) if with_u else {}
    has = {str(k): float(v) for k, v in found.items()}
    lines = []
    for symbol in sorted(str(e) for e in structure.composition.elements):
        want, have = float(should.get(symbol, 0)), has.get(symbol, 0.0)
        if abs(want - have) <= _TOLERANCE:
            continue
        if not have:
            lines.append(f"the U of {symbol} is missing ({want:g} eV in the input set)")
        else:
            lines.append(f"U of {symbol} is {have:g} eV, the input set's is {want:g}")
    return lines or _other_shell(wanted, structure, used, [s for s, u in should.items() if u])


def _other_shell(
    wanted: Mapping[str, Any], structure: Structure, used: Mapping[str, Any], with_u: Sequence[str]
) -> list[str]:
    """Where a U of the right size acts on other orbitals than in the input set, or on none, or otherwise."""
    if not with_u:
        return []
    kind = used.get("LDAUTYPE")
    if kind is not None and kind != wanted.get("LDAUTYPE", 2):
        return [f"LDAUTYPE {kind} (input set: {wanted.get('LDAUTYPE', 2)})"]
    kinds = [symbol for symbol, _ in groupby(site.specie.symbol for site in structure)]
    shells = used.get("LDAUL") or ()
    if len(shells) != len(kinds) or len(set(kinds)) < len(kinds):
        return []
    should = dict(zip(wanted["@sites"], wanted.get("LDAUL", ()), strict=False))
    return [
        f"LDAUL of {symbol} is {shell:g} (input set: {should[symbol]:g}), so that its U "
        + ("is off" if shell < 0 else "acts on another shell")
        for symbol, shell in zip(kinds, shells, strict=True)
        if symbol in with_u and symbol in should and shell != should[symbol]
    ]


def _electrons(
    structure: Structure,
    used: Mapping[str, Any],
    incar: Mapping[str, Any],
    valences: Mapping[str, float] | None,
) -> list[str]:
    number = used.get("NELECT")
    if number is None:
        return []
    amounts = structure.composition.get_el_amt_dict()
    if valences and set(amounts) <= set(valences):
        neutral = sum(n * valences[e] for e, n in amounts.items())
        if abs(number - neutral) <= 1e-2:
            return []
        return [f"NELECT {number:g}, a neutral cell has {neutral:g}: a charged cell"]
    stated = incar.get("NELECT")
    return [] if stated is None else [f"NELECT {stated:g} in the INCAR: is the cell neutral?"]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.strip().lower()[:4] == other.strip().lower()[:4]
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(float(one) - float(other)) <= _TOLERANCE
    return bool(one == other)
