"""Known phases of chemical systems, fetched over the network: they make a convex hull fuller.

The databases are asked by OPTIMADE (C. W. Andersen et al., Scientific Data 8 (2021) 217), through the client of
the package ``optimade``; the Materials Project also by its own ``mp_api``. What came is kept, a Parquet file for
each set of elements, and is not asked for again.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa._download import DatasetError
from crysjepa.candidates import write_parquet
from crysjepa.chemical_systems import atomic_numbers, subsystems
from crysjepa.datasets import cache_folder
from crysjepa.energy.hull import Hull

if TYPE_CHECKING:
    import requests

__all__ = ["PROVIDERS", "Provider", "fetch_phases"]

TRIES = 5
"""How often a request is made before it counts as failed."""
FIRST_WAIT = 1.0
"""Seconds before the second try; each wait is twice the one before."""
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for a longer wait is not waited for."""
TIMEOUT = (20, 180)
"""Seconds to wait for a connection, and for the next bytes: a server may search for long."""

_TRY_AGAIN = (429, 500, 502, 503, 504)
_NOT_SUPPORTED = (400, 422, 501, 504)
"""Answers to a filter that a server does not know, or that is too much for it."""
_UNLIMITED = 10**9
_INSTALL = 'pip install "crysjepa[online]"'


@dataclass(frozen=True)
class Provider:
    """A database of computed crystals that answers over the network.

    Parameters
    ----------
    name
        What people call it, and how it is asked.
    base_url
        Where it answers, without the version.
    scale
        Which corrections and references its formation energies carry (see
        :func:`crysjepa.energy.references.check_scales`).
    licence, citation
        Of its data.
    formation_energy, e_above_hull
        Where an answer holds the two, in eV/atom: the keys to follow within an entry's attributes.
    formula
        The attribute that holds the composition.
    page_limit
        Entries to ask for at once.
    subsets
        Whether it is asked by ``elements HAS ONLY``, for a chemical system and its subsystems at once. If
        not, each is asked for by itself.
    key_variable
        The environment variable with the key that it needs; None if it needs none.
    """

    name: str
    base_url: str
    scale: str
    licence: str
    citation: str
    formation_energy: tuple[str, ...]
    e_above_hull: tuple[str, ...]
    formula: str = "chemical_formula_reduced"
    page_limit: int = 100
    subsets: bool = True
    key_variable: str | None = None


_MP = (
    "CC BY 4.0 (Materials Project)",
    "A. Jain et al., APL Materials 1 (2013) 011002, doi:10.1063/1.4812323",
)
_GGA_U = ("_mp_stability", "gga_gga+u")  # never the mixed one with r2SCAN: that is another scale

PROVIDERS: dict[str, Provider] = {
    "mp": Provider(
        "Materials Project by OPTIMADE",
        "https://optimade.materialsproject.org",
        "materials_project",
        *_MP,
        (*_GGA_U, "formation_energy_per_atom"),
        (*_GGA_U, "energy_above_hull"),
    ),
    # Millions of structures, and no index serves HAS ONLY: exact sets of elements are found at once.
    "alexandria": Provider(
        "Alexandria PBE by OPTIMADE",
        "https://alexandria.icams.rub.de/pbe",
        "alexandria_pbe",
        "CC BY 4.0 (Alexandria)",
        "J. Schmidt et al., Advanced Materials 35 (2023) 2210788, doi:10.1002/adma.202210788",
        ("_alexandria_formation_energy_per_atom",),
        ("_alexandria_hull_distance",),
        page_limit=500,
        subsets=False,
    ),
    # OQMD takes HAS ONLY for HAS ALL of exactly these elements: subsystems would be missing, without a word.
    "oqmd": Provider(
        "OQMD by OPTIMADE",
        "https://oqmd.org/optimade",
        "oqmd",
        "CC BY 4.0 (OQMD)",
        "J. E. Saal et al., JOM 65 (2013) 1501, doi:10.1007/s11837-013-0755-4; S. Kirklin et al., npj "
        "Computational Materials 1 (2015) 15010, doi:10.1038/npjcompumats.2015.10",
        ("_oqmd_delta_e",),
        ("_oqmd_stability",),
        subsets=False,
    ),
    "mp-api": Provider(
        "Materials Project by mp_api",
        "https://api.materialsproject.org",
        "materials_project",
        *_MP,
        ("formation_energy_per_atom",),
        ("energy_above_hull",),
        formula="formula_pretty",
        key_variable="MP_API_KEY",
    ),
}


