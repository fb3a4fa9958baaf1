"""``crysjepa diagnose``: the command on real crystals, its page and its figures."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from crysjepa import datasets
from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.report.embedding import FIGURES, MAPS, headline, tables, write_diagnosis
from crysjepa.report.embedding_figures import (
    ENERGY_COLOURS,
    atom_figure,
    crystal_figure,
    distance_figure,
    spectrum_figure,
)

NASTY = "<script>alert(1)</script> & “so on”"
ENERGY = "formation_energy_per_atom"


def diagnose(*args: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["diagnose", *map(str, args)])
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output


@pytest.fixture(scope="module")
def table() -> CandidateTable:
    """Eighty real crystals, and three that nobody can embed, among them one with a reason like markup."""
    known = datasets.load("flla")
    crystals = known.crystals(known.ok_ids)
    crystals = crystals[np.flatnonzero(crystals.num_atoms <= 6)[:400:5]]
    energies = dict(zip(crystals.ids, known.column(ENERGY, crystals.ids), strict=True))
    spot = Crystals(np.array([11, 17]), np.zeros((2, 3)), 5 * np.eye(3)[None], np.array([2]), ("spot",))
    heavy = Crystals(np.array([110]), np.zeros((1, 3)), 4 * np.eye(3)[None], np.array([1]), ("heavy",))
    everything = Crystals.concatenate([crystals, spot, heavy])
    rows = CandidateTable.from_crystals(everything, {"torn": NASTY})
    return rows.with_column(ENERGY, energies, "Float64")


@pytest.fixture(scope="module")
def data(table, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.parquet"
    table.write(path)
    return path


@pytest.fixture
def without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)


class Loads(HTMLParser):
    """What a page would load, and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object"):
            self.found.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("#", "data:")):
                self.found.append(f"{name}={value}")


# -- the command -----------------------------------------------------------------------------------


def test_numbers_and_page_without_umap(tiny, data, tmp_path, without_umap):
    out = tmp_path / "out"
    said = diagnose(tiny.jepa, "--data", data, "--out", out)
    assert 'pip install "crysjepa[umap]"' in said and "effective rank" in said
    result = json.loads((out / "diagnosis.json").read_text())
    counts = {k: result["data"][k] for k in ("num_rows", "num_readable", "num_sampled", "num_embedded")}
    assert counts == {"num_rows": 83, "num_readable": 82, "num_sampled": 82, "num_embedded": 80}
    lost = result["not_embedded"]
    assert {i: e["stage"] for i, e in lost.items()} == {"torn": "read", "spot": "validity", "heavy": "embed"}
    assert lost["torn"]["reason"] == NASTY and "110" in lost["heavy"]["reason"]
    assert result["model"]["invariant"] and len(result["dependence"]) == 5
    assert all(d["largest"] < result["tolerance"] for d in result["dependence"])
    assert [len(result[k]) for k in ("agreement", "readouts")] == [3, 6]
    assert set(result["maps"]) == {"crystals", "atoms"} and all(result["maps"].values())
    made = {p.name for p in out.iterdir()}
    assert made == {"log.txt", "diagnosis.json", "diagnosis.html"} | {
        f"{n}.{k}" for n in ("spectrum", "distances") for k in ("png", "svg")
    }
    html = (out / "diagnosis.html").read_text(encoding="utf-8")
    assert not Loads(html).found and "&lt;script&gt;" in html
    assert "crysjepa[umap]" in html and html.count("<svg") == 2
    for part in tables(result):
        assert part.title in html
        for row in part.rows:
            assert len(row) == len(part.columns)
    for readout in result["readouts"]:
        assert f"{readout['mae']:.3f}" in html


