"""Results on disk: with a checksum, checked, and compared only where they may be."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from conftest import TinyWorld
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.compare import compare_crystals, comparison, name_sources
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.result_files import ResultError, differences, read_result
from crysjepa.evaluation.run import evaluate_crystals
from crysjepa.evaluation.tradeoff import tradeoff_of_result


@pytest.fixture(scope="module")
def protocol(tiny: TinyWorld) -> Protocol:
    return Protocol.model_validate({**tiny.protocol, "preset": "tiny", "batch_size": 4})


@pytest.fixture(scope="module")
def evaluated(tiny: TinyWorld, protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six salts and the perovskite against themselves without NaCl."""
    folder = tmp_path_factory.mktemp("evaluated")
    table = CandidateTable.read(tiny.reference)
    known = folder / "known.parquet"
    CandidateTable(table.frame.iloc[1:].reset_index(drop=True)).write(known)
    evaluate_crystals(table, reference=known, hull=tiny.reference, out=folder / "salts", protocol=protocol)
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def copied(evaluated: Path, tmp_path: Path) -> Path:
    out = tmp_path / "salts"
    out.mkdir()
    for name in ("metrics.json", "crystals.parquet"):
        (out / name).write_bytes((evaluated / "salts" / name).read_bytes())
    return out


# -- what a result says of itself ------------------------------------------------------------


def test_a_result_says_what_it_is_relative_to(evaluated: Path) -> None:
    (result,) = read_result(evaluated / "salts")
    said = result.metrics
    protocol = result.protocol
    assert {"preset", "force_field", "relaxation", "hull", "hull_scale", "novelty_set", "ltol"} <= set(
        protocol
    )
    assert {"crysjepa", "pymatgen", "smact", "moyopy"} <= set(protocol["versions"])
    assert protocol["novelty_set_name"] == "known.parquet" and protocol["novelty_set_size"] == 6
    assert said["metrics"]["vsun"] == 1 and set(said["bootstrap"]) == set(said["metrics"])
    assert said["batches"]["size"] == 4 and said["batches"]["num_batches"] == 1
    assert "\n" not in said["citation"] and "tiny" in said["citation"] and "known.parquet" in said["citation"]
    assert said["novel"] == pytest.approx(1 / 7), "only NaCl is not known"
    page = (evaluated / "salts" / "evaluation.html").read_text()
    assert "<svg" in page and "S.U.N." in page and 'id="crystal-7"' in page
    assert not re.search(r'(src|href)="(?!#|data:|https://materialsproject.org/materials/mp-)', page)
    assert len(Hull.read(evaluated / "salts" / "hull.parquet")) > 0, "what they were compared with"


def test_a_row_a_crystal_with_every_verdict(evaluated: Path) -> None:
    table = pq.read_table(evaluated / "salts" / "crystals.parquet")
    wanted = {"id", "status", "stage", "reason", "formula", "chemical_system", "space_group_number", "batch"}
    wanted |= {
        "invalid_structure",
        "invalid_composition",
        "valid",
        "unique",
        "duplicate_of",
        "novel",
        "matches",
    }
    wanted |= {"energy_per_atom", "formation_energy_per_atom", "e_above_hull", "stable", "converged"}
    assert wanted <= set(table.column_names) and table.num_rows == 7


# -- what cannot be trusted ------------------------------------------------------------------


def test_numbers_edited_by_hand_are_noticed(copied: Path) -> None:
    edit(copied, novel=0.9)
    with pytest.raises(ResultError, match=r"changed after .* says novel = 0.9, and its crystals give 0.14"):
        read_result(copied)


def test_a_protocol_edited_by_hand_is_noticed(copied: Path) -> None:
    metrics = json.loads((copied / "metrics.json").read_text())
    edit(copied, protocol={**metrics["protocol"], "e_above_hull_max": 0.0})
    with pytest.raises(ResultError, match="changed after"):
        read_result(copied)


def test_another_table_or_none_is_noticed(copied: Path) -> None:
    table = CandidateTable.read(copied / "crystals.parquet")
    CandidateTable(table.frame.iloc[1:].reset_index(drop=True)).write(copied / "crystals.parquet")
    with pytest.raises(ResultError, match="not the table"):
        read_result(copied)
    (copied / "crystals.parquet").write_bytes(b"torn")
    with pytest.raises(ResultError, match="cannot be read"):
        read_result(copied)
    (copied / "metrics.json").write_text("{")
    with pytest.raises(ResultError, match="not valid JSON"):
        read_result(copied)
    (copied / "metrics.json").write_text("{}")
    with pytest.raises(ResultError, match="no result of crysjepa evaluate"):
        read_result(copied)


# -- comparing -------------------------------------------------------------------------------


