"""First steps with the command line: where it writes, what it keeps, and what it says before any work."""

import json
import os
import re
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from far_sighted import FAR_SIGHTED
from typer.testing import CliRunner

from crysjepa import datasets
from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.runtime import progress as progress_lines
from crysjepa.runtime.progress import Lines
from crysjepa.workflows.output import Output, OutputError

LENNARD_JONES = "ase.calculators.lj:LennardJones"


def call(*args, status=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    said = " ".join(result.output.split())
    assert result.exit_code == status, said + str(result.exception)
    return said


@pytest.fixture
def source(salts, tmp_path):
    """Seven salts in Parquet."""
    CandidateTable.from_crystals(salts).write(tmp_path / "in" / "salts.parquet")
    return tmp_path / "in" / "salts.parquet"


# -- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new.extxyz", "new.csv.gz", "new.cif", "new.jsonl", "new.zip", "new"])
def test_generate_writes_the_format_of_the_name(source, tmp_path, salts, name):
    out = tmp_path / name
    said = call("generate", "--generator", source, "--num", 7, "--out", out)
    assert "7 ok" in said and out.is_dir() == (name == "new")
    assert ("cannot hold" in said) == (name in ("new.cif", "new.zip", "new")), "columns go nowhere silently"
    read = datasets.load(out)
    assert sorted(read.crystals().reduced_formulas()) == sorted(salts.reduced_formulas())


def test_rows_that_a_format_cannot_hold_are_told(source, tmp_path):
    said = call("generate", "--generator", source, "--chemical-system", "K-Cl", "--num", 2,
                "--out", tmp_path / "a.extxyz")  # fmt: skip
    assert "note: a.extxyz cannot hold 1 rows (" in said and ".parquet holds everything" in said


def test_relax_and_screen_write_other_formats(source, tmp_path):
    said = call(
        "relax", source, "--force-field", LENNARD_JONES, "--max-steps", 1, "--out", tmp_path / "a.csv"
    )
    assert "where its energies come from" in said
    assert datasets.load(tmp_path / "a.csv").column("relax_steps").count(1) > 3
    call("screen", source, "--by", "random", "--out", tmp_path / "ranked.extxyz")
    call("screen", source, "--by", "random", "--out", tmp_path / "ranked.parquet")
    ranked, rows = datasets.load(tmp_path / "ranked.extxyz"), pq.read_table(tmp_path / "ranked.parquet")
    assert ranked.ids == rows["id"].to_pylist() and ranked.column("rank") == rows["rank"].to_pylist()
    assert ranked.column("score") == pytest.approx(rows["score"].to_pylist())


@pytest.mark.parametrize(
    "name, says",
    [
        ("new.doc", "of no known kind"),
        ("new.traj", "only read"),
        ("file/new.parquet", "is a file, where"),
        ("new.vasp", "a POSCAR holds one crystal"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused_before_any_work(source, tmp_path, name, says):
    (tmp_path / "file").write_text("")
    assert says in call("generate", "--generator", source, "--num", 7, "--out", tmp_path / name, status=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "in"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_any_work(source, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    out = tmp_path / "locked" / "new.parquet"
    assert "cannot be written to" in call("generate", "--generator", source, "-n", 1, "-o", out, status=2)


def test_what_is_no_table_of_structures_is_parquet(source, tmp_path):
    assert "no structures" in call("embed", source, "--out", tmp_path / "e.csv", status=2)
    assert "no table" in call("hull", source, "--out", tmp_path / "h.csv", status=2)


# -- what is there ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new.parquet", "new.extxyz", "new"])
def test_the_same_again_is_kept_and_anything_else_is_refused(source, tmp_path, name):
    out = tmp_path / name
    command = ["generate", "--generator", source, "--pick", "random", "--num", 3, "--out", out]
    call(*command)
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    before = [(p, p.stat().st_mtime_ns) for p in files]
    said = call(*command)
    assert "made with the same settings" in said and "--overwrite" in said and "3 ok" in said
    assert before == [(p, p.stat().st_mtime_ns) for p in files]
    said = call(*command, "--seed", 7, status=2)
    assert "seed was 0, is 7" in said and "--overwrite" in said
    table = CandidateTable.read(source)
    CandidateTable(table.frame.iloc[:5].reset_index(drop=True)).write(source)
    assert "made from another generator" in call(*command, status=2)
    assert before == [(p, p.stat().st_mtime_ns) for p in files]
    call(*command, "--seed", 7, "--overwrite")
    assert "seed was 7, is 0" in call(*command, status=2)
    assert len(datasets.load(out)) == 3, "no file of the first run is among those of the second"


def test_files_of_unknown_origin_are_refused(source, tmp_path):
    out = tmp_path / "new.parquet"
    call("screen", source, "--by", "random", "--out", out)
    assert "made by crysjepa screen" in call("generate", "--generator", source, "-n", 2, "-o", out, status=2)
    pq.write_table(pq.read_table(out).slice(0, 3), out)  # keeps the metadata
    assert "nothing says how" in call("screen", source, "--by", "random", "--out", out, status=2)
    assert "what is to be read" in call(
        "screen", source, "--by", "random", "-o", source, "--overwrite", status=2
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    draw = ["generate", "--generator", source, "-n", 2, "-o", folder]
    assert "nothing says how" in call(*draw, status=2)
    assert "notes.txt, not of crysjepa" in call(*draw, "--overwrite", status=2)


def test_a_trained_model_is_not_replaced_without_a_word(source, tmp_path):
    settings = tmp_path / "train.toml"
    settings.write_text("batch_size = 4\nwarmup = 1\nrecord_every = 1\ncheckpoint_every = 1\n")
    out = tmp_path / "g.safetensors"
    command = ["train", source, "--out", out, "--config", settings, "--steps"]
    call(*command, 1)
    before = out.read_bytes()
    assert "1 steps" in call(*command, 1)
    assert "training.steps was 1, is 2" in call(*command, 2, status=2) and out.read_bytes() == before
    kept = json.loads((tmp_path / "g.safetensors.curve.json").read_text())
    assert kept["made"]["verb"] == "train" and len(kept["curve"]) == 1


def test_a_damaged_output_says_nothing_of_itself(tmp_path):
    out = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1]}), out)
    out.write_bytes(out.read_bytes()[:-9])
    with pytest.raises(OutputError, match="nothing says how"):
        Output(out).found("screen", {}, {})


# -- before any work -------------------------------------------------------------------------

X = ["--out", "x.parquet"]
DRAW = ["generate", "-n", "1", *X]
MISTAKES = [
    (["relax", "nowhere.cif", *X], "no data set and no file 'nowhere.cif'"),
    (["relax", "flla", "--out", "x.doc"], "of no known kind"),
    (["relax", "flla", "--force-field", "chgnett", *X], "did you mean chgnet?"),
    (["relax", "flla", "--config", "none.toml", *X], "none.toml"),
    ([*DRAW, "--generator", "substitutoin"], "did you mean substitution?"),
    ([*DRAW, "--elements", "Li,Xx"], "'Xx' is no element"),
    ([*DRAW, "--elements", "Li,O", "--exclude-elements", "O"], "O cannot be"),
    ([*DRAW, "--elements", "Li,O", "--chemical-system", "Li-F"], "needs F"),
    ([*DRAW, "--chemical-system", "Li-F", "--max-sites", "1"], "do not fit"),
    ([*DRAW, "--formula", "LiMnPO4", "--exclude-elements", "Mn"], "Mn cannot be"),
    ([*DRAW, "--formula", "LiMnPO4", "--max-elements", "2"], "more than --max-elements 2"),
    ([*DRAW, "--formula", "LiMnPO4", "--formula-units", "2-4", "--max-sites", "13"], "needs 14 sites"),
    ([*DRAW, "--formula", "ABO3"], "letters for any element (A) and elements (O)"),
    ([*DRAW, "--space-group", "Fm-3n"], "'Fm-3n' is no space group"),
    (["discover", "--formula", "LiMnPO4", "--chemical-system", "Li-Mn-O", *X], "needs P, which"),
    ([*DRAW, "--generator", "flow", "--temperature", "1"],
     "--temperature does nothing with the generator flow"),
    ([*DRAW, "--pick", "random"], "--pick does nothing"),
    (["screen", "flla", "--by", "jepa-hul", *X], "did you mean jepa-hull?"),
    (["screen", "flla", "--by", "fingerprint", "--hull", "known", *X], "--hull does nothing"),
    (["screen", "flla", "--jepa", "none.safetensors", *X], "none.safetensors"),
    (["screen", "flla", "--by", "random", "--device", "gpu", *X], "gpu"),
    (["hull", "known", "--static", "--max-steps", "3", *X], "--max-steps does nothing"),
    (["train", "flla", "--size", "paper", "--init", "x.safetensors", "--out", "x"], "--init does nothing"),
    (["pretrain", "fla", "--out", "x.safetensors"], "did you mean flla?"),
    (["evaluate", "flla", "--preset", "lenient", "--out", "x"], "no preset 'lenient'"),
    (["evaluate", "flla", "--no-relax", "--judges", "none", "--out", "x"], "--judges does nothing"),
    (["discover", "--preset", "nope", "--out", "x"], "quick"),
    (["dft", "export", "flla", "--unfinished", "--to", "x"], "--unfinished does nothing"),
    (["convert", "a.csv", "b.cif", "--structure-column", "ciff"], "did you mean cif?"),
    (["convert", ".", "all.parquet"], "lies in ., which is read"),
    (["evaluate", ".", "--out", "judged"], "lies in ., which is read"),
    (["data", "info", "mp20"], "did you mean mp_20?"),
    (["generate", "--contains", "Li", "--contains", "S", "--out", "a.cif"], "--contains is given twice"),
    (["discover", "--formula", "LiF", "--formula=LiO", "--out", "r"], "--formula is given twice"),
    (["generate", "-n", "1", "--contains", "Li,S", "--elements", "Li,O", "--out", "a"], "--contains needs S"),
]  # fmt: skip
DRIVER = """
import json, sys
from typer.testing import CliRunner
from crysjepa.cli.main import app

told = []
for command in json.load(sys.stdin):
    result = CliRunner().invoke(app, command)
    heavy = [m for m in ("torch", "pymatgen", "pyarrow", "pandas", "ase", "numba") if m in sys.modules]
    told.append([result.exit_code, " ".join(result.output.split()), heavy])
print(json.dumps(told))
"""


def test_mistakes_are_told_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "a.csv").write_text("id,cif\n")
    helps = [["--help"], ["--version"], *([verb, "--help"] for verb in ("relax", "generate", "discover"))]
    commands = [*(c for c, _ in MISTAKES), *helps]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(commands), cwd=tmp_path, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for command, says, (status, said, heavy) in zip(
        commands, [*(s for _, s in MISTAKES), *[""] * len(helps)], json.loads(done.stdout), strict=True
    ):
        assert (status, heavy) == (2 * (command not in helps), []), (command, said, heavy)
        assert says in said, (command, said)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_the_names_that_are_known_early_are_those_of_the_registries():
    from crysjepa.cli import arguments
    from crysjepa.core.chemical_systems import atomic_numbers
    from crysjepa.discovery.config import PRESETS as RUNS
    from crysjepa.evaluation.protocol import PRESETS
    from crysjepa.generators.constraints import Constraints
    from crysjepa.generators.registry import BUILT_IN
    from crysjepa.ranking.registry import RANKERS
    from crysjepa.relaxation.force_fields.registry import force_field_names

    everything = Constraints.parse(elements=",".join(atomic_numbers()))
    assert everything.allowed == set(atomic_numbers().values()) and set(arguments.RUNS) == set(RUNS)
    assert set(arguments.JUDGINGS) == set(PRESETS) and set(arguments.GENERATORS) == set(BUILT_IN)
    assert set(arguments.FORCE_FIELDS) == set(force_field_names())
    assert {*arguments.RANKERS, *arguments.FORCE_FIELDS} == set(RANKERS)


@pytest.mark.slow
def test_nothing_came_of_it_is_an_error(source, tmp_path):
    relax = ["relax", source, "--out", tmp_path / "a.parquet"]
    said = call(*relax, "--force-field", FAR_SIGHTED, "--max-steps", 0)
    assert "7 ok" in said and "of these 7 did not converge (--max-steps 0: no step was taken)" in said
    said = call(*relax, "--force-field", "ase.calculators.emt:EMT", "--overwrite", status=1)
    assert "error: not one of 7 crystals could be relaxed: " in said
    assert CandidateTable.read(tmp_path / "a.parquet").column("status") == ["failed"] * 7, (
        "each with its reason"
    )
    draw = ["generate", "--generator", source, "-n", 2, "-o", tmp_path / "b.parquet"]
    assert "not one crystal was drawn" in call(*draw, "--chemical-system", "Fe-O", status=1)
    assert not (tmp_path / "b.parquet").exists()


# -- progress --------------------------------------------------------------------------------


def test_lines_of_progress_tell_where_the_work_stands():
    said, enough = [], threading.Event()

    def write(line):
        said.append(line)
        if len(said) > 2:
            enough.set()

    with Lines(write, first=0.0, every=0.01) as lines:
        lines.report("relax", 0, 8)
        lines.report("relax", 2, 8)
        assert enough.wait(60)
    assert re.fullmatch(r"relax 2/8, for .+ s", said[-1]), "one look is no rate"
    number = len(said)
    assert not enough.wait(0.05) or len(said) == number, "nothing after the end"


def test_an_estimate_leaves_the_start_out_and_goes_by_the_last_minute(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: now)
    lines = Lines(lambda line: None)
    assert lines._line() == "at work for 0 s"

    def at(seconds, done):
        nonlocal now
        now = seconds
        lines.report("relax", done, 1000)
        return lines._line()

    assert at(0.0, 40) == "relax 40/1000, for 0 s", "there from before"
    assert at(20.0, 40) == "relax 40/1000, for 20 s"
    assert at(20.5, 52) == "relax 52/1000, for 20 s", "the first chunk came after workers had started"
    assert at(20.6, 64) == "relax 64/1000, for 21 s", "a second one at once is no rate"
    assert at(41.0, 257) == "relax 257/1000, 10/s, about 74 s left"
    for seconds in range(42, 141):  # a slower part
        said = at(float(seconds), 257 + seconds - 41)
    assert said == "relax 356/1000, 1/s, about 11 min left"


def test_nothing_is_said_of_what_is_soon_done():
    said = []
    with Lines(said.append) as lines:
        lines.report("relax", 8, 8)
    assert said == []


def test_a_run_has_a_log(source, tmp_path):
    judge = ["evaluate", source, "--reference", source, "--no-relax", "--out", tmp_path / "run"]
    call(*judge)
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert (
        "crysjepa 0." in log and "relaxed=False" in log and "7 crystals" in log.replace("n = 7", "7 crystals")
    )
    call(*judge)
    again = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert again.startswith(log) and len(again) > len(log)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("")
    assert "no crysjepa run" in call(*judge[:-1], other, status=2)
    assert [p.name for p in other.iterdir()] == ["mine"], "no log among the files of others"
    assert "min_hull" not in log
    changed = tmp_path / "changed.toml"
    changed.write_text("symprec = 0.2\n")
    call(*judge, "--overwrite", "--config", changed)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["protocol"]["symprec"] == 0.2


# -- scripts ---------------------------------------------------------------------------------

SCRIPT = """
import pathlib, sys
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa import api
from crysjepa.runtime.processes import in_processes

with pathlib.Path("ran").open("a") as file:
    file.write("once ")
settings = RelaxSettings(max_steps=1, chunk_size=1)
api.relax(sys.argv[1], "relaxed.parquet", force_field="ase.calculators.lj:LennardJones", settings=settings)
assert list(in_processes(max, [(1, 2), (4, 3)], 2)) == [2, 4]
assert __file__ and sys.modules["__main__"].__spec__ is None
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once(source, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", str(source)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").read_text() == "once "
    assert len(CandidateTable.read(tmp_path / "relaxed.parquet")) == 7


def test_what_a_script_defines_is_still_found_by_its_processes(tmp_path):
    (tmp_path / "script.py").write_text(
        "from crysjepa.runtime.processes import in_processes\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    assert list(in_processes(double, [(1,), (2,)], 2)) == [2, 4]\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
