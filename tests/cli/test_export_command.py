"""The verb ``export`` as one types it: what it writes, what it lists, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals


def call(*args: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == status, result.output + str(result.exception)
    return " ".join(result.output.split())


def predictions(path: Path) -> Path:
    crystals = Crystals(
        np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.eye(3)[None] * 3.5, [2], ("wbm-1-1",)
    )
    table = CandidateTable.from_crystals(crystals)
    table.with_column("formation_energy_per_atom", {"wbm-1-1": -1.5}, "Float64").write(path)
    return path


def test_matbench_discovery_is_written_and_blanks_are_listed(tmp_path: Path) -> None:
    source = predictions(tmp_path / "p.parquet")
    asked = ("export", source, "--to", "matbench-discovery", "--out", tmp_path / "out")
    assert "say which column" in call(*asked, status=2)
    said = call(*asked, "--date", "2026-11-30", "--column", "formation_energy_per_atom")
    assert "wrote 1 crystals" in said and "256,962 of WBM's" in said and "FILL_IN: paper_published" in said
    assert (tmp_path / "out/models/crysjepa/crysjepa/2026-11-30-discovery.csv.gz").is_file()


def test_too_few_for_genbench_another_board_and_no_file_are_refused(tmp_path: Path) -> None:
    source = predictions(tmp_path / "p.parquet")
    out = ("--out", tmp_path / "out")
    assert "generate 2,499 more" in call("export", source, "--to", "genbench", *out, status=2)
    assert "choose from genbench" in call("export", source, "--to", "gembench", *out, status=2)
    assert "missing.parquet" in call(
        "export", tmp_path / "missing.parquet", "--to", "genbench", *out, status=2
    )
    assert not (tmp_path / "out").exists()
