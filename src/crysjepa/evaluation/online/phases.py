"""Known phases of chemical systems, fetched over the network: they make a convex hull fuller.

The databases are asked by OPTIMADE (C. W. Andersen et al., Scientific Data 8 (2021) 217), through the client
of the package ``optimade``; the Materials Project also by its own ``mp_api``. What came is kept, a Parquet
file for each set of elements, and is not asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.chemical_systems import atomic_numbers, subsystems
from crysjepa.datasets import cache_folder
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.online.providers import PROVIDERS, Phase, Provider
from crysjepa.evaluation.online.sources import MaterialsProject, Optimade
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.files import metadata_of, write_parquet
from crysjepa.runtime.progress import Progress

__all__ = ["PROVIDERS", "Provider", "fetch_phases"]


def fetch_phases(
    chemical_systems: Sequence[str],
    provider: str,
    *,
    base_url: str | None = None,
    cache: Path | None = None,
    api_key: str | None = None,
    progress: Progress | None = None,
) -> Hull:
    """The hull of all compounds that a database knows in these chemical systems and their subsystems.

    An entry stands for the database's own hull at its composition, formation energy − max(e_above_hull, 0),
    where the database gives both. Without any compound it is the hull of the elements alone.

    Parameters
    ----------
    chemical_systems
        Such as ``"Li-O-P"``. One that lies within another is not asked for twice.
    provider
        A key of :data:`PROVIDERS`.
    base_url
        Another place where the same database answers.
    cache
        Where what came is kept; by default ``phases/provider`` in :func:`crysjepa.datasets.cache_folder`. It
        does not grow old: delete it to fetch anew.
    api_key
        The key of a provider that needs one; by default that in its environment variable.
    progress
        Called as ``progress(done, total)``, in chemical systems.

    Returns
    -------
    A hull on the provider's scale. Entries without an energy or a readable formula are in its ``skipped``.

    Raises
    ------
    DatasetError
        If the provider or an element is unknown, a key is missing, the server cannot be reached or refuses,
        or what it sent is not whole or not what was asked for. What came before is kept.
    ValueError
        If compounds came, and none has a formation energy.
    ImportError
        If the package that asks the provider is not installed.
    """
    if provider not in PROVIDERS:
        raise DatasetError(f"no provider {provider!r}; the providers are {', '.join(PROVIDERS)}")
    known = PROVIDERS[provider]
    url = (base_url or known.base_url).rstrip("/").removesuffix("/v1")
    kept = _Kept(Path(cache) if cache is not None else cache_folder() / "phases" / provider, known, url)
    phases = _phases(_largest(chemical_systems), kept, api_key, progress)
    rows = [phase for name in sorted(phases) for phase in phases[name]]
    return Hull.from_entries(
        [row.composition or "" for row in rows],
        [row.height for row in rows],
        scale=known.scale,
        source=f"{known.name} (fetched {kept.dates()})",
        ids=[row.id for row in rows],
        elements_alone=not rows,
    )


def _phases(
    systems: Sequence[str], kept: _Kept, api_key: str | None, progress: Progress | None
) -> dict[str, list[Phase]]:
    """The phases of each system and its subsystems, as they were kept, or else fetched and kept."""
    source = None  # made only where something is missing: its package may not be there
    phases: dict[str, list[Phase]] = {}
    for done, system in enumerate(systems, start=1):
        names = [name for name in subsystems(system) if "-" in name and name not in phases]
        phases |= {name: found for name in names if (found := kept.read(name)) is not None}
        if missing := [name for name in names if name not in phases]:
            if source is None:
                source = kept.source(api_key)
            for name, found in source.fetch(system, missing):
                kept.write(name, found)
                phases[name] = found
        if progress:
            progress(done, len(systems))
    return phases


def _largest(chemical_systems: Iterable[str]) -> list[str]:
    """The systems that lie within no other; a single element has no compounds and is none of them."""
    largest: list[frozenset[str]] = []
    for name in sorted(set(chemical_systems), key=lambda name: (-name.count("-"), name)):
        elements = frozenset(name.split("-"))
        if unknown := sorted(elements - atomic_numbers().keys()):
            raise DatasetError(f"{name!r} is no chemical system such as 'Li-O-P': no element {unknown[0]!r}")
        if len(elements) > 1 and not any(elements <= other for other in largest):
            largest.append(elements)
    return sorted("-".join(sorted(elements)) for elements in largest)


# -- the cache ---------------------------------------------------------------------------------

_COLUMNS = pa.schema(
    [(n, pa.string()) for n in Phase._fields[:2]] + [(n, pa.float64()) for n in Phase._fields[2:]]
)


@dataclass
class _Kept:
    """What came of a provider before: a file for each exact set of elements."""

    folder: Path
    provider: Provider
    url: str
    fetched: set[str] = field(default_factory=set)

    def source(self, api_key: str | None) -> Optimade | MaterialsProject:
        """Where phases are fetched from. Raises as :func:`fetch_phases`."""
        if self.provider.key_variable:
            return MaterialsProject(self.provider, self.url, api_key)
        return Optimade(self.provider, self.url)

    def read(self, system: str) -> list[Phase] | None:
        """The phases that are kept; None if there are none, or the file is broken or of another server."""
        try:
            table = pq.read_table(self.folder / f"{system}.parquet")
            metadata = metadata_of(table.schema)
            if not table.schema.equals(_COLUMNS) or any(metadata[k] != v for k, v in self._about().items()):
                return None
            self.fetched.add(metadata["fetched"])
        except (OSError, pa.ArrowException, TypeError, KeyError, ValueError):
            return None
        return [Phase(**row) for row in table.to_pylist()]

    def write(self, system: str, phases: Sequence[Phase]) -> None:
        """Keep phases. Raises DatasetError if they cannot be written."""
        about = {**self._about(), "fetched": datetime.now(UTC).date().isoformat()}
        self.fetched.add(about["fetched"])
        table = pa.Table.from_pylist([phase._asdict() for phase in phases], schema=_COLUMNS)
        try:
            write_parquet(table, self.folder / f"{system}.parquet", about)
        except OSError as error:
            raise DatasetError(f"cannot keep the phases of {system} in {self.folder}: {error}") from error

    def dates(self) -> str:
        """When they were fetched."""
        return " to ".join(dict.fromkeys((min(self.fetched, default="-"), max(self.fetched, default="-"))))

    def _about(self) -> dict[str, str]:
        known = self.provider
        about = {"provider": known.name, "base_url": self.url, "scale": known.scale}
        return {**about, "licence": known.licence, "citation": known.citation}
