"""Speed of training and sampling at the paper's sizes and at a quarter of them, and what the chip can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import Clock, keep, name_of, say

from crysjepa.core.crystals import Crystals
from crysjepa.generators.diffusion.denoiser import Denoiser
from crysjepa.generators.diffusion.generator import PAPER as PAPER_DDPM
from crysjepa.generators.diffusion.generator import DiffusionConfig, DiffusionGenerator
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.network import PAPER as PAPER_JEPA
from crysjepa.jepa.network import JepaConfig
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig

TIMED = (20, 60)
"""Steps of a measurement: the first are not counted."""


def ceilings(device: str) -> dict[str, float]:
    """TFLOP/s of a large bf16 product, and GB/s of a copy, bytes read and written counted."""
    size = 8192 if device != "cpu" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    x = torch.randn(size * size, device=device)
    y = torch.empty_like(x)

    def seconds(work: Callable[[], Any]) -> float:
        found = []
        for _ in range(12):
            started = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            found.append(time.perf_counter() - started)
        return float(np.median(found[2:]))

    return {
        "bf16_tflops": 2 * size**3 / seconds(lambda: a @ b) / 1e12,
        "copy_gb_per_s": 2 * x.nbytes / seconds(lambda: y.copy_(x)) / 1e9,
    }


def measure(crystals: Crystals, out: Path, device: str, toy: bool) -> None:
    """Speed of training and sampling."""
    top = ceilings(device)
    say(f"{top['bf16_tflops']:.0f} TFLOP/s, {top['copy_gb_per_s']:.0f} GB/s")
    found: dict[str, Any] = {"device": name_of(device), "torch": torch.__version__, **top, "models": []}
    sizes = {
        "DDPM, the paper's size": PAPER_DDPM.denoiser,
        "DDPM, a quarter": TransformerConfig(layers=12, width=512, heads=8, dropout=0.01),
    }
    for name, size in sizes.items():
        size = TransformerConfig(layers=1, width=32, heads=4) if toy else size
        found["models"].append(ddpm_speed(name, size, crystals, device, toy, top))
        keep(out / "speed.json", found)
    paper = PAPER_JEPA.network
    assert isinstance(paper, TransformerConfig)
    for name, width in {"Crys-JEPA, the paper's size": paper.width, "Crys-JEPA, a quarter": 256}.items():
        network = TransformerConfig(layers=1 if toy else paper.layers, width=32 if toy else width, heads=16)
        found["models"].append(jepa_speed(name, JepaConfig(network), crystals, device, toy, top))
        keep(out / "speed.json", found)


def speed_settings(batch: int, toy: bool) -> TrainSettings:
    """For a measurement of training."""
    skip, steps = (2, 4) if toy else TIMED
    return TrainSettings(
        steps=steps,
        batch_size=32 if toy else batch,
        warmup=skip,
        checkpoint_every=steps,
        record_every=steps,
        compiled=not toy,
    )


def ddpm_speed(
    name: str, size: TransformerConfig, crystals: Crystals, device: str, toy: bool, top: dict[str, float]
) -> dict[str, Any]:
    """Training and sampling of the paper's generator at a size."""
    config = DiffusionConfig(size, timesteps=4 if toy else 256)
    parameters = sum(p.numel() for p in Denoiser(size).parameters())
    settings = speed_settings(4096, toy)
    clock = Clock(settings.warmup)
    generator, _ = DiffusionGenerator.train(crystals, config, settings, device=device, progress=clock)
    row = training_row(name, parameters, crystals, settings, clock, top)
    generator.denoiser.to(device)
    num = 16 if toy else 1024
    started = time.perf_counter()
    with torch.autocast(device, torch.bfloat16):
        generator.sample(num, seed=1, device=device)
    row["sampled_per_s"] = num / (time.perf_counter() - started)
    row["sampling_mfu"] = (
        2 * parameters * config.timesteps * float(crystals.num_atoms.mean()) * row["sampled_per_s"]
        / (top["bf16_tflops"] * 1e12)
    )  # fmt: skip
    say(
        f"{name}: {row['sampled_per_s']:.0f} drawn a second, {100 * row['sampling_mfu']:.0f} % of the ceiling"
    )
    return row


def jepa_speed(
    name: str, config: JepaConfig, crystals: Crystals, device: str, toy: bool, top: dict[str, float]
) -> dict[str, Any]:
    """Training of the paper's Crys-JEPA at a size; each crystal passes through it twice."""
    settings = speed_settings(4096, toy)
    clock = Clock(settings.warmup)
    energies = np.random.default_rng(0).normal(size=len(crystals))
    jepa, _ = CrysJepa.pretrain(crystals, energies, config, settings, device=device, progress=clock)
    parameters = sum(p.numel() for p in jepa.model.encoder.parameters())
    return training_row(name, parameters, crystals, settings, clock, top, passes=2)


def training_row(
    name: str,
    parameters: int,
    crystals: Crystals,
    settings: TrainSettings,
    clock: Clock,
    top: dict[str, float],
    passes: int = 1,
) -> dict[str, Any]:
    """Floating-point operations by the usual rule, 6 for each parameter and token, padding not counted."""
    per_second = clock.steps * min(settings.batch_size, len(crystals)) / clock.seconds
    flops = 6 * parameters * float(crystals.num_atoms.mean()) * passes * per_second
    row: dict[str, Any] = {
        "name": name,
        "parameters": parameters,
        "batch": settings.batch_size,
        "trained_per_s": per_second,
        "ms_a_step": 1000 * clock.seconds / clock.steps,
        "training_mfu": flops / (top["bf16_tflops"] * 1e12),
    }
    say(
        f"{name}: {parameters / 1e6:.1f} M, {per_second:.0f} crystals a second, {row['ms_a_step']:.1f} ms "
        f"a step, {100 * row['training_mfu']:.0f} % of the ceiling"
    )
    return row
