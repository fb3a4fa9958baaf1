"""The weights that ship with crysjepa."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """Path of the shipped checkpoint: ``"jepa"``, ``"generator"`` (the flow) or ``"ddpm"`` (the paper's)."""
    return Path(__file__).parent / f"{name}.safetensors"
