"""`crysjepa screen --objective` on a small file: its columns, its order, and what it says of errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from crysjepa import datasets
from crysjepa.cli import console
from crysjepa.cli.main import app
from crysjepa.properties.aims import Aims
from crysjepa.ranking.rows import ranked_schema

if TYPE_CHECKING:
    from conftest import TinyWorld

ASKED = ("density<=3", "min:price")


def call(*args: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output


def screening(tiny: TinyWorld, out: Path, *more: str, by: str = "composition") -> list[object]:
    return ["screen", tiny.reference, "--reference", tiny.reference, "--by", by, "--out", out, *more]


def objectives(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--objective", text)]


@pytest.fixture(scope="module")
def ranked(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("ranked") / "ranked.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console.output, "width", 240)
        return out, call(*screening(tiny, out, *objectives(*ASKED)))


def test_columns_and_order(ranked: tuple[Path, str]) -> None:
    table = pq.read_table(ranked[0])
    assert table.column_names == ranked_schema(Aims.parse(ASKED)).names
    rows = table.to_pylist()
    merits = [r["merit"] for r in rows]
    assert len(rows) == 7 and merits == sorted(merits, reverse=True)
    assert [r["rank"] for r in rows] == list(range(1, 8))
    assert all(r["meets_targets"] == (r["density"] <= 3) for r in rows)
    assert {r["id"] for r in rows if r["meets_targets"]} == {"NaCl", "KCl", "LiF", "KBr"}
    assert {r["on_front"] for r in rows} == {True, False}


def test_the_file_says_what_was_asked_for(ranked: tuple[Path, str]) -> None:
    about = json.loads(pq.read_schema(ranked[0]).metadata[b"crysjepa"])
    assert [o["objective"] for o in about["objectives"]] == list(ASKED)
    assert about["objectives"][0]["unit"] == "g/cm³" and "costdb" in about["objectives"][1]["source"]


def test_the_screen_shows_it(ranked: tuple[Path, str]) -> None:
    text = " ".join(ranked[1].split())
    assert "density price merit meets targets on front status" in text and "wrote 7 rows" in text


def test_the_same_again_is_not_done_again_and_another_is_an_error(
    tiny: TinyWorld, ranked: tuple[Path, str]
) -> None:
    before, made = ranked[0].read_bytes(), ranked[0].stat().st_mtime_ns
    assert "wrote 7 rows" in call(*screening(tiny, ranked[0], *objectives(*ASKED)))
    assert ranked[0].stat().st_mtime_ns == made
    result = CliRunner().invoke(app, [str(a) for a in screening(tiny, ranked[0], *objectives(ASKED[0]))])
    assert result.exit_code in (1, 2) and "objectives" in result.output
    assert ranked[0].read_bytes() == before


def test_pareto_has_the_front_first(tiny: TinyWorld, tmp_path: Path) -> None:
    out = tmp_path / "ranked.parquet"
    call(*screening(tiny, out, *objectives(*ASKED), "--combine", "pareto"))
    on = pq.read_table(out)["on_front"].to_pylist()
    assert on == sorted(on, reverse=True) and on[0] and not on[-1]


def test_a_format_with_structures_has_the_columns_too(tiny: TinyWorld, tmp_path: Path) -> None:
    out = tmp_path / "ranked.extxyz"
    call(*screening(tiny, out, *objectives(*ASKED)))
    table = datasets.load(out)
    assert len(table.crystals()) == 7
    merits = table.column("merit")
    assert merits == sorted(merits, reverse=True)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (objectives("beauty>=5"), "no property 'beauty'"),
        (objectives("density>5"), "PROPERTY>=NUMBER"),
        (objectives("density>=5", "density<=4"), "no density is at least 5 and at most 4"),
        (objectives("max:capacity:F"), "F leaves no crystal as a cation"),
        (objectives("max:no_such_module:f"), "no_such_module"),
        ([*objectives("min:price"), "--combine", "sum"], "product, pareto"),
        (["--combine", "pareto"], "--combine does nothing without --objective"),
        (["--force-field", "chgnet"], "without --objective"),
    ],
)
def test_what_is_wrong_is_one_line(tiny: TinyWorld, tmp_path: Path, more: list[str], word: str) -> None:
    out = tmp_path / "ranked.parquet"
    text = call(*screening(tiny, out, *more), status=2)
    assert word in " ".join(text.split()) and text.count("error: ") == 1 and "Traceback" not in text
    assert len(text.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("by", ["random", "fingerprint", "jepa-distance"])
def test_a_ranker_that_tells_no_stability(tiny: TinyWorld, tmp_path: Path, by: str) -> None:
    out = tmp_path / "ranked.parquet"
    text = call("screen", tiny.reference, "--by", by, *objectives(*ASKED), "--out", out, status=2)
    assert "weighed against stability" in " ".join(text.split())
