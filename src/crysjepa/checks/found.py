"""What was found of one crystal, and the file it is kept in until all are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crysjepa import __version__
from crysjepa.core.crystals import Crystals
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.files import read_json, write_json


@dataclass
class Found:
    """Values by column, and reasons for those that are missing, of one crystal."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def say(self, what: str, reason: str | None) -> None:
        if reason is not None:
            self.reasons.append(f"{what}: {reason}")

    def write(self, path: Path) -> None:
        """Keep it, whole or not at all."""
        write_json(path, {"values": self.values, "reasons": self.reasons})

    @classmethod
    def read(cls, path: Path | None) -> Found | None:
        """What was kept; None where there is no such file, or none that can be read."""
        if path is None:
            return None
        try:
            kept = read_json(path)
            return cls(dict(kept["values"]), list(kept["reasons"]))
        except (OSError, RunError, KeyError, TypeError, ValueError):
            return None


def shard_path(folder: Path, crystal: Crystals, asked: Sequence[object]) -> Path:
    """Where a crystal's result belongs: its name is a hash of everything that the result depends on."""
    what = json.dumps([crystal.content_hash(), __version__, *asked])
    return folder / f"crystal-{hashlib.sha256(what.encode()).hexdigest()[:24]}.json"
