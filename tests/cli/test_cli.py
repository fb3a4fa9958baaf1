"""The real command line on small files: the contracts that scripts rely on."""

import json
import re
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from far_sighted import FAR_SIGHTED
from typer.testing import CliRunner

from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals

VERBS = [
    "data",
    "convert",
    "pretrain",
    "train",
    "generate",
    "predict",
    "relax",
    "hull",
    "embed",
    "screen",
    "diagnose",
    "finetune",
    "evaluate",
    "compete",
    "check",
    "compare",
    "tradeoff",
    "export",
    "discover",
    "reproduce",
    "report",
    "doctor",
]


def call(*args, status=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output


@pytest.mark.parametrize(
    "verb", [*VERBS, "data list", "data info", "data fetch", "dft export", "dft collect"]
)
def test_every_verb_has_help_with_an_example(verb):
    text = call(*verb.split(), "--help")
    assert "Usage" in text
    if verb != "data":
        assert f"Example: crysjepa {verb}" in " ".join(text.split())


def test_version_and_data():
    from crysjepa import __version__

    assert __version__ in call("--version")
    assert "mptrj" in call("data", "list")
    assert "10.1002/qua.24917" in call("data", "info", "flla")
    known = " ".join(call("data", "info", "known").split())
    assert "27,708 rows" in known and "40,872 with an energy" in known and "lemat_systems.parquet" in known
    assert "mp_20" in call("data", "info", "nothing", status=2)


@pytest.mark.parametrize("width", [30, 80, 200])
def test_names_of_data_sets_are_never_cut(width, monkeypatch):
    """They must be typed; the other words break between lines."""
    from crysjepa import datasets
    from crysjepa.cli import console

    monkeypatch.setattr(console.output, "width", width)
    lines = call("data", "list").splitlines()
    for dataset in datasets.available():
        assert any(line.split()[:1] == [dataset.name] for line in lines), dataset.name
    assert all(len(line) <= width for line in lines if line.startswith("    "))
    assert "CC BY 4.0" in " ".join(" ".join(lines).split())


ERRORS = {  # what was typed, and what the message must name
    "generate --num 0 --out {out}": "--num",
    "generate --num 1 --processes 0 --out {out}": "--processes",
    "generate --num 1 --max-sites 0 --out {out}": "--max-sites 0",
    "generate --num 1 --generator substitution --temperature -1 --out {out}": "--temperature -1",
    "generate --num 1 --generator file --out {out}": "give its path",
    "train {salts} --size paper --init {salts} --out {out}": "--init does nothing",
    "evaluate {salts} --no-relax --close --out {out}": "--close does nothing",
    "evaluate {salts} --hull {hull} --out {out}": "a --hull on",
    "evaluate {columns} --no-relax --out {out}": "--structure-column",
    "evaluate {salts}": "--out",
    "tradeoff {salts}": "",
    "dft collect {columns}": "crysjepa dft export",
    "dft export --as folders --to {out}": "--failed-of",
    "convert {salts} {salts}": "choose another name",
    "screen {salts} --by nothing --out {out}": "jepa-hull",
    "relax {salts} --force-field nothing --out {out}": "chgnet",
    "discover --preset nothing --out {out}": "quick",
}


@pytest.mark.parametrize("line", ERRORS)
def test_errors_speak_of_the_command_line(line, salts, tmp_path):
    """Not of a function's arguments, which the reader of a terminal has not; at most beside the flag."""
    CandidateTable.from_crystals(salts).write(tmp_path / "salts.parquet")
    hull = pa.table({"composition": ["NaCl"], "formation_energy_per_atom": [-2.0]})
    hull = hull.replace_schema_metadata({"crysjepa": json.dumps({"scale": "scheme A"})})
    pq.write_table(hull, tmp_path / "hull.parquet")
    poscar = '"NaCl\n1\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"'
    (tmp_path / "columns.csv").write_text(f"one,other\n{poscar},{poscar}\n")
    names = {"salts": "salts.parquet", "hull": "hull.parquet", "columns": "columns.csv", "out": "out"}
    given = line.format(**{k: tmp_path / v for k, v in names.items()}).split()
    result = CliRunner().invoke(app, given)
    text = " ".join(result.output.split())
    assert result.exit_code in (1, 2) and "error: " in text and ERRORS[line] in text
    assert not re.search(r"\b[a-z]+[a-z_]*=(?!\w+ in Python)", text), text


def test_doctor_tells_of_force_fields_and_devices():
    text = call("doctor")
    assert "force field: chgnet" in text and "device: cpu" in text and "torch" in text


def test_generate_is_seeded_and_has_its_columns(tiny, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.parquet"
        call("generate", "--num", 9, "--seed", seed, "--generator", tiny.generator, "--out", out)
    files = [(tmp_path / f"{name}.parquet").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]
    table = pq.read_table(tmp_path / "a.parquet")
    assert {"id", "atomic_numbers", "frac_coords", "lattice"} <= set(table.column_names)
    assert table.num_rows == 9


def test_generate_by_substitution_obeys_and_tells_its_counts(tmp_path):
    out = tmp_path / "new.parquet"
    text = call("generate", "--generator", "substitution", "--elements", "Li,Mg,O,P,S", "--max-sites", 12,
                "--num", 40, "--out", out)  # fmt: skip
    assert "only the elements Li, O, Mg, P, S; at most 12 sites" in text and "thrown away: " in text
    table = CandidateTable.read(out)
    crystals = table.crystals(table.ok_ids)
    assert len(table) == 40 and len(crystals) >= 30 and crystals.num_atoms.max() <= 12
    assert set(crystals.atomic_numbers.tolist()) <= {3, 12, 8, 15, 16}
    assert all(table.column("parent", list(crystals.ids))) and all(table.column("swaps", list(crystals.ids)))
    about = json.loads(pq.read_schema(out).metadata[b"crysjepa"])
    assert about["asked"] == 40 and about["drawn"] == 40 - table.counts().get("failed: generate", 0) + sum(
        about["rejected"].values()
    )


def test_generate_excludes_by_default_and_says_so(tiny, tmp_path):
    text = call("generate", "--num", 4, "--generator", tiny.generator, "--out", tmp_path / "a.parquet")
    assert "no radioactive elements and no noble gases (the default)" in text
    text = call("generate", "--num", 4, "--generator", tiny.generator, "--exclude-elements", "none",
                "--out", tmp_path / "b.parquet")  # fmt: skip
    assert "radioactive elements and noble gases allowed" in text


def test_generate_from_a_file(salts, tmp_path):
    CandidateTable.from_crystals(salts).write(tmp_path / "salts.parquet")
    text = call("generate", "--generator", tmp_path / "salts.parquet", "--chemical-system", "K-Cl",
                "--num", 2, "--out", tmp_path / "a.parquet")  # fmt: skip
    assert "note: salts.parquet holds 7 crystals of which 1 obey; 2 were asked for" in text
    table = CandidateTable.read(tmp_path / "a.parquet")
    assert table.crystals().reduced_formulas() == ["KCl"] and table.ids == ["gen-0", "gen-1"]
    assert table.column("status") == ["ok", "failed"] and table.column("source_id") == ["KCl", None]


def test_generate_a_formula_and_a_symmetry(tiny, tmp_path):
    """From the flow and from a file alike, and Python draws what the command line does."""
    import crysjepa as cj

    asked = {"formula": "ABX3", "formula_units": "1", "space_group": "cubic", "max_elements": 3}
    given = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", value)]
    for source in (tiny.generator, tiny.reference):
        out = tmp_path / f"{source.stem}.parquet"
        text = call("generate", "--num", 6, "--generator", source, *given, "--out", out)
        assert "the formula ABX3, each letter for another element; 1 formula unit in the cell" in text
        table = CandidateTable.read(out)
        crystals = table.crystals(table.ok_ids)
        assert len(crystals) and set(crystals.num_atoms.tolist()) == {5}
        assert all(sorted(np.unique(c.atomic_numbers, return_counts=True)[1]) == [1, 1, 3] for c in crystals)
        again = cj.generate(6, generator=str(source), **asked)
        assert again.crystals(again.ok_ids).content_hash() == crystals.content_hash()


def test_relax_embed_screen(tiny, tmp_path):
    relaxed, embedded, ranked = (tmp_path / f"{n}.parquet" for n in ("relaxed", "embedded", "ranked"))
    call("relax", tiny.reference, "--out", relaxed, "--force-field", FAR_SIGHTED,
         "--max-steps", 2)  # fmt: skip
    steps = CandidateTable.read(relaxed).column("relax_steps")
    assert len(steps) == 7 and set(steps) <= {0, 1, 2} and 2 in steps
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["relaxed.parquet", "relaxed.parquet.seconds.csv"], "nothing is left lying about"
    told = json.loads(pq.read_schema(relaxed).metadata[b"crysjepa"])["energies"]
    assert told["name"] == FAR_SIGHTED and told["relaxation"]["max_steps"] == 2
    assert {"version", "scale", "functional"} <= set(told)
    seconds = (tmp_path / "relaxed.parquet.seconds.csv").read_text(encoding="utf-8").splitlines()
    assert seconds[0] == "id,seconds" and len(seconds) == 8
    call("embed", relaxed, "--jepa", tiny.jepa, "--out", embedded)
    vectors = pq.read_table(embedded)
    assert vectors.column_names[:2] == ["id", "embedding"] and vectors.num_rows == 7
    assert np.isfinite(vectors["embedding"].to_pylist()).all()
    call("screen", tiny.reference, "--reference", tiny.reference, "--by", "jepa-distance",
         "--jepa", tiny.jepa, "--out", ranked)  # fmt: skip
    rows = pq.read_table(ranked).to_pylist()
    assert [r["rank"] for r in rows] == list(range(1, 8))
    scores = [r["score"] for r in rows]
    assert scores == sorted(scores) and {r["status"] for r in rows} == {"ok"}


def test_screen_by_energy_above_hull(tiny, tmp_path):
    index = tmp_path / "index.arrow"
    text = call("screen", tiny.reference, "--reference", tiny.reference, "--hull", tiny.reference,
                "--by", "jepa-hull", "--jepa", tiny.jepa, "--index", index,
                "--out", tmp_path / "ranked.parquet")  # fmt: skip
    assert "7 ok" in text and "references" in text and index.exists()
    table = pq.read_table(tmp_path / "ranked.parquet")
    assert {"num_references", "support_distance"} <= set(table.column_names)
    assert max(abs(s) for s in table["score"].to_pylist()) < 0.5, "its own training set is on the hull"
    text = call("screen", tiny.reference, "--by", "composition", "--reference", tiny.reference,
                "--out", tmp_path / "by-composition.parquet")  # fmt: skip
    assert "note: a linear model of the composition, fitted on 7 crystals" in text


def test_the_help_of_screen_names_every_ranker():
    from crysjepa.ranking.registry import RANKERS

    text = " ".join(call("screen", "--help").replace("│", " ").split())
    assert [n for n, info in RANKERS.items() if n not in text and not info.force_field] == []


@pytest.fixture
def misfits(tmp_path, salts):
    """A truncated CIF, a NaN, two atoms on one spot, a shared site, element 110, an empty file, one good."""
    folder = tmp_path / "misfits"
    folder.mkdir()
    good = salts.select(["NaCl"]).to_structures()[0].to(fmt="cif")
    assert isinstance(good, str)
    (folder / "good.cif").write_text(good)
    (folder / "truncated.cif").write_text(good[: len(good) // 2])
    site = next(line for line in good.splitlines() if line.strip().startswith("Na+  Na0") or " Na0 " in line)
    coordinate = site.split()[3]
    (folder / "nan.cif").write_text(good.replace(site, site.replace(coordinate, "nan", 1)))
    (folder / "empty.cif").write_text("")
    shared = site[::-1].replace(site.split()[-1][::-1], "5.0", 1)[::-1]
    (folder / "shared.cif").write_text(good.replace(site, shared))
    spot = Crystals(np.array([11, 17]), np.zeros((2, 3)), salts.lattices[:1], np.array([2]), ("x",))
    (folder / "spot.cif").write_text(spot.to_structures()[0].to(fmt="cif"))
    (folder / "heavy.cif").write_text(good.replace("Na", "Ds"))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_one_bad_crystal_costs_no_other(tiny, tmp_path, misfits, packed):
    source = misfits
    if packed:
        source = tmp_path / "misfits.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in misfits.iterdir():
                archive.write(path, path.name)
    ranked = tmp_path / "ranked.parquet"
    call("screen", source, "--reference", tiny.reference, "--jepa", tiny.jepa, "--out", ranked)
    rows = {r["id"]: r for r in pq.read_table(ranked).to_pylist()}
    assert set(rows) == {"good", "truncated", "nan", "empty", "shared", "spot", "heavy"}
    assert rows["good"]["status"] == "ok" and rows["good"]["score"] is not None
    for id_ in set(rows) - {"good"}:
        assert rows[id_]["score"] is None and rows[id_]["reason"] and rows[id_]["status"] != "ok"
    assert "empty" in rows["empty"]["reason"] and "110" in rows["heavy"]["reason"]
    assert "occupied" in rows["shared"]["reason"] and "spot" in rows["spot"]["reason"]


def test_a_score_in_the_input_does_not_show_through(tiny, tmp_path, salts):
    table = CandidateTable.from_crystals(salts).decide("novelty", {"NaCl": "known"}, Status.REJECTED)
    table.with_column("score", dict.fromkeys(table.ids, -9.0), "Float64").write(tmp_path / "in.parquet")
    call("screen", tmp_path / "in.parquet", "--by", "random", "--out", tmp_path / "o.parquet")
    rows = {r["id"]: r for r in pq.read_table(tmp_path / "o.parquet").to_pylist()}
    assert (rows["NaCl"]["status"], rows["NaCl"]["reason"]) == ("rejected", "known")
    assert rows["NaCl"]["score"] is None and all(r["score"] != -9.0 for r in rows.values())


def test_no_reference_is_last_with_the_reason(tiny, tmp_path, salts):
    platinum = Crystals(np.array([78]), np.zeros((1, 3)), 2.8 * np.eye(3)[None], np.array([1]), ("Pt",))
    strange = CandidateTable.from_crystals(Crystals.concatenate([salts[:1], platinum]))
    strange.write(tmp_path / "in.parquet")
    call(
        "screen",
        tmp_path / "in.parquet",
        "--by",
        "jepa-distance",
        "--reference",
        tiny.reference,
        "--jepa",
        tiny.jepa,
        "--out",
        tmp_path / "o.parquet",
    )
    rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert [(r["id"], r["rank"]) for r in rows] == [("NaCl", 1), ("Pt", 2)]
    assert rows[1]["score"] is None and "no reference" in rows[1]["reason"]


def test_evaluate_without_relaxation(tiny, tmp_path):
    out = tmp_path / "e"
    call("evaluate", tiny.reference, "--reference", tiny.reference, "--no-relax", "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_crystals"] == 7 and metrics["novel"] == 0.0 and metrics["unique"] == 1.0
    assert metrics["stable"] is None and metrics["sun"] is None and metrics["vsun"] is None
    rows = pq.read_table(out / "crystals.parquet").to_pylist()
    columns = {"id", "status", "reason", "valid", "stable", "unique", "novel", "e_above_hull"}
    assert len(rows) == 7 and columns <= set(rows[0])
    assert all(r["e_above_hull"] is None and r["novel"] is False for r in rows)


def test_a_hull_judges_the_energies_that_crystals_come_with(tiny, tmp_path):
    """Where nothing is relaxed, they are used, or it is said why they cannot be."""
    given = ["--reference", tiny.reference, "--no-relax", "--hull", tiny.reference]
    told = call("evaluate", tiny.reference, *given, "--out", tmp_path / "e")
    assert "nothing is relaxed" in told
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["stable"] == 1.0 and metrics["hull"] == "known.parquet" and metrics["judge"] is None
    assert metrics["protocol"]["hull_scale"] == "materials_project" and not metrics["protocol"]["relax"]
    rows = {r["id"]: r for r in pq.read_table(tmp_path / "e" / "crystals.parquet").to_pylist()}
    assert rows["NaCl"]["e_above_hull"] == pytest.approx(0.0, abs=1e-6)
    assert rows["NaCl"]["formation_energy_per_atom"] == -2.1

    known = CandidateTable.read(tiny.reference)
    high = known.with_column("formation_energy_per_atom", {"NaCl": -1.6, "KCl": None})
    high.with_column("e_above_hull", dict.fromkeys(high.ids, 9.0), "Float64").write(tmp_path / "high.parquet")
    call("evaluate", tmp_path / "high.parquet", *given, "--out", tmp_path / "f")
    rows = {r["id"]: r for r in pq.read_table(tmp_path / "f" / "crystals.parquet").to_pylist()}
    assert rows["NaCl"]["e_above_hull"] == pytest.approx(0.5, abs=1e-6) and rows["NaCl"]["stable"] is False
    assert rows["KCl"]["stable"] is None and rows["KCl"]["e_above_hull"] is None

    bare = CandidateTable(known.frame.drop(columns="formation_energy_per_atom"))
    for column, reason in (
        (None, "no energies"), ("e_above_hull", "another hull"), ("energy_per_atom", "does not state"),
    ):  # fmt: skip
        table = bare if column is None else bare.with_column(column, {"NaCl": 0.1}, "Float64")
        table.write(tmp_path / "bare.parquet")
        told = call("evaluate", tmp_path / "bare.parquet", *given, "--out", tmp_path / "g", status=1)
        assert reason in told and "--no-relax" in told and not (tmp_path / "g").exists()
    told = call("evaluate", tmp_path / "bare.parquet", "--reference", tiny.reference, "--no-relax",
                "--fetch-phases", "mp", "--out", tmp_path / "g", status=1)  # fmt: skip
    assert "--fetch-phases cannot judge" in told and "--hull" not in told and "leave out --no-relax" in told


def test_formation_energies_of_another_scale_are_not_compared_with_a_hull(tiny, tmp_path):
    CandidateTable.read(tiny.reference).write(tmp_path / "other.parquet", {"scale": "another"})
    told = call("evaluate", tmp_path / "other.parquet", "--reference", tiny.reference, "--no-relax",
                "--hull", tiny.reference, "--out", tmp_path / "e", status=1)  # fmt: skip
    assert "another" in told


def test_our_own_energies_are_judged_by_a_hull_without_relaxation(tiny, tmp_path):
    relaxed, settings = tmp_path / "r.parquet", tmp_path / "protocol.toml"
    call("relax", tiny.reference, "--out", relaxed, "--max-steps", 2,
         "--force-field", "ase.calculators.lj:LennardJones")  # fmt: skip
    settings.write_text(f'elemental_references = "{tiny.elements}"\n')
    call("evaluate", relaxed, "--reference", tiny.reference, "--hull", tiny.reference, "--no-relax",
         "--config", settings, "--out", tmp_path / "e")  # fmt: skip
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["stable"] is not None and metrics["judge"].startswith("ase.calculators.lj")
    assert metrics["protocol"]["relaxation"]["max_steps"] == 2


def test_what_passed_and_did_not_converge_is_told(tiny, tmp_path):
    names = ("CaS", "BaS", "SrS")
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]] * 3
    cells = [2.9 * (np.ones((3, 3)) - np.eye(3))] * 3
    table = CandidateTable.from_crystals(Crystals([20, 16, 56, 16, 38, 16], sites, cells, [2] * 3, names))
    table = table.with_column("formation_energy_per_atom", dict.fromkeys(names, -1.0), "Float64")
    given = ("--reference", tiny.reference, "--hull", tiny.reference, "--no-relax")
    for ends, told in (((False, True, False), "note: 2 of the 3 that passed did not converge"),
                       ((True, True, True), None), ((None, None, None), None)):  # fmt: skip
        table = table.with_column("converged", dict(zip(names, ends, strict=True)), "boolean")
        table.write(tmp_path / "some.parquet")
        said = call("evaluate", tmp_path / "some.parquet", *given, "--out", tmp_path / "e", "--overwrite")
        assert told in said if told else "converge:" not in said


@pytest.mark.parametrize(
    "command",
    [
        "evaluate IN --no-relax --out OUT --hull",
        "evaluate IN --out OUT --reference",
        "evaluate IN --out OUT --finetuned-on",
        "evaluate IN --out OUT --config",
        "compete IN --out OUT --hull",
        "compare IN --out OUT --hull",
        "check IN --out OUT --reference",
        "tradeoff OUT --reference",
        "screen IN --out OUT --hull",
        "screen IN --out OUT --reference",
        "screen IN --out OUT --jepa",
        "screen IN --out OUT --by sevennet@",
        "relax IN --out OUT --force-field sevennet@",
        "compete IN --out OUT --judges chgnet,mace@",
        "embed IN --out OUT --jepa",
        "diagnose",
        "diagnose --data",
        "generate --num 2 --out OUT --generator",
        "generate --num 2 --out OUT --generator substitution --parents",
        "train IN --out OUT --init",
        "finetune IN --out OUT --generator",
        "discover --out OUT --hull",
        "discover --out OUT --reference",
        "discover --out OUT --jepa",
        "dft collect OUT --elements",
        "dft export --to OUT --failed-of",
        "dft run IN --out OUT --competing",
    ],
)
def test_what_is_not_there_is_said_before_any_work(tiny, tmp_path, command):
    missing = tmp_path / "not_there.parquet"
    words = command.replace("IN", str(tiny.reference)).replace("OUT", str(tmp_path / "out")).split()
    words = [*words[:-1], f"{words[-1]}{missing}"] if words[-1].endswith("@") else [*words, missing]
    assert "not_there" in "".join(call(*words, status=2).split()).replace("│", "")
    assert not (tmp_path / "out").exists()


def test_what_a_settings_file_names_has_to_be_there(tmp_path):
    (tmp_path / "s.toml").write_text('hull = "nowhere.parquet"\n')
    assert "nowhere" in call("discover", "--config", tmp_path / "s.toml", "--out", tmp_path / "o", status=2)
    (tmp_path / "s.toml").write_text('elemental_references = "nowhere.json"\n')
    assert "nowhere" in call(
        "evaluate", tmp_path, "--config", tmp_path / "s.toml", "--out", tmp_path, status=2
    )


def test_evaluate_with_relaxation_goes_on(tiny, tmp_path):
    settings = tmp_path / "protocol.toml"
    settings.write_text(
        f'elemental_references = "{tiny.elements}"\n[relaxation]\nmax_steps = 2\nchunk_size = 3\n'
    )
    command = ["evaluate", tiny.reference, "--reference", tiny.reference, "--hull", tiny.reference,
               "--config", settings, "--force-field", "ase.calculators.lj:LennardJones",
               "--out", tmp_path / "e"]  # fmt: skip
    call(*command)
    first = (tmp_path / "e" / "crystals.parquet").read_bytes()
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["stable"] is not None and metrics["protocol"]["relaxation"]["max_steps"] == 2
    (tmp_path / "e" / "crystals.parquet").unlink()
    call(*command)
    assert (tmp_path / "e" / "crystals.parquet").read_bytes() == first


def test_compete_closes_the_hull_of_anyones_crystals(tiny, tmp_path):
    settings = tmp_path / "protocol.toml"
    settings.write_text(
        f'elemental_references = "{tiny.elements}"\n[relaxation]\nmax_steps = 2\n'
        f'[trust]\njudges = "none"\n[trust.close]\nparents = "{tiny.reference}"\nmargin = 50.0\n'
        "static = 4\nrelaxed = 2\nrounds = 1\n[trust.close.relaxation]\nmax_steps = 2\n"
    )
    command = ["compete", tiny.reference, "--reference", tiny.reference, "--hull", tiny.reference,
               "--config", settings, "--force-field", "ase.calculators.lj:LennardJones",
               "--out", tmp_path / "c"]  # fmt: skip
    said = call(*command)
    assert "competitors evaluated" in said
    rows = pq.read_table(tmp_path / "c" / "crystals.parquet").to_pylist()
    assert [r["id"] for r in rows] == pq.read_table(tiny.reference)["id"].to_pylist()
    looked = [r for r in rows if r["e_above_closed_hull"] is not None]
    assert looked and all(r["decomposes_to"] and r["num_competitors"] >= r["num_relaxed"] for r in looked)
    assert all(r["e_above_closed_hull"] >= r["e_above_hull"] - 1e-9 for r in looked)
    assert pq.read_table(tmp_path / "c" / "competitors.parquet").num_rows > 0
    kept = {p.name: p.read_bytes() for p in (tmp_path / "c").glob("*.parquet")}
    for name in kept:
        (tmp_path / "c" / name).unlink()
    call(*command)
    assert {p.name: p.read_bytes() for p in (tmp_path / "c").glob("*.parquet")} == kept, "from its shards"


def test_a_hull_of_a_force_fields_own_energies_judges_its_crystals(tiny, tmp_path):
    own, out = tmp_path / "own.parquet", tmp_path / "e"
    emt = ["--force-field", "ase.calculators.emt:EMT"]
    text = call("hull", tiny.reference, "--out", own, "--static", *emt, status=1)
    assert "0 of 7 crystals have an energy" in text and "No EMT-potential" in " ".join(text.split())
    lennard_jones = ["--force-field", FAR_SIGHTED]
    again = ["hull", tiny.reference, "--out", own, "--max-steps", 2, *lennard_jones]
    assert "--overwrite" in call(*again, status=2)
    text = call(*again, "--overwrite")
    assert "4 of 7 crystals have an energy" in text
    assert "reference energy for Ti" in text and "crysjepa evaluate --hull" in " ".join(text.split())
    assert not list(tmp_path.glob("*.shards"))
    judge = ["evaluate", tiny.reference, "--reference", tiny.reference, "--hull", own, "--out", out]
    assert "is a hull of energies" in " ".join(call(*judge, *emt, status=1).split())
    call(*judge, *lennard_jones)
    protocol = json.loads((out / "metrics.json").read_text())["protocol"]
    assert protocol["elemental_references_method"] == "computed"


def test_compare_and_tradeoff(tiny, tmp_path):
    settings = tmp_path / "protocol.toml"
    settings.write_text(
        f'elemental_references = "{tiny.elements}"\n[relaxation]\nmax_steps = 2\nchunk_size = 3\n'
    )
    common = ["--reference", tiny.reference, "--hull", tiny.reference, "--config", settings,
              "--force-field", "ase.calculators.lj:LennardJones"]  # fmt: skip
    tuned = ["--finetuned-on", tiny.reference]
    said = call("evaluate", tiny.reference, *common, *tuned, "--preset", "strict", "--out", tmp_path / "e")
    assert "preset strict" in said and "fine-tuning set known.parquet" in " ".join(said.split())
    table = ["compare", f"A={tmp_path / 'e'}", f"B={tiny.reference}", *common, "--out", tmp_path / "c"]
    refused = call(*table, "--preset", "paper", status=1)
    assert "batch_size" in refused and "--anyway" in refused
    assert "differs: batch_size" in call(*table, "--preset", "paper", "--anyway")
    assert (tmp_path / "c" / "comparison.html").exists() and (tmp_path / "c" / "B" / "metrics.json").exists()
    again = call("evaluate", tmp_path / "e", *common[:-2])  # the force field is that of the energies
    assert "nothing is relaxed" in again and "preset strict" in " ".join(again.split())
    assert (tmp_path / "e" / "judged-by-known" / "metrics.json").exists()
    assert "--out FOLDER" in call("evaluate", tiny.reference, status=1)
    call("tradeoff", tmp_path / "e", "--by", "volume_change")
    assert (tmp_path / "e" / "tradeoff.html").exists()
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    (tmp_path / "e" / "metrics.json").write_text(json.dumps(metrics | {"vsun": 1.0}))
    assert "was changed after crysjepa wrote it" in call("tradeoff", tmp_path / "e", "--by", "x", status=1)
    assert "no preset 'lenient'" in call("evaluate", "flla", "--preset", "lenient", "--out", "x", status=2)


def test_train_pretrain_finetune(tiny, tmp_path):
    generator, jepa, tuned = (tmp_path / f"{n}.safetensors" for n in ("g", "j", "t"))
    settings = tmp_path / "train.toml"
    settings.write_text("batch_size = 4\nwarmup = 1\nrecord_every = 1\ncheckpoint_every = 1\n")
    call("train", tiny.reference, "--out", generator, "--steps", 2, "--config", settings)
    call("pretrain", tiny.reference, "--out", jepa, "--steps", 2, "--config", settings)
    both = tmp_path / "both.safetensors"
    call("pretrain", tiny.reference, tiny.reference, "--out", both, "--steps", 2, "--config", settings)
    assert "on one scale" in call("pretrain", tiny.reference, "flla", "--out", tmp_path / "no", status=1)
    call("finetune", tiny.reference, "--generator", tiny.generator, "--out", tuned, "--steps", 2,
         "--config", settings)  # fmt: skip
    curve = json.loads((tmp_path / "g.safetensors.curve.json").read_text())
    assert [r["step"] for r in curve["curve"]] == [1, 2]
    call("generate", "--num", 2, "--generator", tuned, "--out", tmp_path / "x.parquet")
    call("embed", tiny.reference, "--jepa", jepa, "--out", tmp_path / "y.parquet")


@pytest.mark.parametrize(
    "command, says",
    [
        (["screen", "nowhere.cif", "--out", "x.parquet"], "nowhere.cif"),
        (["generate", "--num", "0", "--out", "x.parquet"], "at least one"),
        (
            ["generate", "--num", "1", "--generator", "none.safetensors", "--out", "x.parquet"],
            "none.safetensors",
        ),
        (["relax", "flla", "--force-field", "nonsense", "--out", "x.parquet"], "nonsense"),
        (["discover", "--preset", "nope", "--out", "x"], "quick"),
        (["report", "nowhere"], "nowhere"),
        (["generate", "--num", "1", "--device", "gpu", "--out", "x.parquet"], "gpu"),
        (["embed", "flla", "--out", "."], "name a Parquet file"),
        (["generate", "--num", "1", "--generator", "magic", "--out", "x.parquet"], "substitution"),
        (["generate", "--num", "1", "--elements", "Li,Xx", "--out", "x.parquet"], "Xx"),
        (
            ["generate", "--num", "1", "--elements", "Li", "--exclude-elements", "Li", "--out", "x.parquet"],
            "Li cannot be in --exclude-elements",
        ),
        (["generate", "--num", "1", "--processes", "0", "--out", "x.parquet"], "processes"),
        (
            [
                "generate",
                "--num",
                "1",
                "--generator",
                "substitution",
                "--temperature",
                "0",
                "--out",
                "x.parquet",
            ],
            "temperature",
        ),
        (["screen", "flla", "--by", "taste", "--out", "x.parquet"], "taste"),
    ],
)
def test_errors_are_one_line_that_helps(command, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call(*command, status=2)
    assert says in text and "Traceback" not in text
    assert not any(tmp_path.iterdir())


def test_a_config_with_a_typo_is_refused(tmp_path):
    settings = tmp_path / "c.toml"
    settings.write_text("nmu = 3\n")
    assert "nmu" in call("discover", "--config", settings, "--out", tmp_path / "x", status=2)
    settings.write_text("[protocol]\nstable_below = nan\n")
    told = call("discover", "--config", settings, "--out", tmp_path / "x", status=2)
    assert "protocol.stable_below" in told and "not a finite number" in " ".join(told.split())
    settings.write_text("num = = 3\n")
    assert "TOML" in call("discover", "--config", settings, "--out", tmp_path / "x", status=2)


def test_where_no_row_can_be_used_the_results_are_there_and_the_status_is_1(tmp_path):
    (tmp_path / "bad").mkdir()
    for name in ("a.cif", "b.cif"):
        (tmp_path / "bad" / name).write_text("nothing")
    for verb, out, more in (
        ("convert", "out.parquet", ()),
        ("relax", "relaxed.parquet", ("--out",)),
        ("screen", "ranked.parquet", ("--by", "random", "--out")),
        ("evaluate", "judged", ("--no-relax", "--out")),
    ):
        text = " ".join(call(verb, tmp_path / "bad", *more, tmp_path / out, status=1).split())
        assert "not one of 2 crystals could be used" in text, verb
        assert (tmp_path / out).exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lattice-noise", "atom"], "choose crystal or site"),
        (["--lattice-noise", "site"], "leave lattice_noise out"),
        (["--size", "paper/0"], "choose small, paper"),
        (["--size", "paper/64", "--init", "JEPA"], "starts from random weights"),
    ],
)
def test_what_the_kind_of_generator_does_not_have_is_told(tiny, tmp_path, options, words):
    named = [str(tiny.jepa) if o == "JEPA" else o for o in options]
    text = call("train", tiny.reference, "--out", tmp_path / "model.safetensors", *named, status=2)
    assert words in " ".join(text.split()) and not (tmp_path / "model.safetensors").exists()