class _Phase(NamedTuple):
    """A row of the cache; energies in eV/atom."""

    id: str
    composition: str | None
    formation_energy_per_atom: float | None
    e_above_hull: float | None

    @property
    def system(self) -> str:
        return "-".join(sorted(_elements(self.composition)))

    @property
    def height(self) -> float | None:
        """The provider's hull at this composition, which is never above the entry itself."""
        energy, above = self.formation_energy_per_atom, self.e_above_hull
        return energy if energy is None or above is None else energy - max(above, 0.0)


class _Source(Protocol):
    def fetch(self, system: str, missing: Sequence[str]) -> Iterator[tuple[str, list[_Phase]]]:
        """The phases of each of the ``missing`` subsystems of ``system``."""


def fetch_phases(
    chemical_systems: Sequence[str],
    provider: str,
    *,
    base_url: str | None = None,
    cache: Path | None = None,
    api_key: str | None = None,
    progress: Callable[[int, int], None] | None = None,
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
    known = _provider(provider)
    url = (base_url or known.base_url).rstrip("/").removesuffix("/v1")
    shelf = _Shelf(Path(cache) if cache is not None else cache_folder() / "phases" / provider, known, url)
    systems = _largest(chemical_systems)
    source: _Source | None = None
    phases: dict[str, list[_Phase]] = {}
    for done, system in enumerate(systems, start=1):
        names = [name for name in subsystems(system) if "-" in name and name not in phases]
        for name in names:
            if (kept := shelf.read(name)) is not None:
                phases[name] = kept
        if missing := [name for name in names if name not in phases]:
            source = source or (
                _MPRester(known, url, api_key) if known.key_variable else _Optimade(known, url)
            )
            for name, found in source.fetch(system, missing):
                shelf.write(name, found)
                phases[name] = found
        if progress:
            progress(done, len(systems))
    rows = [phase for name in sorted(phases) for phase in phases[name]]
    return Hull.from_entries(
        [row.composition or "" for row in rows],
        [row.height for row in rows],
        scale=known.scale,
        source=f"{known.name} (fetched {shelf.dates()})",
        ids=[row.id for row in rows],
        elements_alone=not rows,
    )


# -- what was asked for ------------------------------------------------------------------------


def _provider(name: str) -> Provider:
    if name not in PROVIDERS:
        raise DatasetError(f"no provider {name!r}; the providers are {', '.join(PROVIDERS)}")
    return PROVIDERS[name]


def _largest(chemical_systems: Iterable[str]) -> list[str]:
    """The systems that lie within no other, their elements sorted; one element by itself has no compounds."""
    kept: list[frozenset[str]] = []
    for name in sorted(set(chemical_systems), key=lambda name: (-name.count("-"), name)):
        elements = frozenset(name.split("-"))
        if unknown := sorted(elements - atomic_numbers().keys()):
            raise DatasetError(
                f"{name!r} is not a chemical system such as 'Li-O-P': no element {unknown[0]!r}"
            )
        if len(elements) > 1 and not any(elements <= other for other in kept):
            kept.append(elements)
    return sorted("-".join(sorted(elements)) for elements in kept)


def _elements(formula: str | None) -> set[str]:
    return set(re.findall("[A-Z][a-z]?", formula or ""))


def _at(attributes: Any, keys: Sequence[str]) -> Any:
    """What lies at the end of these keys; None where they end early."""
    for key in keys:
        attributes = attributes.get(key) if isinstance(attributes, Mapping) else None
    return attributes


def _phase(provider: Provider, id_: Any, attributes: Any) -> _Phase:
    formula = _at(attributes, (provider.formula,))
    energies = [_at(attributes, keys) for keys in (provider.formation_energy, provider.e_above_hull)]
    usable = [
        float(e) if isinstance(e, int | float) and not isinstance(e, bool) and math.isfinite(e) else None
        for e in energies
    ]
    return _Phase(str(id_), formula if isinstance(formula, str) else None, *usable)


def _by_system(found: Iterable[_Phase], system: str, missing: Sequence[str]) -> dict[str, list[_Phase]]:
    """The phases of each missing subsystem; those whose formula names no compound go with ``system``."""
    sorted_out: dict[str, list[_Phase]] = {name: [] for name in missing}
    for name, members in groupby(found, key=lambda phase: phase.system):
        home = name if "-" in name else system
        if home in sorted_out:
            sorted_out[home] += members
    return sorted_out


# -- OPTIMADE ----------------------------------------------------------------------------------


@dataclass
class _Optimade:
    """A database that is asked by OPTIMADE."""

    provider: Provider
    url: str
    subsets: bool = field(init=False)
    """Whether the server may still be asked by ``HAS ONLY``."""

    def __post_init__(self) -> None:
        self.subsets = self.provider.subsets
        try:
            from optimade.client import OptimadeClient
        except ImportError as error:
            raise ImportError(f"{self.provider.name} needs the package optimade: {_INSTALL}") from error
        self.transfer = _Transfer(self)
        self.client = OptimadeClient(
            base_urls=[self.url],
            max_results_per_provider=_UNLIMITED,
            use_async=False,
            silent=True,
            http_client=self.transfer.session_class(),
            callbacks=[self.transfer.check],
        )

    def fetch(self, system: str, missing: Sequence[str]) -> Iterator[tuple[str, list[_Phase]]]:
        if self.subsets and len(missing) > 1:
            quoted = ",".join(f'"{element}"' for element in system.split("-"))
            found = self._ask(f"elements HAS ONLY {quoted} AND nelements>=2", system, optional=True)
            # A server may take HAS ONLY for these elements and all of them, as older ones did.
            if found is not None and any(phase.system not in ("", system) for phase in found):
                yield from _by_system(found, system, missing).items()
                return
        for name in missing:
            quoted = ",".join(f'"{element}"' for element in name.split("-"))
            size = name.count("-") + 1
            yield name, self._ask(f"elements HAS ALL {quoted} AND nelements={size}", name) or []

    def _ask(self, wanted: str, system: str, optional: bool = False) -> list[_Phase] | None:
        """Every entry for a filter. None if the server does not know an ``optional`` filter."""
        self.transfer.begin(system)
        fields = [self.provider.formula, self.provider.formation_energy[0], self.provider.e_above_hull[0]]
        answer = self.client.get_one(
            "structures",
            wanted,
            self.url,
            response_fields=list(dict.fromkeys(fields)),
            page_limit=self.provider.page_limit,
        )[self.url]
        if answer.errors:
            if optional and self.transfer.status in _NOT_SUPPORTED:
                self.subsets = False
                return None
            raise DatasetError(self.transfer.failure or f"{self.told(system)}: {answer.errors[0]}")
        entries = {entry["id"]: entry.get("attributes") for entry in answer.data}
        expected = answer.meta.get("data_returned")
        whole = (
            len(entries) >= expected if isinstance(expected, int) else not answer.meta["more_data_available"]
        )
        if not whole:
            raise DatasetError(
                f"{self.told(system)}: only {len(entries)} different entries came of {expected or 'more'}. Run it "
                "again; if it stays so, the server's pages are broken"
            )
        return [_phase(self.provider, id_, attributes) for id_, attributes in entries.items()]

    def told(self, system: str) -> str:
        """How messages begin."""
        return f"{self.provider.name} ({self.url}), asked for {system}"


@dataclass
class _Transfer:
    """Makes the client's requests with patience, and keeps what it says of them only in words."""

    source: _Optimade
    system: str = ""
    status: int | None = None
    failure: str | None = None

    def begin(self, system: str) -> None:
        self.system, self.status, self.failure = system, None, None

    def check(self, url: str, page: Mapping[str, Any]) -> None:
        """The client's callback for each page. Stops at entries that nobody asked for."""
        for entry in page["data"]:
            formula = _at(entry, ("attributes", self.source.provider.formula))
            elements = _elements(formula if isinstance(formula, str) else None)
            if not elements <= set(self.system.split("-")):
                self.fail(f"the server sent {formula}: it does not understand the filter, and cannot be used")

    def fail(self, why: str) -> None:
        self.failure = f"{self.source.told(self.system)}: {why}"
        raise DatasetError(self.failure)

    def get(self, get: Callable[..., requests.Response], url: str) -> requests.Response:
        """The answer to a request, whole. Raises DatasetError when patience has an end."""
        import requests

        problem, wait = "", FIRST_WAIT
        for attempt in range(TRIES):
            if attempt:
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                response = get(url, timeout=TIMEOUT)
                self.status = response.status_code
                if self.status == requests.codes.ok:
                    response.json()  # a text that breaks off is no answer
                if self.status not in _TRY_AGAIN:
                    return response
                problem = f"HTTP {self.status} {response.reason}"
                wait = max(wait, _asked_to_wait(response))
            except requests.exceptions.ConnectTimeout:
                problem = "it cannot be reached; is there a network?"
            except requests.exceptions.Timeout:
                problem = "no answer in time"
            except (requests.exceptions.ChunkedEncodingError, requests.exceptions.JSONDecodeError):
                problem = "the answer broke off"
            except requests.exceptions.ConnectionError as error:
                problem = f"it cannot be reached; is there a network? ({type(error).__name__})"
            if wait > LONGEST_WAIT:
                self.fail(f"{problem}, and the server asks for a wait of {wait:.0f} s. Try again after that")
        self.fail(f"{problem} ({TRIES} tries). Try again later, or give another base_url")
        raise AssertionError

    def session_class(self) -> type[requests.Session]:
        """What the client makes its requests with."""
        import requests

        transfer = self

        class Patient(requests.Session):
            def get(self, url: Any, **_: Any) -> requests.Response:
                return transfer.get(super().get, str(url))

        return Patient


def _asked_to_wait(response: requests.Response) -> float:
    """Seconds of the header Retry-After, which may also be a date; 0 without one."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util.retry import Retry

    try:
        return float(Retry().parse_retry_after(response.headers.get("Retry-After", "0")))
    except InvalidHeader:
        return 0.0


# -- mp_api ------------------------------------------------------------------------------------


@dataclass
class _MPRester:
    """The Materials Project, asked by its own client: thermodynamics of GGA and GGA+U, MP2020 corrections."""

    provider: Provider
    url: str
    api_key: str | None = field(repr=False)

    def __post_init__(self) -> None:
        variable = self.provider.key_variable or ""
        self.api_key = self.api_key or os.environ.get(variable)
        if not self.api_key:
            raise DatasetError(
                f"{self.provider.name} needs a key: get one at https://next-gen.materialsproject.org/api and set "
                f"${variable}. The provider 'mp' needs none"
            )
        try:
            from mp_api.client import MPRester
        except ImportError as error:
            raise ImportError(f"{self.provider.name} needs the package mp-api: {_INSTALL}") from error
        self.rester = MPRester

    def fetch(self, system: str, missing: Sequence[str]) -> Iterator[tuple[str, list[_Phase]]]:
        wanted = ["material_id", self.provider.formula, "formation_energy_per_atom", "energy_above_hull"]
        try:
            with self.rester(
                self.api_key, endpoint=self.url, use_document_model=False, mute_progress_bars=True
            ) as rester:
                found = rester.materials.thermo.search(
                    chemsys=list(missing), thermo_types=["GGA_GGA+U"], fields=wanted, all_fields=False
                )
        except Exception as error:  # the client lets through what requests, json and itself raise
            raise DatasetError(
                f"{self.provider.name} ({self.url}), asked for {system}: {type(error).__name__}: {error}. Try again "
                "later, or use the provider 'mp'"
            ) from error
        phases = [_phase(self.provider, entry["material_id"], entry) for entry in found]
        yield from _by_system(phases, system, missing).items()


# -- the cache ---------------------------------------------------------------------------------

_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "composition": pa.string(),
        "formation_energy_per_atom": pa.float64(),
        "e_above_hull": pa.float64(),
    }
)


@dataclass
class _Shelf:
    """What came of a provider: a file for each exact set of elements."""

    folder: Path
    provider: Provider
    url: str
    fetched: set[str] = field(default_factory=set)

    def read(self, system: str) -> list[_Phase] | None:
        """The phases that are kept; None if there are none, or the file is broken or of another server."""
        try:
            table = pq.read_table(self._path(system), schema=_SCHEMA)
            told = json.loads(pq.read_schema(self._path(system)).metadata[b"crysjepa"])
            if any(told[key] != value for key, value in self._about().items()):
                return None
            self.fetched.add(told["fetched"])
        except (OSError, pa.ArrowException, TypeError, KeyError, ValueError):
            return None
        return [_Phase(*row) for row in zip(*table.to_pydict().values(), strict=True)]

    def write(self, system: str, phases: Sequence[_Phase]) -> None:
        """Keep phases. Raises DatasetError if they cannot be written."""
        today = datetime.now(UTC).date().isoformat()
        self.fetched.add(today)
        table = pa.Table.from_pylist([phase._asdict() for phase in phases], schema=_SCHEMA)
        about = json.dumps({**self._about(), "fetched": today}, sort_keys=True)
        try:
            write_parquet(table.replace_schema_metadata({"crysjepa": about}), self._path(system))
        except OSError as error:
            raise DatasetError(f"cannot write {self._path(system)}: {error}") from error

    def dates(self) -> str:
        """When they were fetched."""
        first, last = min(self.fetched, default=""), max(self.fetched, default="")
        return first if first == last else f"{first} to {last}"

    def _path(self, system: str) -> Path:
        return self.folder / f"{system}.parquet"

    def _about(self) -> dict[str, str]:
        known = self.provider
        return {
            "provider": known.name,
            "base_url": self.url,
            "scale": known.scale,
            "licence": known.licence,
            "citation": known.citation,
        }
