"""``crysjepa reproduce`` from the command line, with toy models that are overfitted on one salt."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import LENNARD_JONES, TinyWorld, crystals_of, rock_salt
from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals


def salts() -> Crystals:
    """NaCl at six volumes."""
    return crystals_of([rock_salt(11, 17, a) for a in (5.2, 5.4, 5.6, 5.8, 6.0, 6.2)], "phase")


def call(*args: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output


@pytest.fixture(scope="module")
def arguments(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("reproduce")
    crystals, energies = salts(), np.linspace(-2.0, -1.5, 6).tolist()
    known = CandidateTable.from_crystals(crystals).with_column(
        "formation_energy_per_atom", dict(zip(crystals.ids, energies, strict=True)), "Float64"
    )
    known.write(folder / "data" / "known.parquet")
    # what the base model learnt would match what it draws: D_C is measured from the elements, which are not
    elements = Crystals(
        np.array([11, 17]), np.zeros((2, 3)), np.stack([3.7 * np.eye(3), 4.1 * np.eye(3)]), np.array([1, 1]),
        ("sodium", "chlorine"),
    )  # fmt: skip
    CandidateTable.from_crystals(elements).with_column(
        "formation_energy_per_atom", dict.fromkeys(elements.ids, 0.0), "Float64"
    ).write(folder / "data" / "elements.parquet")
    (folder / "plan.toml").write_text(
        f'''
        training = "elements.parquet"
        pretraining = ["known.parquet"]
        reference = "elements.parquet"
        hull = "known.parquet"
        elemental_references = "{tiny.elements}"
        generator = "{folder}/ddpm.safetensors"
        num = 12
        keep = 0.25
        at_least = 2
        batches = 2
        batch_size = 3
        rankers = ["jepa-distance"]
        seeds = [0]
        figures = false
        relaxation = {{ max_steps = 3, chunk_size = 4 }}
        pretrain = {{ steps = 4, batch_size = 6, record_every = 2, checkpoint_every = 4 }}
        finetune = {{ steps = 3, batch_size = 4, record_every = 3, checkpoint_every = 3, warmup = 1 }}
        ''',
        encoding="utf-8",
    )
    call(
        "train", folder / "data" / "known.parquet", "--out", folder / "ddpm.safetensors",
        "--size", "paper/1024", "--config", _settings(folder),
    )  # fmt: skip
    return [
        "reproduce", "paper-mp20", "--data", folder / "data", "--out", folder / "out", "--scale", "1/1024",
        "--config", folder / "plan.toml", "--force-field", LENNARD_JONES, "--processes", 1,
    ]  # fmt: skip


def _settings(folder: Path) -> Path:
    path = folder / "train.toml"
    path.write_text(
        "steps = 500\nbatch_size = 24\nlearning_rate = 3e-3\nwarmup = 20\nema_decay = 0.98\n"
        "checkpoint_every = 500\nrecord_every = 100\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def out(arguments: list[object]) -> Path:
    call(*arguments)
    return Path(str(arguments[5]))


def test_the_base_and_every_ranker_have_a_row(out: Path) -> None:
    check_rows(out, ["jepa-distance"], seeds=1)


def check_rows(out: Path, rankers: list[str], seeds: int) -> None:
    rows = json.loads((out / "reproduction.json").read_text())["rows"]
    assert [r["ranker"] for r in rows] == [None, *rankers]
    assert [r["num_crystals"] for r in rows] == [12, *[6 * seeds] * len(rankers)], (
        "two batches of three a seed"
    )
    for row in rows[1:]:
        assert len(row["by_seed"]) == len(row["folders"]) == seeds
        assert row["rates"]["vsun"] <= row["rates"]["vsun_as_the_paper"] + 1e-12
        assert row["chosen"] >= 1
        assert all((out / f / "crystals.parquet").exists() for f in row["folders"])


def test_what_is_learnt_from_is_vun_whatever_its_energy(out: Path) -> None:
    pool = CandidateTable.read(out / "pool" / "crystals.parquet")
    fit = {
        i
        for i, *flags in zip(pool.ids, *(pool.column(c) for c in ("valid", "unique", "novel")), strict=True)
        if all(flags)
    }
    assert fit
    for path in out.glob("refined/*/choice-*/chosen.parquet"):
        chosen = CandidateTable.read(path)
        assert 1 <= len(chosen) <= max(2, -(-len(fit) // 4)) and set(chosen.ids) <= fit


def test_the_page_says_in_what_it_departs(out: Path) -> None:
    text = (out / "reproduction.md").read_text()
    for words in ("Where it departs", "paper/1024", "LennardJones", "known.parquet", "--ablations", "23.3"):
        assert words in text
    assert "at scale 1/1024" in (out / "reproduction.html").read_text()


def test_what_is_done_is_not_done_again(out: Path, arguments: list[object]) -> None:
    done = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    before = (out / "reproduction.json").read_bytes()
    call(*arguments)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")} == done
    assert (out / "reproduction.json").read_bytes() == before


@pytest.mark.parametrize("scale", ["2", "0", "-1/4", "a quarter", "1/0"])
def test_a_wrong_scale_is_told_at_once(tmp_path: Path, scale: str) -> None:
    text = call("reproduce", "paper-mp20", "--out", tmp_path / "out", f"--scale={scale}", status=2)
    assert "--scale" in text and not (tmp_path / "out").exists()


def test_data_that_is_not_there_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    text = call(
        "reproduce", "paper-mp20", "--data", tmp_path / "data", "--out", tmp_path / "out", "--scale", "1/64",
        "--force-field", LENNARD_JONES, status=1,
    )  # fmt: skip
    words = " ".join(text.split())
    assert "mp_20_train" in words and "settings of --config" in words


@pytest.mark.slow
def test_training_crystals_need_no_energies(arguments: list[object], tmp_path: Path) -> None:
    """As those of Alex-MP-20, which come without."""
    data, settings = Path(str(arguments[3])), Path(str(arguments[9])).read_text(encoding="utf-8")
    elements = CandidateTable.read(data / "elements.parquet")
    CandidateTable(elements.frame.drop(columns="formation_energy_per_atom")).write(tmp_path / "bare.parquet")
    for old, new in (
        ("figures = false", "figures = true"), ('training = "elements', f'training = "{tmp_path}/bare'),
        ('["jepa-distance"]', '["jepa-distance", "random"]'), ("seeds = [0]", "seeds = [0, 1]"),
    ):  # fmt: skip
        assert old in settings
        settings = settings.replace(old, new)
    (tmp_path / "plan.toml").write_text(settings, encoding="utf-8")
    call(
        "reproduce", "paper-alex-mp20", "--data", data, "--out", tmp_path / "out", "--scale", "1/1024",
        "--config", tmp_path / "plan.toml", "--force-field", LENNARD_JONES, "--processes", 1,
    )  # fmt: skip
    text = (tmp_path / "out" / "reproduction.md").read_text()
    assert "28.8" in text, "of Table 3"
    assert (tmp_path / "out" / "fig-3" / "diagnosis.html").exists()
    check_rows(tmp_path / "out", ["jepa-distance", "random"], seeds=2)
    assert len(list((tmp_path / "out").glob("refined/random-*/choice-*"))) == 2, "another with another seed"
    assert len(list((tmp_path / "out").glob("refined/jepa-distance-*/choice-*"))) == 1
