"""Plain VASP input folders with the Materials Project's settings, from pymatgen alone."""

from __future__ import annotations

import warnings
from pathlib import Path

from pymatgen.core import Structure
from pymatgen.io.vasp.inputs import VaspInput
from pymatgen.io.vasp.sets import MPRelaxSet, MPStaticSet

from crysjepa.dft.vasp.manifest import STAGES

RUN_SCRIPT = """\
#!/bin/sh
# Runs VASP for one crystal: relaxation, relaxation again, static calculation.
#
#   VASP_CMD="srun vasp_std" sh run_vasp.sh inputs/00000_NaCl
#
# Each stage needs a POTCAR beside its POTCAR.spec. Where pymatgen knows your POTCARs, this makes them all:
#   pmg potcar --recursive inputs
set -e
# the moments (Bohr magnetons) that VASP found last, by site; nothing where OUTCAR has none
moments() {
    awk '/magnetization \\(x\\)/ {on = 1; line = ""; next}
         on && /^ *[0-9]+ / {line = line " " $NF}
         on && /^ *tot/ {on = 0}
         END {print line}' "$1/OUTCAR" 2> /dev/null || :
}
: "${VASP_CMD:?set it to the command that runs VASP here}"
cd "$1"
previous=
for stage in relax_1 relax_2 static; do
    if [ -n "$previous" ]; then
        cp "$previous/CONTCAR" "$stage/POSCAR"
        found=$(moments "$previous")
        if [ -n "$found" ]; then
            sed "s/^ *MAGMOM *=.*/MAGMOM =$found/" "$stage/INCAR" > "$stage/INCAR.new"
            mv "$stage/INCAR.new" "$stage/INCAR"
        fi
    fi
    if [ ! -f "$stage/POTCAR" ]; then echo "$1/$stage: no POTCAR" >&2; exit 1; fi
    (cd "$stage" && $VASP_CMD > vasp.out 2>&1)
    previous=$stage
done
"""


def vasp_inputs(structure: Structure) -> dict[str, VaspInput]:
    """INCAR, KPOINTS, POSCAR and POTCAR.spec of each of :data:`~crysjepa.dft.vasp.manifest.STAGES`.

    MPRelaxSet and MPStaticSet with the arguments that atomate2's MPGGARelaxMaker and MPGGAStaticMaker give
    them: GGA, or GGA+U where the Materials Project has it. POTCARs are named by symbol; their content is
    neither needed nor written. The mesh of k-points of every stage is that of the structure given here,
    while atomate2 makes it anew from each relaxed cell.

    Raises
    ------
    ValueError
        For an element without a POTCAR in MPRelaxSet.
    """
    known = MPRelaxSet.CONFIG["POTCAR"]
    unknown = sorted(str(e) for e in structure.composition if str(e) not in known)
    if unknown:
        raise ValueError(f"MPRelaxSet names no POTCAR for {', '.join(unknown)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of a likely metal with a small smearing: it is MP's choice
        relax, static = (
            kind(structure, force_gamma=True, auto_metal_kpoints=True, inherit_incar=False).get_input_set(
                potcar_spec=True
            )
            for kind in (MPRelaxSet, MPStaticSet)
        )
    return dict(zip(STAGES, (relax, relax, static), strict=True))


def write_inputs(structure: Structure, folder: Path) -> None:
    """Write the folder of one crystal; only its first stage has a POSCAR. Raises as :func:`vasp_inputs`."""
    for stage, files in vasp_inputs(structure).items():
        where = folder / stage
        where.mkdir(parents=True, exist_ok=True)
        for name in ("INCAR", "KPOINTS", "POTCAR.spec", *(["POSCAR"] if stage == STAGES[0] else [])):
            (where / name).write_text(f"{files[name]}".rstrip("\n") + "\n", encoding="utf-8")
