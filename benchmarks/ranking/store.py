"""What was computed, on disk, under a hash of everything that it depends on: a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import crysjepa
from crysjepa.runtime.files import read_json, write_json, write_parquet
from crysjepa.runtime.run_directory import versions

RANKING = ("core", "energy", "jepa", "matching", "nn", "ranking", "relaxation")
GENERATION = ("core", "generators", "nn")
FINGERPRINTS = ("core/crystals.py", "ranking/embedders.py", "ranking/fingerprints")
"""Packages of crysjepa that a result can depend on: with other code in these, what was kept is not used."""


@dataclass(frozen=True)
class Store:
    """Tables and JSON values in a folder, each under a name and the key of what it was made from."""

    folder: Path
    packages: tuple[str, ...] = RANKING

    def table(self, name: str, parts: tuple[str, ...], make: Callable[[], pa.Table]) -> pa.Table:
        """What ``make`` returned when it was first called for this name and these parts."""
        path = self.path(name, parts, "parquet")
        if not path.exists():
            write_parquet(make(), path)
        return pq.read_table(path)

    def value(self, name: str, parts: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """The same for what JSON can hold."""
        path = self.path(name, parts, "json")
        if not path.exists():
            write_json(path, make())
        return read_json(path)

    def path(self, name: str, parts: tuple[str, ...], suffix: str) -> Path:
        """Where a result of these parts belongs, under this code and these versions."""
        what = json.dumps([name, *parts, versions(), code_hash(self.packages)], sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.{suffix}"


@lru_cache(maxsize=8)
def code_hash(packages: tuple[str, ...]) -> str:
    """SHA-256 of the sources of these packages, and of the benchmark's own that compute."""
    package, here = Path(crysjepa.__file__).parent, Path(__file__).parent
    places = [package / part for part in packages]
    if packages == RANKING:
        places += [here / "distances.py", here / "scoring.py"]
    digest = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
