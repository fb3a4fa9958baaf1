"""Crys-JEPA, trained on a table that ``data/jepa_data.py pack`` made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.network import JepaConfig
from crysjepa.nn.training import Training, TrainSettings


def pretrain_packed(
    path: Path, config: JepaConfig, settings: TrainSettings, *, init: CrysJepa | None = None, **options: Any
) -> tuple[CrysJepa, Training]:
    """:meth:`CrysJepa.pretrain` from columns of Parquet: of crystals, ``formation_energy_per_atom``,
    ``relaxed_formation_energy_per_atom`` and ``site_energies``.

    ``config`` is for random weights to start from; ``init`` has its own.
    """
    table = pq.read_table(path)
    crystals = Crystals.from_arrow(table.select(["id", "atomic_numbers", "frac_coords", "lattice"]))
    return CrysJepa.pretrain(
        crystals,
        table["formation_energy_per_atom"].to_numpy(),
        init.model.config if init else config,
        settings,
        relaxed_energies=table["relaxed_formation_energy_per_atom"].to_numpy(),
        site_energies=table["site_energies"].combine_chunks().flatten().to_numpy(zero_copy_only=False),
        scale="materials_project",
        init=init,
        **options,
    )
