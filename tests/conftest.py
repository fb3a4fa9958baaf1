"""Small real crystals for every test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from pymatgen.core import Element

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.flow.paths import FlowConfig
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import JepaConfig
from crysjepa.nn.training import TrainSettings

settings.register_profile("no deadlines", deadline=None)  # no test asserts a time
settings.load_profile("no deadlines")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is left in the user's cache folder, and nothing is taken from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRYSJEPA_DATA", str(tmp_path_factory.mktemp("cache")))
        yield


def rock_salt(cation: int, anion: int, a: float) -> tuple[list[int], list[list[float]], np.ndarray]:
    """Primitive cell of a rock salt with cubic lattice constant a (Å)."""
    cell = a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return [cation, anion], [[0.0, 0, 0], [0.5, 0.5, 0.5]], cell


def make_salts() -> Crystals:
    """Six rock salts of two sites and one perovskite of five: NaCl, KCl, LiF, MgO, CaO, KBr, SrTiO3."""
    cells = [
        rock_salt(11, 17, 5.64),
        rock_salt(19, 17, 6.29),
        rock_salt(3, 9, 4.03),
        rock_salt(12, 8, 4.21),
        rock_salt(20, 8, 4.81),
        rock_salt(19, 35, 6.60),
    ]
    perovskite = (
        [38, 22, 8, 8, 8],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]],
        3.905 * np.eye(3),
    )
    cells.append(perovskite)
    return Crystals(
        np.concatenate([z for z, _, _ in cells]),
        np.concatenate([x for _, x, _ in cells]),
        np.stack([c for _, _, c in cells]),
        np.array([len(z) for z, _, _ in cells]),
        ("NaCl", "KCl", "LiF", "MgO", "CaO", "KBr", "SrTiO3"),
    )


@pytest.fixture
def salts() -> Crystals:
    """See :func:`make_salts`."""
    return make_salts()


TINY_INVARIANT = InvariantConfig(layers=2, width=32, channels=8, degrees=(16, 8, 8, 4), hidden=32)
"""An invariant encoder of a few thousand weights."""


def crystals_of(cells, prefix):
    """Crystals of (atomic numbers, coordinates, lattice), named by the prefix and their number."""
    return Crystals(
        np.concatenate([z for z, _, _ in cells]),
        np.concatenate([x for _, x, _ in cells]),
        np.stack([c for _, _, c in cells]),
        np.array([len(z) for z, _, _ in cells]),
        tuple(f"{prefix}-{i}" for i in range(len(cells))),
    )


LENNARD_JONES = "ase.calculators.lj:LennardJones"


@dataclass(frozen=True)
class TinyWorld:
    """Files for a run of the whole loop in seconds: models of a few thousand weights, six known salts."""

    folder: Path
    reference: Path
    generator: Path
    jepa: Path
    elements: Path

    @property
    def protocol(self) -> dict[str, object]:
        """Lennard-Jones for a force field, elements at zero, three steps of relaxation."""
        return {
            "force_field": LENNARD_JONES,
            "elemental_references": str(self.elements),
            "relaxation": {"max_steps": 3, "chunk_size": 4},
        }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Trained once a session."""
    folder = tmp_path_factory.mktemp("tiny")
    crystals = make_salts()
    energies = np.array([-2.1, -2.2, -3.1, -3.0, -3.3, -2.0, -3.5])
    known = CandidateTable.from_crystals(crystals).with_column(
        "formation_energy_per_atom", dict(zip(crystals.ids, energies, strict=True)), "Float64"
    )
    world = TinyWorld(
        folder,
        folder / "known.parquet",
        folder / "generator.safetensors",
        folder / "jepa.safetensors",
        folder / "elements.json",
    )
    known.write(world.reference)
    canonical, _ = canonicalise(crystals)
    settings = TrainSettings(
        steps=400, batch_size=7, warmup=10, learning_rate=3e-3, checkpoint_every=400, record_every=100
    )
    generator, _ = FlowGenerator.train(canonical, FlowConfig(TINY_INVARIANT), settings)
    generator.steps = 8
    generator.save(world.generator)
    CrysJepa.pretrain(
        canonical,
        energies,
        JepaConfig(TINY_INVARIANT, "energy"),
        settings,
        relaxed_energies=energies,
        scale="materials_project",
    )[0].save(world.jepa)
    zero = {Element.from_Z(z).symbol: 0.0 for z in range(1, 101)}
    references = ElementalReferences(zero, LENNARD_JONES, "materials_project", "nothing", None, None)
    world.elements.write_text(references.to_json(), encoding="utf-8")
    return world
