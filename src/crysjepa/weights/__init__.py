"""The weights that ship with crysjepa."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """Path of the shipped checkpoint: ``"jepa"`` or ``"generator"``."""
    return Path(__file__).parent / f"{name}.safetensors"
