"""What a plan reads is looked at before any work."""

from importlib import metadata

import numpy as np
import pytest

from conftest import TinyWorld
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.metrics import scale_of
from crysjepa.reproduction.inputs import Inputs
from crysjepa.reproduction.plan import Plan, plan_for


@pytest.fixture
def plan(tiny: TinyWorld) -> Plan:
    known = str(tiny.reference)
    changes = {
        "training": known, "pretraining": (known,), "reference": known, "hull": known,
        "force_field": "chgnet", "rankers": ("jepa-distance", "random"),
    }  # fmt: skip
    return plan_for("paper-mp20", 1 / 64).model_copy(update=changes)


def test_what_is_here_passes(plan: Plan) -> None:
    Inputs().check(plan)


def test_a_ranker_needs_energies_of_the_training_crystals(plan: Plan, salts: Crystals, tmp_path) -> None:
    CandidateTable.from_crystals(salts).write(tmp_path / "bare.parquet")
    bare = plan.model_copy(update={"training": str(tmp_path / "bare.parquet")})
    Inputs().check(bare)
    with pytest.raises(ValueError, match="chgnet ranks by the energies"):
        Inputs().check(bare.model_copy(update={"rankers": ("jepa-distance", "chgnet")}))


def test_a_missing_package_is_named(plan: Plan) -> None:
    try:
        metadata.version("mattersim")
    except metadata.PackageNotFoundError:
        with pytest.raises(ImportError, match=r"crysjepa\[mattersim\]|mattersim"):
            Inputs().check(plan.model_copy(update={"force_field": "mattersim"}))


def test_data_that_are_not_here_are_named_first(plan: Plan, tiny: TinyWorld, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    missing = plan.model_copy(update={"pretraining": ("mp_2022",)})
    with pytest.raises(ValueError, match=r"(?s)mp_2022|2023-02-07.*settings of --config"):
        Inputs(tmp_path).check(missing)
    Inputs(tmp_path).check(missing.model_copy(update={"jepa": str(tiny.jepa)}))


def test_a_path_in_the_folder_of_the_data_wins_over_a_name(tiny: TinyWorld, tmp_path) -> None:
    (tmp_path / "mp_2022").write_bytes(tiny.reference.read_bytes())
    assert Inputs(tmp_path).source("mp_2022") == str(tmp_path / "mp_2022")
    assert Inputs(tmp_path).source("known") == "known", "it is bundled"


def test_large_crystals_are_not_pretrained_on(salts: Crystals, tmp_path) -> None:
    large = Crystals(
        np.full(21, 14),
        np.linspace(0, 0.9, 63).reshape(21, 3),
        9 * np.eye(3)[None],
        np.array([21]),
        ("large",),
    )
    table = CandidateTable.from_crystals(Crystals.concatenate([salts, large]))
    table.write(tmp_path / "both.parquet", {"scale": "some_scale"})
    kept = Inputs().small(str(tmp_path / "both.parquet"), tmp_path / "small" / "0.parquet")
    assert CandidateTable.read(kept).ids == list(salts.ids)
    assert scale_of(kept) == "some_scale", "mixed scales are refused by what files say of theirs"
    CandidateTable.from_crystals(salts).write(tmp_path / "salts.parquet")
    assert Inputs().small(str(tmp_path / "salts.parquet"), tmp_path / "1.parquet") == str(
        tmp_path / "salts.parquet"
    )


def test_models_are_read_before_any_work(plan: Plan, tmp_path) -> None:
    (tmp_path / "broken").write_bytes(b"no model")
    for name in ("jepa", "generator"):
        with pytest.raises(ValueError, match="broken"):
            Inputs().check(plan.model_copy(update={name: str(tmp_path / "broken")}))


def test_pretraining_crystals_need_energies(plan: Plan, salts: Crystals, tmp_path) -> None:
    CandidateTable.from_crystals(salts).write(tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="Crys-JEPA learns from the column"):
        Inputs().check(plan.model_copy(update={"pretraining": (str(tmp_path / "bare.parquet"),)}))
