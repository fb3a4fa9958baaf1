"""What VASP would leave: minimal vasprun.xml files, with energies of the test's own choosing."""

import gzip

from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

HEADER = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<generator><i name="program" type="string">vasp </i><i name="version" type="string">5.4.4</i>
<i name="date" type="string">2026 01 01 </i><i name="time" type="string">00:00:00 </i></generator>
<incar>{incar}</incar>
<kpoints><generation param="Gamma"><v type="int" name="divisions"> {mesh} </v></generation></kpoints>
<parameters><i type="int" name="NELM">{nelm}</i><i type="int" name="NSW">{nsw}</i>
<i type="int" name="IBRION">{ibrion}</i><i type="string" name="GGA">{gga}</i>
<i type="logical" name="LHFCALC"> F </i><i name="AEXX">0.0</i><i name="HFSCREEN">0.0</i>
<i type="logical" name="LDAU"> {ldau} </i></parameters>
<atominfo><array name="atoms"><set>{atoms}</set></array>
<array name="atomtypes"><set>{types}</set></array></atominfo>
<structure name="initialpos">{structure}</structure>
"""
CALCULATION = """<calculation>{scsteps}<structure>{structure}</structure>
<energy><i name="e_fr_energy">{energy}</i><i name="e_wo_entrp">{energy}</i><i name="e_0_energy">{energy}</i>
</energy></calculation>
"""
SCSTEP = """<scstep><energy><i name="e_fr_energy">{energy}</i><i name="e_wo_entrp">{energy}</i>
<i name="e_0_energy">{energy}</i></energy></scstep>"""


def xml_structure(structure):
    cell, sites = ("".join(f"<v>{a} {b} {c}</v>" for a, b, c in rows)
                   for rows in (structure.lattice.matrix, structure.frac_coords))  # fmt: skip
    basis = f'<crystal><varray name="basis">{cell}</varray></crystal>'
    return f'{basis}<varray name="positions">{sites}</varray>'


def vasprun(
    stage_folder, structure, energy, *, electronic=True, ionic=True, gga="--", symbols=None, mesh=None
):
    """A vasprun.xml of ``energy`` (eV, the whole cell) for the inputs in the folder."""
    incar = Incar.from_file(stage_folder / "INCAR")
    nsw, with_u = int(incar.get("NSW", 0)), bool(incar.get("LDAU", False))
    symbols = symbols or (stage_folder / "POTCAR.spec").read_text(encoding="utf-8").split()
    told = '<i type="logical" name="LDAU"> T </i>' if with_u else ""
    for name in ("LDAUU", "LDAUJ") if with_u else ():
        told += f'<v name="{name}"> {" ".join(str(float(v)) for v in incar[name])} </v>'
    species = [str(s.specie) for s in structure]
    atoms = "".join(f"<rc><c>{s} </c><c>1</c></rc>" for s in species)
    types = "".join(
        f"<rc><c>1</c><c>{s.split('_')[0]}</c><c>1.0</c><c>1.0</c><c> PAW_PBE {s} 01Jan2000 </c></rc>"
        for s in symbols
    )
    where = xml_structure(structure)
    step = SCSTEP.format(energy=energy)
    nelm, steps = 100, (1 if nsw == 0 else 3 if ionic else nsw)
    mesh = " ".join(str(n) for n in mesh or Kpoints.from_file(stage_folder / "KPOINTS").kpts[0])
    head = HEADER.format(incar=told, mesh=mesh, nelm=nelm, nsw=nsw,
                         ibrion=2 if nsw else -1, gga=gga, atoms=atoms,
                         types=types, structure=where, ldau="T" if with_u else "F")  # fmt: skip
    for number in range(1, steps + 1):
        last = number == steps
        head += CALCULATION.format(
            scsteps=step * (nelm if last and not electronic else 5), structure=where, energy=energy
        )
    return head + f'<structure name="finalpos">{where}</structure>\n</modeling>\n'


def finish(folder, energy_per_atom, *, until="static", compress=False, **how):
    """Put outputs into the folder of one crystal as a cluster would, up to a stage that may go wrong."""
    structure = Poscar.from_file(folder / "relax_1" / "POSCAR").structure
    energy = energy_per_atom * len(structure)
    for stage in ("relax_1", "relax_2", "static"):
        text = vasprun(folder / stage, structure, energy, **(how if stage == until else {}))
        path = folder / stage / ("vasprun.xml.gz" if compress else "vasprun.xml")
        path.write_bytes(gzip.compress(text.encode()) if compress else text.encode())
        if stage == until:
            break
    return path
