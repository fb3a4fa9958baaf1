"""``import crysjepa as cj``: each function is the verb of its name, on tables in memory."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

import crysjepa as cj
from conftest import LENNARD_JONES
from crysjepa import api
from crysjepa.evaluation.protocol import Protocol
from crysjepa.relaxation.relax import RelaxSettings

SETTINGS = RelaxSettings(max_steps=3, chunk_size=4)


def same(a, b):
    pd.testing.assert_frame_equal(a.frame, b.frame)
    assert a.metadata == b.metadata


@pytest.fixture(scope="module")
def made(tiny):
    return cj.generate(12, generator=tiny.generator, elements="Na-Cl-K-Br", seed=3)


def test_importing_the_package_is_cheap_and_names_are_there():
    script = "import sys, crysjepa as cj; assert not {'torch', 'pandas'} & set(sys.modules); print(dir(cj))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"read", "generate", "predict", "rank", "relax", "evaluate", "compete"} <= set(eval(done.stdout))  # noqa: S307
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = cj.evalute


def test_evaluating_waits_for_nothing_that_it_may_not_need():
    """Figures, compiled loops, statistics and models take seconds to import: what uses them imports them."""
    code = (
        "import sys, crysjepa.workflows.evaluate\n"
        "print(sorted({'matplotlib', 'numba', 'scipy.stats', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_generate_is_the_verb(tiny, made, tmp_path):
    out = tmp_path / "made.parquet"
    from crysjepa.generators.constraints import Constraints

    wanted = Constraints.parse(elements="Na-Cl-K-Br")
    api.generate(12, out, generator=tiny.generator, constraints=wanted, seed=3)
    same(cj.read(out), made)
    assert made.metadata["asked"] == 12 and len(made) == 12


def test_rank_is_the_verb(tiny, made, tmp_path):
    made.write(tmp_path / "made.parquet")
    options = {"by": "jepa-distance", "reference": tiny.reference}
    ranked = cj.rank(made, **options)
    api.screen(tmp_path / "made.parquet", tiny.reference, tmp_path / "ranked.parquet", by="jepa-distance")
    rows = pd.read_parquet(tmp_path / "ranked.parquet")
    assert ranked.ids == list(rows["id"]) and sorted(ranked.ids) == sorted(made.ids)
    for name in ("score", "rank", "num_references"):
        np.testing.assert_array_equal(
            ranked.frame[name].astype("Float64").fillna(-1), rows[name].astype("Float64").fillna(-1)
        )
    assert ranked.column("status") == list(rows["status"])


@pytest.mark.slow
def test_relax_and_evaluate_are_the_verbs(tiny, made, tmp_path):
    made.write(tmp_path / "made.parquet")
    relaxed = cj.relax(made, force_field=LENNARD_JONES, settings=SETTINGS)
    made_file, relaxed_file = tmp_path / "made.parquet", tmp_path / "relaxed.parquet"
    api.relax(made_file, relaxed_file, force_field=LENNARD_JONES, settings=SETTINGS)
    same(cj.read(relaxed_file), relaxed)
    protocol = Protocol.model_validate({**tiny.protocol, "e_above_hull_max": 50.0})
    result = cj.evaluate(relaxed, reference=tiny.reference, protocol=protocol)
    used = result.metrics["protocol"]["relaxation"]
    assert used == SETTINGS.model_dump(mode="json"), "nothing was relaxed again"
    metrics = api.evaluate(relaxed_file, tmp_path / "result", reference=tiny.reference, protocol=protocol)
    assert metrics == result.metrics
    same(cj.CandidateTable.read(tmp_path / "result" / "crystals.parquet"), result.crystals)
    assert list(result.table.index) == made.ids and "valid" in result.table
    page = result.write(tmp_path / "written")
    assert page.exists() and cj.read(tmp_path / "written").ids == made.ids
    with pytest.raises(FileExistsError):
        result.write(tmp_path / "written")
    with pytest.raises(ValueError, match="no preset 'strickt': choose from default, paper, strict"):
        cj.evaluate(relaxed, reference=tiny.reference, protocol="strickt")
    shown = result._repr_html_()
    assert "12 crystals" in repr(result) and "vsun" in shown and "<svg" in shown


def test_structures_and_atoms_each_alone():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    mixed = Structure(Lattice.cubic(3), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    table = cj.read([salt, mixed, salt.to_ase_atoms(), "no crystal"])
    assert table.ids == [f"crystal-{i}" for i in range(4)]
    assert table.column("status") == ["ok", "failed", "ok", "failed"]
    assert "partially occupied" in table.column("reason")[1]
    assert table.crystals(["crystal-0"]).reduced_formulas() == ["NaCl"]


def test_a_table_is_taken_as_it_is(made, salts):
    assert cj.read(made) is made
    assert cj.read(salts).ids == list(salts.ids)


def test_one_structure_alone_and_what_is_none():
    cube = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    assert cj.read(cube).ids == cj.read(cube.to_ase_atoms()).ids == ["crystal-0"]
    for wrong in ({"a": cube}, pd.DataFrame({"structure": [cube]}), b"a.cif", None):
        with pytest.raises(TypeError, match="give a path, a list"):
            cj.read(wrong)
    table = cj.read([cube, "a.cif", None])
    assert table.column("status") == ["ok", "failed", "failed"]
    assert table.column("reason")[1].startswith("no crystal: a str is neither")


@pytest.mark.parametrize(
    "name",
    [
        "CandidateTable", "CrysJepa", "DiscoverConfig", "MAX_CRYSTALS", "PRESETS", "RelaxSettings",
        "diagnose_table", "discover_crystals", "force_field_hull", "force_field_status", "read_header",
        "relax_crystals", "resolve_device", "shipped", "versions", "write_parquet", "write_report",
    ],
)  # fmt: skip
def test_what_the_first_release_offered_is_there_for_one_more(name):
    with pytest.warns(DeprecationWarning, match=rf"crysjepa.api.{name} .*import it from crysjepa"):
        assert getattr(api, name) is not None


def test_what_was_never_offered_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'worth'"):
        _ = api.worth


@pytest.mark.parametrize("verb", [cj.rank, cj.evaluate, cj.compete])
def test_known_crystals_and_hulls_are_named(salts, verb):
    hull = pd.DataFrame({"composition": ["NaCl"], "formation_energy_per_atom": [-2.1]})
    with pytest.raises(TypeError, match=r"hull is a path .* not a DataFrame.*to_parquet"):
        verb(salts, hull=hull)
    with pytest.raises(TypeError, match=r"reference is a path .* not a list.*cj\.read"):
        verb(salts, reference=[1, 2])
