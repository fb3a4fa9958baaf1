"""How new a crystal is."""

from __future__ import annotations

from enum import StrEnum


class Grade(StrEnum):
    """Novelty in grades; :mod:`crysjepa.evaluation.grades` says which crystal has which."""

    KNOWN = "known"
    KNOWN_FORMULA = "known formula"
    NEW_FORMULA = "new formula"