@pytest.mark.slow
def test_samples_are_evaluated_under_the_protocol_and_ranked(
    tiny: TinyWorld, protocol: Protocol, evaluated: Path, salts: Crystals, tmp_path: Path
) -> None:
    """Our own result, a .pt as CDVAE writes it and a CSV of CIFs."""
    pair = salts.select(["NaCl", "LiF"])
    lengths = np.linalg.norm(pair.lattices, axis=2)
    torch.save(
        {
            "frac_coords": torch.tensor(pair.frac_coords)[None],
            "atom_types": torch.tensor(pair.atomic_numbers)[None],
            "num_atoms": torch.tensor(pair.num_atoms)[None],
            "lengths": torch.tensor(lengths)[None],
            "angles": torch.full((1, 2, 3), 60.0),
        },
        tmp_path / "eval_gen.pt",
    )
    with (tmp_path / "llm.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["gen_str", "cif", "model_name"])
        writer.writerow(["5.6 ...", salts.select(["KBr"]).to_structures()[0].to(fmt="cif"), "7b"])
        writer.writerow(["garbled", "this is no CIF", "7b"])
    arguments = {"reference": evaluated / "known.parquet", "hull": tiny.reference, "protocol": protocol}
    sources = [evaluated / "salts", f"DiffCSP={tmp_path / 'eval_gen.pt'}", tmp_path / "llm.csv"]
    out = tmp_path / "out"
    page = compare_crystals(sources, out, **arguments)
    result = json.loads((out / "comparison.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"salts", "DiffCSP", "llm"} and result["differences"] == []
    assert rows["llm"]["num_crystals"] == 2 and rows["llm"]["valid"] == 0.5, "what cannot be read counts"
    assert rows["DiffCSP"]["novel"] == 0.5
    key = result["ranked_by"]
    numbers = [row[key] for row in result["rows"]]
    assert key == "vsun" and numbers == sorted(numbers, reverse=True)
    assert [row["rank"] for row in result["rows"]] == [1, 2, 3]
    with (out / "comparison.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [line["name"] for line in lines] == [row["name"] for row in result["rows"]]
    assert float(lines[0]["novel"]) == result["rows"][0]["novel"]
    assert pq.read_table(out / "comparison.parquet").num_rows == 3
    text = (out / "comparison.md").read_text()
    assert "| 1 |" in text and "S.U.N." in text and "DiffCSP" in text
    html = page.read_text()
    assert "DiffCSP" in html and "<svg" in html
    for name in ("plane", "energies"):
        assert (out / f"{name}.png").stat().st_size > 1000 and (out / f"{name}.svg").exists()
    before = (out / "DiffCSP" / "crystals.parquet").stat().st_mtime_ns
    assert compare_crystals(sources, out, **arguments).read_text() == html
    assert (out / "DiffCSP" / "crystals.parquet").stat().st_mtime_ns == before, "not evaluated twice"


def test_results_of_different_protocols_are_refused(
    tiny: TinyWorld, protocol: Protocol, evaluated: Path, tmp_path: Path
) -> None:
    other = protocol.model_copy(update={"e_above_hull_max": 0.0, "relax": False})
    table = CandidateTable.read(tiny.reference)
    evaluate_crystals(table, reference=tiny.reference, hull=None, out=tmp_path / "other", protocol=other)
    sources = [evaluated / "salts", tmp_path / "other"]
    with pytest.raises(ResultError, match=r"e_above_hull_max: 0.1 \(salts\); 0.0 \(other\)") as error:
        compare_crystals(sources, tmp_path / "out")
    assert "novelty_set" in str(error.value) and "--anyway" in str(error.value)
    assert not (tmp_path / "out" / "comparison.html").exists()
    page = compare_crystals(sources, tmp_path / "out", anyway=True)
    assert "NOT obtained in the same way" in page.read_text()
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert any(line.startswith("relax:") for line in result["differences"])
    assert result["ranked_by"] == "novel", "one of them has no stability"


def test_what_belongs_to_a_generator_is_no_difference(evaluated: Path) -> None:
    (result,) = read_result(evaluated / "salts")
    tuned = {**result.protocol, "finetuning_set": "abc", "finetuning_set_name": "own", "preset": "mine"}
    other = type(result)("tuned", {**result.metrics, "protocol": tuned}, result.table)
    assert differences([result, other]) == []
    newer = {**result.protocol, "versions": {**result.protocol["versions"], "pymatgen": "1.0"}}
    other = type(result)("newer", {**result.metrics, "protocol": newer}, result.table)
    assert [line.split(":")[0] for line in differences([result, other])] == ["versions.pymatgen"]


def test_ties_are_called_so(evaluated: Path) -> None:
    (result,) = read_result(evaluated / "salts")
    found = comparison([result, type(result)("again", result.metrics, result.table)])
    assert [row["name"] for row in found["rows"]] == ["again", "salts"], "equal ones by name"
    assert found["rows"][1]["tie"] is True


def test_names_of_sets(tmp_path: Path) -> None:
    assert name_sources(["a/eval_gen.pt", "B=b/eval_gen.pt"]) == {
        "eval_gen": Path("a/eval_gen.pt"),
        "B": Path("b/eval_gen.pt"),
    }
    with pytest.raises(ValueError, match="two sets are called 'eval_gen'"):
        name_sources(["a/eval_gen.pt", "b/eval_gen.pt"])
    with pytest.raises(ValueError, match="at least one"):
        name_sources([])


# -- nothing, one, and two of a name ---------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1])
def test_a_set_of_none_and_a_set_of_one(
    tiny: TinyWorld, protocol: Protocol, salts: Crystals, tmp_path: Path, count: int
) -> None:
    table = CandidateTable.from_crystals(salts[:count])
    full = protocol.model_copy(update={"prototypes": True})
    metrics = evaluate_crystals(
        table, reference=tiny.reference, hull=tiny.reference, out=tmp_path / "e", protocol=full
    )
    assert metrics["num_crystals"] == count
    assert metrics["novel"] == (None if count == 0 else 0.0)
    (result,) = read_result(tmp_path / "e")
    assert len(result.table) == count
    page = compare_crystals([tmp_path / "e"], tmp_path / "c")
    assert "nothing to compare it with" in page.read_text()


def test_a_reference_with_duplicate_ids(tiny: TinyWorld, salts: Crystals, tmp_path: Path) -> None:
    """Two files of one folder may use the same ids; nothing of them is lost."""
    folder = tmp_path / "reference"
    folder.mkdir()
    for name, ids in (("a", ["NaCl", "KCl"]), ("b", ["LiF", "KBr"])):
        CandidateTable.from_crystals(salts.select(ids).with_ids(["mp-1", "mp-2"])).write(
            folder / f"{name}.parquet"
        )
    metrics = evaluate_crystals(
        CandidateTable.from_crystals(salts), reference=folder, hull=None, out=tmp_path / "e",
        protocol=Protocol(relax=False),
    )  # fmt: skip
    assert metrics["protocol"]["novelty_set_size"] == 4
    assert metrics["novel"] == pytest.approx(3 / 7)
    rows = CandidateTable.read(tmp_path / "e" / "crystals.parquet")
    assert rows.column("matches", ["NaCl", "LiF"]) == ["mp-1", "mp-1#2"]


def test_the_reduced_reference_is_kept_for_the_next_set(
    tiny: TinyWorld, salts: Crystals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYSJEPA_DATA", str(tmp_path / "cache"))
    arguments = {"reference": tiny.reference, "hull": None, "protocol": Protocol(relax=False)}
    table = CandidateTable.from_crystals(salts)
    evaluate_crystals(table, out=tmp_path / "a", **arguments)
    (kept,) = (tmp_path / "cache" / "matching").iterdir()
    written = kept.read_bytes()
    evaluate_crystals(table, out=tmp_path / "b", **arguments)
    assert kept.read_bytes() == written
    first, second = (tmp_path / n / "crystals.parquet" for n in "ab")
    assert first.read_bytes() == second.read_bytes()


# -- the trade-off ---------------------------------------------------------------------------


def test_tradeoff_along_any_column(copied: Path) -> None:
    page = tradeoff_of_result(copied, by="e_above_hull")
    result = json.loads((copied / "tradeoff.json").read_text())
    curves = result["curves"]
    assert curves["percentiles"][-1] == 100 and curves["num"][-1] == 7 - curves["without_distance"]
    assert "<svg" in page.read_text()
    assert pq.read_table(copied / "tradeoff.parquet").column_names == ["id", "e_above_hull"]
    with pytest.raises(ValueError, match=r"no column 'wrong' .* e_above_hull"):
        tradeoff_of_result(copied, by="wrong")
    with pytest.raises(ValueError, match="does not hold numbers"):
        tradeoff_of_result(copied, by="formula")
    with pytest.raises(ValueError, match="need --reference"):
        tradeoff_of_result(copied)


# -- runs of the loop ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_rounds_of_a_run_are_sets_of_their_own(tiny: TinyWorld, tmp_path: Path) -> None:
    from crysjepa.discovery.config import DiscoverConfig
    from crysjepa.discovery.loop import discover_crystals

    config = DiscoverConfig.model_validate(
        {
            "reference": str(tiny.reference),
            "generator": str(tiny.generator),
            "jepa": str(tiny.jepa),
            "num": 8,
            "num_refined": 4,
            "finetune": {"steps": 2, "batch_size": 4, "warmup": 1, "record_every": 1, "checkpoint_every": 1},
            "protocol": {**tiny.protocol, "e_above_hull_max": 50.0},
        }
    )
    discover_crystals(config, tmp_path / "run")
    base, refined = read_result(tmp_path / "run")
    assert [base.name, refined.name] == ["run (base)", "run (refined)"]
    assert [base.metrics["num_crystals"], refined.metrics["num_crystals"]] == [8, 4]
    page = compare_crystals([tmp_path / "run"], tmp_path / "out")
    assert "run (base)" in page.read_text()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    metrics["rounds"][1]["valid"] = 0.123
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ResultError, match=r"valid = 0.123, but its crystals give"):
        read_result(tmp_path / "run")
