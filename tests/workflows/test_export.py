"""Submissions to leaderboards: the right number of crystals, files that can be read back, honest blanks."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure
from ruamel.yaml import YAML

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.known_hull import known_hull
from crysjepa.workflows import export
from crysjepa.workflows.export import FILL_IN, export_genbench, export_matbench_discovery


def crystals(ids: list[str]) -> Crystals:
    num = len(ids)
    return Crystals(
        atomic_numbers=np.tile([11, 17], num),
        frac_coords=np.tile([[0, 0, 0], [0.5, 0.5, 0.5]], (num, 1)),
        lattices=np.stack([np.eye(3) * (3.5 + 0.0001 * i) for i in range(num)]),
        num_atoms=np.full(num, 2),
        ids=tuple(ids),
    )


def written(path: Path, num: int) -> Path:
    ids = [f"c-{i}" for i in range(num)]
    table = CandidateTable.from_crystals(crystals(ids))
    table = table.with_column("height", {i: float(num - n) for n, i in enumerate(ids)}, "Float64")
    table.write(path)
    return path


def test_genbench_gets_exactly_as_many_as_it_asks_for(tmp_path: Path) -> None:
    source = written(tmp_path / "many.parquet", 2503)
    compute = {"parameters": 2_900_000, "hours": 0.5, "memory_gb": 4, "hardware": "one core"}
    done = export_genbench(source, tmp_path / "out", relaxed=False, compute=compute)
    assert done.num == 2500 and done.to_fill == ()
    with (tmp_path / "out" / "structures.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [r["material_id"] for r in rows] == [str(n) for n in range(2500)] and rows[-1]["id"] == "c-2499"
    structure = Structure.from_dict(json.loads(rows[7]["structure"]))
    assert structure.formula == "Na1 Cl1" and structure.lattice.a == pytest.approx(3.5007)
    with zipfile.ZipFile(tmp_path / "out" / "cifs.zip") as archive:
        assert len(archive.namelist()) == 2500
    said = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert said["relaxed"] is False and said["num_before"] == 2503 and "first" in said["chosen"]
    assert said["compute"] == compute


def test_genbench_takes_the_lowest_of_a_column_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "GENBENCH_SIZE", 3)
    source = written(tmp_path / "some.parquet", 5)
    done = export_genbench(source, tmp_path / "out", by="height")
    rows = pd.read_csv(tmp_path / "out" / "structures.csv")
    assert rows["id"].tolist() == ["c-4", "c-3", "c-2"]
    said = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert "lowest height" in said["chosen"] and said["relaxed"] == FILL_IN
    assert set(done.to_fill) == {
        "relaxed", "compute.parameters", "compute.hours", "compute.memory_gb", "compute.hardware"
    }  # fmt: skip
    with pytest.raises(ValueError, match="no column 'depth'"):
        export_genbench(source, tmp_path / "other", by="depth")


def test_genbench_refuses_too_few_and_writes_nothing(tmp_path: Path) -> None:
    source = written(tmp_path / "few.parquet", 12)
    with pytest.raises(ValueError, match="exactly 2,500: generate 2,488 more"):
        export_genbench(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def wbm(path: Path, column: str, values: dict[str, float | None]) -> Path:
    table = CandidateTable.from_crystals(crystals(list(values)))
    table.with_column(column, values, "Float64").write(path)
    return path


def test_matbench_gets_formation_energies_by_id_and_a_card_with_blanks(tmp_path: Path) -> None:
    values = {"wbm-2-10": -1.5, "wbm-1-9": -0.25, "wbm-1-10": None, "mine": -1.0}
    source = wbm(tmp_path / "p.parquet", "formation_energy_per_atom", values)
    with pytest.raises(ValueError, match="say which column"):
        export_matbench_discovery(source, tmp_path / "out")
    done = export_matbench_discovery(
        source, tmp_path / "out", column="formation_energy_per_atom", name="crys-jepa-0.2", date="2026-11-30"
    )
    predictions, card = done.files
    assert predictions == tmp_path / "out/models/crysjepa/crys-jepa-0.2/2026-11-30-discovery.csv.gz"
    assert gzip.decompress(predictions.read_bytes()).decode().splitlines() == [
        "material_id,e_form_per_atom",
        "wbm-1-9,-0.250000",
        "wbm-2-10,-1.500000",
    ]
    notes = " ".join(done.notes)
    assert "mine" in notes and "1 rows of WBM have no number" in notes and "256,961" in notes
    found = YAML(typ="safe").load(card.read_text())
    assert found["model_key"] == "crys-jepa-0.2" and found["targets"] == "E" and found["model_params"] > 1e5
    assert found["metrics"]["discovery"]["pred_file"]["name"] == (
        "models/crysjepa/crys-jepa-0.2/2026-11-30-discovery.csv.gz"
    )
    blanks = [number for number, line in enumerate(card.read_text().splitlines(), 1) if FILL_IN in line]
    assert [int(f.rsplit("line ", 1)[1].rstrip(")")) for f in done.to_fill] == blanks and len(blanks) > 8


def test_scores_above_the_hull_get_its_height(tmp_path: Path) -> None:
    made = CandidateTable.read(wbm(tmp_path / "p.parquet", "score", {"wbm-1-1": 0.125}))
    source = tmp_path / "ranked.parquet"
    for about, says in (
        ({"ranker": "random", "hull": "known"}, "random are no energies"),
        ({}, "an unknown ranker are no energies"),
        ({"ranker": "jepa-hull", "hull": "mine.parquet"}, "above the hull mine.parquet"),
    ):
        made.write(source, about)
        with pytest.raises(ValueError, match=says):
            export_matbench_discovery(source, tmp_path / "out", column="score")
    made.write(source, {"ranker": "jepa-hull", "hull": "known"})
    done = export_matbench_discovery(source, tmp_path / "out", column="score", date="2026-11-30")
    energy = float(gzip.decompress(done.files[0].read_bytes()).decode().split(",")[-1])
    height = known_hull().compounds[(("Cl", 0.5), ("Na", 0.5))]
    assert energy == pytest.approx(height + 0.125, abs=1e-6)


def test_matbench_refuses_what_is_not_wbm(tmp_path: Path) -> None:
    source = wbm(tmp_path / "p.parquet", "formation_energy_per_atom", {"mp-1": -1.0})
    with pytest.raises(ValueError, match=r"no row has an id of WBM.*mp-1"):
        export_matbench_discovery(source, tmp_path / "out", column="formation_energy_per_atom")
    with pytest.raises(ValueError, match="no column 'energy'"):
        export_matbench_discovery(source, tmp_path / "out", column="energy")
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        export_matbench_discovery(source, tmp_path / "out", date="today")
    with pytest.raises(ValueError, match="model's key"):
        export_matbench_discovery(source, tmp_path / "out", name="My Model")
