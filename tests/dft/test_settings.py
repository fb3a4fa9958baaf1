"""What VASP left is finished only where the last changes are small and the settings are the input set's."""

import bz2
import lzma

import numpy as np
import pytest
from pymatgen.core import Composition, Structure
from vasp_outputs import vasprun

from crysjepa.dft.outcome import State, short
from crysjepa.dft.vasp.convergence import convergence
from crysjepa.dft.vasp.documents import read_document
from crysjepa.dft.vasp.inputs import write_inputs
from crysjepa.dft.vasp.outputs import read_folder
from crysjepa.dft.vasp.settings import differences


def rock_salt(cation, anion, a):
    return Structure(
        a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]), [cation, anion], [[0] * 3, [0.5] * 3]
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A vasprun.xml of a static calculation of NaCl, of FeO with its U, and of a relaxation of NaCl."""
    found = {}
    for structure in (rock_salt("Na", "Cl", 5.64), rock_salt("Fe", "O", 4.3)):
        folder = tmp_path_factory.mktemp("inputs")
        write_inputs(structure, folder)
        name = structure.composition.reduced_formula
        for stage in ("relax_2", "static"):
            found[name, stage] = vasprun(folder / stage, structure, -6.0)
    return found


def stated(text, more):
    return text.replace("</parameters>", f"{more}</parameters>")


def read(tmp_path, formula, **stages):
    for stage, text in stages.items():
        (tmp_path / stage).mkdir(exist_ok=True)
        (tmp_path / stage / "vasprun.xml").write_text(text)
    return read_folder(tmp_path, Composition(formula))


def falling(text, energies):
    """The text with these energies (eV) in the places of its own, from the first ionic step on."""
    parts = text.split("<calculation>")
    for number, energy in enumerate(energies, start=1):
        parts[number] = parts[number].replace("-6.0", str(energy))
    return "<calculation>".join(parts)


def test_a_relaxation_that_was_stopped_is_not_converged(texts, tmp_path):
    relaxed, static = texts["NaCl", "relax_2"], texts["NaCl", "static"]
    assert read(tmp_path, "NaCl", relax_2=relaxed, static=static).state == State.FINISHED
    found = read(tmp_path, "NaCl", relax_2=falling(relaxed, [-3.0, -4.5, -6.0]), static=static)
    assert found.state == State.IONIC and "a change of 1.5 eV (EDIFFG" in found.reason
    small = falling(relaxed, [-3.0, -6.0001, -6.0])
    assert read(tmp_path, "NaCl", relax_2=small, static=static).state == State.FINISHED


def test_an_electronic_loop_that_was_stopped_is_not_converged(texts, tmp_path):
    relaxed, static = texts["NaCl", "relax_2"], texts["NaCl", "static"]
    cut = static.replace("-6.0", "-5.0", 3 * 4)  # four of its five electronic steps
    found = read(tmp_path, "NaCl", relax_2=relaxed, static=cut)
    assert found.state == State.ELECTRONIC and "a change of 1 eV (EDIFF" in found.reason


def test_forces_decide_where_ediffg_is_negative():
    steps = [
        {"e_fr_energy": -1.0, "forces": [[9.0, 0, 0]]},
        {"e_fr_energy": -2.0, "forces": [[0.03, 0.04, 0]]},
    ]
    relaxing = {"NSW": 99, "NELM": 100, "EDIFF": 1e-4}
    assert convergence(steps, {**relaxing, "EDIFFG": -0.06}, 1).ionic is None
    assert "0.05 eV/Å" in convergence(steps, {**relaxing, "EDIFFG": -0.02}, 1).ionic
    assert "1 eV" in convergence(steps, relaxing, 1).ionic, "ten times EDIFF"
    assert "one step" in convergence(steps[:1], relaxing, 1).ionic
    assert convergence([], relaxing, 1).electronic == "no ionic step"


def document(steps, state="failed", **parameters):
    structure = rock_salt("Na", "Cl", 5.64)
    entry = {"energy": -6.0, "parameters": {"run_type": "GGA", "hubbards": {}}}
    calculation = {
        "has_vasp_completed": state,
        "input": {"parameters": {"NELM": 100, "NSW": 0, **parameters}, "incar": {}},
        "output": {"ionic_steps": steps},
    }
    return {"structure": structure.as_dict(), "entry": entry, "calcs_reversed": [calculation]}


def test_documents_that_only_count_their_steps():
    full = read_document(document([{"num_electronic_steps": 100, "electronic_steps": None}]))
    assert full.convergence.electronic == "the last electronic loop ran out of steps"
    fewer = read_document(document([{"num_electronic_steps": 9, "electronic_steps": None}]))
    assert "emmet" in fewer.convergence.electronic
    steps = [{"num_electronic_steps": 9, "e_fr_energy": e} for e in (-2.0, -4.0, -6.0)]
    stopped = read_document(document(steps, "successful", NSW=99))
    assert stopped.convergence.electronic is None and "2 eV" in stopped.convergence.ionic


@pytest.mark.parametrize(
    ("formula", "more", "reason"),
    [
        ("NaCl", '<i name="PSTRESS">100.0</i>', "PSTRESS 100 kB"),
        ("NaCl", '<i type="logical" name="LSORBIT"> T </i>', "spin-orbit"),
        ("NaCl", '<i name="ENMAX">400.0</i>', "ENCUT 400 eV, less than"),
        ("FeO", '<i type="int" name="ISPIN">1</i>', "ISPIN 1, no spin polarisation, with Fe"),
        ("NaCl", '<i type="string" name="METAGGA">R2SCAN</i>', "functional is"),
        ("NaCl", '<i type="int" name="IVDW">12</i>', "IVDW 12: no dispersion"),
        ("FeO", '<i type="int" name="LDAUTYPE">1</i>', "LDAUTYPE 1 (input set: 2)"),
        (
            "FeO",
            '<v type="int" name="LDAUL"> -1 -1 </v>',
            "LDAUL of Fe is -1 (input set: 2), so that its U is",
        ),
        ("FeO", '<v type="int" name="LDAUL"> 1 -1 </v>', "acts on another shell"),
    ],
)
def test_another_energy_is_refused_in_one_line(texts, tmp_path, formula, more, reason):
    static = stated(texts[formula, "static"], more)
    found = read(tmp_path, formula, relax_2=texts[formula, "relax_2"], static=static)
    assert found.state == State.INCOMPATIBLE and reason in found.reason and found.entry is None
    assert "\n" not in found.reason and len(found.reason) < 200


def test_u_on_the_shell_of_the_input_set(texts, tmp_path):
    static = stated(
        texts["FeO", "static"], '<v type="int" name="LDAUL"> 2 0 </v><i type="int" name="LDAUTYPE">2</i>'
    )
    assert read(tmp_path, "FeO", relax_2=texts["FeO", "relax_2"], static=static).state == State.FINISHED


@pytest.mark.parametrize("family", ["PAW", "PAW_GGA", "US"])
def test_potcars_of_another_functional(texts, tmp_path, family):
    relaxed, static = (texts["NaCl", s].replace("PAW_PBE", family) for s in ("relax_2", "static"))
    found = read(tmp_path, "NaCl", relax_2=relaxed, static=static)
    assert found.state == State.INCOMPATIBLE and found.entry is None
    assert f"POTCAR {family} " in found.reason and ("LDA" in found.reason) == (family == "PAW")
    of_flow = document([{"num_electronic_steps": 9, "electronic_steps": None}], "successful")
    of_flow["entry"]["parameters"]["potcar_spec"] = [{"titel": f"{family} Na_pv 19Sep2006"}, None]
    assert read_document(of_flow).settings.refused and not read_document(document([])).settings.refused


def test_runs_that_end_with_no_relaxed_structure(texts, tmp_path):
    relaxed, static = texts["NaCl", "relax_2"], texts["NaCl", "static"]
    for ions, reason in ((0, "molecular dynamics"), (6, "displaced"), (44, "saddle point")):
        other = relaxed.replace('name="IBRION">2', f'name="IBRION">{ions}')
        found = read(tmp_path, "NaCl", relax_2=other, static=static)
        assert found.state == State.INCOMPATIBLE and f"IBRION {ions}: " in found.reason, ions
        assert reason in found.reason
    displaced = static.replace('name="IBRION">-1', 'name="IBRION">6')
    assert "displaced" in read(tmp_path, "NaCl", relax_2=relaxed, static=displaced).reason
    for ions in (1, 3):
        other = relaxed.replace('name="IBRION">2', f'name="IBRION">{ions}')
        assert read(tmp_path, "NaCl", relax_2=other, static=static).state == State.FINISHED, ions


def test_atoms_that_were_held_are_noted(texts, tmp_path):
    held = '<varray name="selective" type="logical"><v> T T T </v><v> T F T </v></varray>'
    relaxed = texts["NaCl", "relax_2"].replace("</structure>", f"{held}</structure>")
    found = read(tmp_path, "NaCl", relax_2=relaxed, static=texts["NaCl", "static"])
    assert found.state == State.FINISHED and "relax_2: 1 of 2 atoms were held fixed" in found.notes
    free = relaxed.replace(" T F T ", " T T T ")
    assert not read(tmp_path, "NaCl", relax_2=free, static=texts["NaCl", "static"]).notes


def test_one_electronic_step_is_no_convergence(texts, tmp_path):
    once = texts["NaCl", "static"].replace('name="NELM">100', 'name="NELM">1')
    found = read(tmp_path, "NaCl", relax_2=texts["NaCl", "relax_2"], static=once)
    assert found.state == State.ELECTRONIC and "ran out of steps" in found.reason


def test_a_missing_u_is_named(texts, tmp_path):
    static = texts["FeO", "static"]
    start, end = static.index("<incar>"), static.index("</incar>")
    without = (static[:start] + "<incar>" + static[end:]).replace('name="LDAU"> T', 'name="LDAU"> F')
    found = read(tmp_path, "FeO", relax_2=texts["FeO", "relax_2"], static=without)
    assert found.reason == "static: the U of Fe is missing (5.3 eV in the input set)"
    found = read(tmp_path, "FeO", static=static.replace("5.3", "4.0"))
    assert "U of Fe is 4 eV, the input set's is 5.3" in found.reason


def test_a_charged_cell_is_refused(texts, tmp_path):
    relaxed, static = texts["NaCl", "relax_2"], texts["NaCl", "static"]
    valences = static.replace("<c>Na</c><c>1.0</c><c>1.0</c>", "<c>Na</c><c>23.0</c><c>7.0</c>")
    valences = valences.replace("<c>Cl</c><c>1.0</c><c>1.0</c>", "<c>Cl</c><c>35.4</c><c>7.0</c>")
    neutral, charged = (stated(valences, f'<i name="NELECT">{n}</i>') for n in (14.0, 13.0))
    assert read(tmp_path, "NaCl", relax_2=relaxed, static=neutral).state == State.FINISHED
    found = read(tmp_path, "NaCl", relax_2=relaxed, static=charged)
    assert found.state == State.INCOMPATIBLE and "NELECT 13, a neutral cell has 14" in found.reason
    eight, nine = (f'<i name="NELECT">{n}</i>' for n in (8.0, 9.0))
    found = read(tmp_path, "NaCl", relax_2=stated(relaxed, eight), static=stated(static, nine))
    assert "the relaxation had 8" in found.reason
    assert differences(rock_salt("Na", "Cl", 5.64), {}, {"NELECT": 13.0}).refused


def test_what_changes_no_meaning_is_noted(texts, tmp_path):
    more = '<i type="int" name="ISPIN">1</i><i name="ENMAX">600.0</i>'
    found = read(
        tmp_path, "NaCl", relax_2=texts["NaCl", "relax_2"], static=stated(texts["NaCl", "static"], more)
    )
    assert found.state == State.FINISHED
    assert found.notes == ("static: ENCUT 600 (input set: 520)", "static: ISPIN 1 (input set: 2)")


@pytest.mark.parametrize(("ending", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_in_other_ways(texts, tmp_path, ending, pack):
    (tmp_path / f"vasprun.xml.{ending}").write_bytes(pack(texts["NaCl", "static"].encode()))
    assert read_folder(tmp_path, Composition("NaCl")).state == State.FINISHED


def test_reasons_are_short():
    assert short("a\n  b") == "a b" and len(short("x" * 1275)) == 200 and short("x" * 1275).endswith("…")


@pytest.mark.parametrize(
    ("mesh", "state", "told"),
    [((1, 1, 1), State.INCOMPATIBLE, "k-points 1×1×1, less than half of the input set's 8×8×8"),
     ((7, 8, 7), State.FINISHED, "static: k-points 7×8×7 (input set: 8×8×8)"),
     ((9, 9, 9), State.FINISHED, "")],
)  # fmt: skip
def test_fewer_k_points_are_told(texts, tmp_path, mesh, state, told):
    static = texts["NaCl", "static"]
    assert "> 8 8 8 <" in static
    static = static.replace("> 8 8 8 <", f"> {' '.join(map(str, mesh))} <")
    found = read(tmp_path, "NaCl", relax_2=texts["NaCl", "relax_2"], static=static)
    assert found.state == state and told in " ".join([found.reason or "", *found.notes])
    assert bool(told) == bool(found.reason or found.notes)


def test_the_mesh_of_a_document_is_compared():
    given = document([{"num_electronic_steps": 9, "electronic_steps": None}], "successful")
    given["calcs_reversed"][0]["input"]["kpoints"] = {"generation_style": "Gamma", "kpoints": [[2, 2, 2]]}
    assert "k-points 2×2×2" in read_document(given).settings.refused[0]


@pytest.mark.parametrize(
    "more, state, word",
    [
        ('<i type="logical" name="LSOL"> T </i>', State.INCOMPATIBLE, "LSOL"),
        ('<i name="EFIELD"> 0.1 </i>', State.INCOMPATIBLE, "EFIELD 0.1"),
        ('<i name="NUPDOWN"> 2.0 </i>', State.FINISHED, "NUPDOWN 2"),
        ('<i name="NUPDOWN"> -1.0 </i>', State.FINISHED, ""),
    ],
)
def test_solvents_fields_and_fixed_moments(texts, tmp_path, more, state, word):
    relaxed, static = (stated(texts["NaCl", stage], more) for stage in ("relax_2", "static"))
    found = read(tmp_path, "NaCl", relax_2=relaxed, static=static)
    assert found.state == state and word in (found.reason or "; ".join(found.notes))
    assert bool(word) or not found.notes
