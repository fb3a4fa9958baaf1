"""A verb's work in parts, as the tasks of an array do it, and their merging: the same bytes as in one go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.protocol import Protocol
from crysjepa.generators import sampling
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.parts import Part
from crysjepa.workflows import embed as embedding
from crysjepa.workflows.output import OutputError


@pytest.fixture
def candidates(salts: Crystals, tmp_path: Path) -> Path:
    table = CandidateTable.from_crystals(salts, {"torn": "unreadable"})
    table.write(tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def arguments(verb: str, source: Path, out: Path, tiny: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    protocol = Protocol.model_validate({**tiny.protocol, "relaxation": {"max_steps": 2, "chunk_size": 2}})
    settings = RelaxSettings(max_steps=2, chunk_size=2)
    return {
        "generate": ((300, out), {"generator": tiny.generator, "seed": 3, "processes": 1}),
        "relax": ((source, out), {"force_field": protocol.force_field, "settings": settings}),
        "screen": ((source, tiny.reference, out), {"by": "composition"}),
        "embed": ((source, out), {"jepa": tiny.jepa}),
        "evaluate": ((source, out), {"reference": tiny.reference, "protocol": protocol}),
    }[verb]


def files(out: Path) -> dict[str, bytes]:
    if out.is_file():
        return {"": out.read_bytes()}
    return {name: (out / name).read_bytes() for name in ("crystals.parquet", "metrics.json")}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["generate", "relax", "screen", "embed", "evaluate"])
def test_parts_merge_to_the_bytes_of_one_go(
    verb: str, candidates: Path, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "EMBEDDED_AT_ONCE", 2)
    monkeypatch.setattr(sampling, "BLOCK", 64)
    suffix = "" if verb == "evaluate" else ".parquet"
    whole, shared = tmp_path / f"whole{suffix}", tmp_path / f"shared{suffix}"
    given, options = arguments(verb, candidates, whole, tiny)
    getattr(api, verb)(*given, **options)
    given, options = arguments(verb, candidates, shared, tiny)
    done = [api.work_on_part(Part(n, 3), verb, *given, **options) for n in (3, 1)]
    with pytest.raises(OutputError, match="of 3 parts, 2 is missing"):
        api.merge(shared)
    done.append(api.work_on_part("2/3", verb, *given, **options))
    assert sum(d.num_chunks for d in done) == done[0].total
    api.merge(shared)
    assert files(shared) == files(whole)
    assert not list(tmp_path.rglob("part-*.json"))


def test_parts_that_were_done_elsewhere_are_brought(candidates: Path, tiny: Any, tmp_path: Path) -> None:
    given, options = arguments("relax", candidates, tmp_path / "out.parquet", tiny)
    folders = []
    for number in (1, 2):
        api.work_on_part(Part(number, 2), "relax", *given, **options)
        folders.append(tmp_path / f"machine-{number}")
        (tmp_path / "out.parquet.shards").rename(folders[-1])
    with pytest.raises(OutputError, match="no parts of"):
        api.merge(tmp_path / "out.parquet")
    shutil.copytree(folders[0], tmp_path / "again")
    with pytest.raises(OutputError, match="part 1 is there twice"):
        api.merge(tmp_path / "out.parquet", [*folders, tmp_path / "again"])
    chunk = next(folders[1].glob("chunk-*.parquet"))
    held = chunk.read_bytes()
    chunk.write_bytes(held[:-1])
    with pytest.raises(OutputError, match=r"part 2: .* is damaged: do this part anew"):
        api.merge(tmp_path / "out.parquet", folders)
    chunk.write_bytes(held)
    table = api.merge(tmp_path / "out.parquet", folders)
    assert len(table) == 8


def test_a_part_of_other_settings_is_named(candidates: Path, tiny: Any, tmp_path: Path) -> None:
    given, options = arguments("relax", candidates, tmp_path / "out.parquet", tiny)
    api.work_on_part(Part(1, 2), "relax", *given, **options)
    other = options | {"settings": RelaxSettings(max_steps=2, chunk_size=2, fmax=0.07)}
    api.work_on_part(Part(2, 2), "relax", *given, **other)
    with pytest.raises(OutputError, match=r"part 2 .*fmax was 0.07, is 0.05"):
        api.merge(tmp_path / "out.parquet")
    with pytest.raises(OutputError, match="is of 2 parts, and this is part 2/3: say --part 2/2"):
        api.work_on_part(Part(2, 3), "relax", *given, **options)
    elsewhere = tmp_path / "elsewhere" / "out.parquet"
    given, options = arguments("relax", candidates, elsewhere, tiny)
    api.work_on_part(Part(2, 3), "relax", *given, **options)
    with pytest.raises(OutputError, match="other numbers of parts"):
        api.merge(tmp_path / "out.parquet", [elsewhere.with_name("out.parquet.shards")])


def test_what_is_not_shared_out(candidates: Path, tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the work of train is not shared out"):
        api.work_on_part("1/2", "train", candidates, tmp_path / "out")
    with pytest.raises(UsageError, match="all in one piece"):
        api.work_on_part("1/2", "generate", 10, tmp_path / "new.parquet", generator="substitution")
    with pytest.raises(ValueError, match="only relaxation is shared out"):
        api.work_on_part("1/2", "evaluate", candidates, tmp_path / "e", reference=tiny.reference,
                         protocol=Protocol(relax=False))  # fmt: skip


def test_a_part_by_name_and_by_array() -> None:
    assert Part.parse("3/10") == Part(3, 10)
    array = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert Part.parse("auto", array) == Part(2, 4)
    assert Part.parse("auto", array | {"SLURM_ARRAY_TASK_MIN": "0"}) == Part(3, 4)
    for wrong in ("0/3", "4/3", "1/0", "a/2", "2", "auto"):
        with pytest.raises(UsageError, match="--part"):
            Part.parse(wrong, {})
    with pytest.raises(UsageError, match="without gaps"):
        Part.parse("auto", array | {"SLURM_ARRAY_TASK_ID": "11"})
    again = {name: "2" for name in array} | {"SLURM_ARRAY_TASK_COUNT": "1"}  # sbatch --array=2
    with pytest.raises(UsageError, match=r"say --part 2/N"):
        Part.parse("auto", again)


def test_parts_are_of_like_weight_and_hold_everything_once() -> None:
    weights = [100.0, 1, 1, 1, 50, 49, 3, 3, 90]
    shares = [Part(n, 3).own(weights) for n in (1, 2, 3)]
    assert sorted(c for share in shares for c in share) == list(range(9))
    loads = [sum(weights[c] for c in share) for share in shares]
    assert max(loads) - min(loads) <= 3


def test_the_command_line(candidates: Path, tiny: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from crysjepa.cli.main import app

    out = tmp_path / "ranked.parquet"
    command = ["screen", str(candidates), "--reference", str(tiny.reference), "--by", "composition",
               "--out", str(out)]  # fmt: skip
    for number in (1, 2):
        result = CliRunner().invoke(app, [*command, "--part", f"{number}/2"])
        assert result.exit_code == 0, result.output
        assert f"part {number}/2 is done" in result.output
    assert not out.exists()
    result = CliRunner().invoke(app, ["merge", str(out)])
    assert result.exit_code == 0, result.output
    assert out.exists() and not (tmp_path / "ranked.parquet.shards").exists()