def test_without_a_folder_nothing_is_written(tiny, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = diagnose(tiny.jepa, "--data", data)
    assert "nothing was written" in said and "heavy" not in said and "110" in said
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sample_is_seeded_and_says_so(tiny, data, tmp_path, without_umap):
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        diagnose(tiny.jepa, "--data", data, "--out", tmp_path / name, "--max-crystals", 30, "--seed", seed)
        found = json.loads((tmp_path / name / "diagnosis.json").read_text())["data"]
        assert found["num_sampled"] == 30 and found["num_rows"] == 83
        hashes.append(found["content_hash"])
    assert hashes[0] == hashes[1] != hashes[2]
    assert "sample of 30 of 82 crystals (seed 2)" in (tmp_path / "c" / "diagnosis.html").read_text()


def test_without_energies(tiny, table, tmp_path, without_umap):
    CandidateTable(table.frame.drop(columns=ENERGY)).write(tmp_path / "bare.parquet")
    said = diagnose(tiny.jepa, "--data", tmp_path / "bare.parquet", "--out", tmp_path / "out")
    result = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert "energy read-out" in result["skipped"] and "0 of 80" in said
    assert not (tmp_path / "out" / "distances.png").exists() and result["spread"]["effective_rank"] > 1


def test_errors_help(tiny, table, data, tmp_path):
    assert "none.safetensors" in diagnose("none.safetensors", "--data", data, status=2)
    (tmp_path / "file").write_text("x")
    assert "folder" in diagnose(tiny.jepa, "--data", data, "--out", tmp_path / "file", status=2)
    frame = table.frame[table.frame["id"].isin(["spot", "torn"])].reset_index(drop=True)
    CandidateTable(frame).write(tmp_path / "few.parquet")
    said = " ".join(diagnose(tiny.jepa, "--data", tmp_path / "few.parquet", status=1).split())
    assert "0 of 2 crystals can be embedded" in said and "for example" in said


@pytest.mark.slow
@pytest.mark.timeout(1800)  # UMAP is compiled at its first call
def test_maps_come_with_umap_and_go_without(tiny, table, data, tmp_path, monkeypatch):
    pytest.importorskip("umap")
    other = tmp_path / "other" / "data.parquet"
    CandidateTable(table.frame[::-1].reset_index(drop=True)).write(other)
    for source, name in ((data, "a"), (other, "b")):
        diagnose(tiny.jepa, "--data", source, "--out", tmp_path / name)
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir() if p.name != "log.txt"}
    assert set(files) == {"diagnosis.json", "diagnosis.html", *MAPS.values()} | {
        f"{n}.{k}" for n in FIGURES for k in ("png", "svg")
    }
    for path in (p for p in (tmp_path / "b").iterdir() if p.name != "log.txt"):
        assert path.read_bytes() == files[path.name], f"{path.name} depends on the order of rows"
    html = files["diagnosis.html"].decode()
    assert html.count("<svg") == 4 and not Loads(html).found
    assert write_diagnosis(tmp_path / "a").read_bytes() == files["diagnosis.html"]
    monkeypatch.setitem(sys.modules, "umap", None)
    diagnose(tiny.jepa, "--data", data, "--out", tmp_path / "a")
    left = {p.name for p in (tmp_path / "a").iterdir() if p.name != "log.txt"}
    assert left == {n for n in files if not re.match("crystal|atom", n)}


# -- words -----------------------------------------------------------------------------------------


def test_headline_says_what_matters_most():
    result = {"spread": {"effective_rank": 1.0, "width": 64}, "collapsed": True, "findings": [{}]}
    assert "collapsed" in headline(result) and "1.0 of its 64" in headline(result)
    sound = {"spread": {"effective_rank": 40.0, "width": 64}, "collapsed": False, "findings": []}
    assert headline(sound).startswith("No collapse") and "nothing else" in headline(sound)
    assert "1 other finding." in headline(sound | {"findings": [{}]})


# -- figures ---------------------------------------------------------------------------------------


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(figure: Figure) -> dict[str, int]:
    """How many points have each colour."""
    found: dict[str, int] = {}
    for part in figure.axes[0].collections:
        (colour,) = {tuple(np.round(c[:3] * 255).astype(int)) for c in part.get_facecolor()} or {()}
        key = "#" + "".join(f"{v:02x}" for v in colour)
        found[key] = found.get(key, 0) + len(part.get_offsets())  # type: ignore[arg-type]
    return found


def test_crystals_are_coloured_in_five_equal_groups_from_low_to_high():
    energies = np.random.default_rng(0).permutation(np.linspace(-4, 1, 100))
    frame = pd.DataFrame({"id": map(str, range(107)), "x": 0.0, "y": np.arange(107.0)})
    frame[ENERGY] = [*energies, *[np.nan] * 7]
    figure = crystal_figure(frame)
    assert figure is not None
    ranges = legend(figure)
    assert len(ranges) == 6 and ranges[0].startswith("−4.00 to") and ranges[4].endswith("1.00")
    assert "no formation energy" in ranges[5]
    assert {c: n for c, n in points(figure).items() if c in ENERGY_COLOURS} == dict.fromkeys(
        ENERGY_COLOURS, 20
    )
    lowest = figure.axes[0].collections[0]
    rows = np.asarray(lowest.get_offsets())[:, 1].astype(int)
    assert set(rows) <= set(np.argsort(energies)[:20]), "the first colour has the lowest energies"


def test_atoms_are_coloured_by_element_most_frequent_first():
    elements = ["O"] * 9 + ["Mg"] * 2 + ["F"] * 5 + ["S"] * 3
    frame = pd.DataFrame({"element": elements, "x": range(19), "y": range(19)})
    figure = atom_figure(frame)
    assert figure is not None
    assert legend(figure) == ["O, 9 atoms", "F, 5 atoms", "S, 3 atoms", "Mg, 2 atoms"]
    assert sorted(points(figure).values()) == [2, 3, 5, 9]


def test_nothing_to_draw_is_no_figure():
    assert crystal_figure(pd.DataFrame({"x": [], "y": [], ENERGY: []})) is None
    assert spectrum_figure({"variance_shares": [0.0, 0.0]}) is None
    assert distance_figure([{"bins": []}], 1.0) is None
