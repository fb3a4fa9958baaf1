"""The paper's loop by the paper's own models: DDPM, Transformer with InfoNCE, D_C, the best share, once more.

All are of toy size, and overfitted on one chemical system, so that what is drawn can be decoded and has known
crystals to be near to.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import LENNARD_JONES, TinyWorld, crystals_of, rock_salt
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.discovery.config import PRESETS, DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.generators.base import load_generator
from crysjepa.generators.diffusion.generator import DiffusionConfig, DiffusionGenerator
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.network import JepaConfig
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig


def phases() -> Crystals:
    """Seven of NaCl: three rock salts, two of CsCl's kind, two zincblendes, at several volumes."""
    cells = [rock_salt(11, 17, a) for a in (5.3, 5.64, 6.0)]
    cells += [([11, 17], [[0.0, 0, 0], [0.5, 0.5, 0.5]], a * np.eye(3)) for a in (3.3, 3.6)]
    cells += [([11, 17], [[0.0, 0, 0], [0.25, 0.25, 0.25]], rock_salt(11, 17, a)[2]) for a in (5.5, 6.0)]
    return crystals_of(cells, "phase")


@pytest.fixture(scope="module")
def run(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    crystals, energies = phases(), np.linspace(-2.0, -1.4, 7)
    canonical, _ = canonicalise(crystals)
    DiffusionGenerator.train(
        canonical,
        DiffusionConfig(TransformerConfig(layers=2, width=160, heads=4), timesteps=16),
        TrainSettings(
            steps=800, batch_size=32, learning_rate=2e-3, warmup=20, ema_decay=0.98, checkpoint_every=800
        ),
    )[0].save(folder / "ddpm.safetensors")
    CrysJepa.pretrain(
        canonical,
        energies,
        JepaConfig(TransformerConfig(layers=2, width=32, heads=4), "info-nce"),
        TrainSettings(steps=50, batch_size=7, warmup=5, learning_rate=1e-3, checkpoint_every=50),
        scale="materials_project",
    )[0].save(folder / "jepa.safetensors")
    table = CandidateTable.from_crystals(crystals).with_column(
        "formation_energy_per_atom", dict(zip(crystals.ids, energies.tolist(), strict=True)), "Float64"
    )
    table.write(folder / "known.parquet")
    paper = PRESETS["paper-mp20"]
    changes = {
        "reference": str(folder / "known.parquet"), "hull": str(folder / "known.parquet"),
        "generator": str(folder / "ddpm.safetensors"), "jepa": str(folder / "jepa.safetensors"),
        "num": 24, "num_refined": 8, "keep": 0.25,
        "finetune": {"steps": 3, "batch_size": 4, "warmup": 1},
        "protocol": {
            **paper.protocol.model_dump(), "force_field": LENNARD_JONES,
            "elemental_references": str(tiny.elements), "relaxation": {"max_steps": 3, "chunk_size": 8},
            "e_above_hull_max": 50.0,
        },
    }  # fmt: skip
    discover_crystals(DiscoverConfig.model_validate({**paper.model_dump(), **changes}), folder / "run")
    return folder / "run"


def test_what_is_drawn_can_be_decoded(run: Path) -> None:
    drawn = CandidateTable.read(run / "round-0" / "generated.parquet")
    assert len(drawn.ok_ids) == 24
    salts = sum(f == "NaCl" for f in drawn.crystals(drawn.ok_ids).reduced_formulas())
    assert salts >= 8, "it was trained on nothing else"


def test_the_nearest_of_the_vun_crystals_are_learnt_from(run: Path) -> None:
    judged = CandidateTable.read(run / "round-0" / "judged.parquet")
    columns = ("score", "valid", "unique", "novel", "status", "selected", "id")
    rows = list(zip(*(judged.column(c) for c in columns), strict=True))
    vun = [(score, i) for score, *flags, status, _, i in rows if status != "failed" and all(flags)]
    nearest = sorted((score, i) for score, i in vun if score is not None)[: -(-len(vun) // 4)]
    assert nearest and {i for _, i in nearest} == {row[-1] for row in rows if row[-2]}
    learnt = CandidateTable.read(run / "round-1" / "finetuning_set.parquet")
    assert learnt.ids == [i for _, i in nearest]


def test_the_diffusion_model_is_another_one_then(run: Path) -> None:
    refined = load_generator(run / "round-1" / "generator.safetensors")
    assert isinstance(refined, DiffusionGenerator) and refined.origin["finetuned_from"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert [r["num_crystals"] for r in metrics["rounds"]] == [24, 8]
    assert metrics["protocol"]["ranker"] == "jepa-distance" and metrics["num_selected"][0] > 0
    assert 0 < metrics["rounds"][0]["valid"] <= 1
