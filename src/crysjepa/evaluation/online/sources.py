"""How the databases of :mod:`~crysjepa.evaluation.online.providers` are asked: OPTIMADE, or ``mp_api``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from crysjepa.evaluation.online.providers import Phase, Provider, by_system, elements_of, value_at
from crysjepa.runtime.download import DatasetError

if TYPE_CHECKING:
    import requests

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
_INSTALL = 'pip install "crysjepa[online]"'


@dataclass
class Optimade:
    """A database that is asked by OPTIMADE: the package's client, with more patience than it has itself."""

    provider: Provider
    url: str
    asked: str = field(default="", init=False)
    """The chemical system of the query in progress; with it go the pages seen, and how it failed."""
    pages: set[str] = field(default_factory=set, init=False)
    status: int | None = field(default=None, init=False)
    failure: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        try:
            from optimade.client import OptimadeClient
        except ImportError as error:
            raise ImportError(f"{self.provider.name} needs the package optimade: {_INSTALL}") from error
        self.subsets = self.provider.subsets
        self.client = OptimadeClient(
            base_urls=[self.url],
            max_results_per_provider=10**9,
            use_async=False,
            silent=True,
            http_client=self._session_class(),
            callbacks=[self._check],
        )

    def fetch(self, system: str, missing: Sequence[str]) -> Iterator[tuple[str, list[Phase]]]:
        """The phases of each of the ``missing`` subsystems of ``system``."""
        if self.subsets and len(missing) > 1:
            found = self._ask(f"elements HAS ONLY {_quoted(system)} AND nelements>=2", system, optional=True)
            homes = by_system(found or [], system, missing)
            # Where no smaller compound came, the server may have read HAS ONLY as HAS ALL: do not trust it.
            if any(homes[name] for name in missing if name != system):
                yield from homes.items()
                return
        for name in missing:
            size = name.count("-") + 1
            yield name, self._ask(f"elements HAS ALL {_quoted(name)} AND nelements={size}", name) or []

    def _ask(self, wanted: str, system: str, optional: bool = False) -> list[Phase] | None:
        """Every entry that a filter finds; None if the server does not know an ``optional`` filter."""
        self.asked, self.pages, self.status, self.failure = system, set(), None, None
        fields = [self.provider.formula, self.provider.formation_energy[0], self.provider.e_above_hull[0]]
        answer = self.client.get_one(
            "structures",
            wanted,
            self.url,
            response_fields=list(dict.fromkeys(fields)),
            page_limit=self.provider.page_limit,
        )[self.url]
        if answer.errors:
            if optional and self.status in _NOT_SUPPORTED:
                self.subsets = False
                return None
            self._fail(answer.errors[0])
        entries = {entry["id"]: entry.get("attributes") for entry in answer.data}
        expected = answer.meta.get("data_returned")
        if not isinstance(expected, int):
            expected = len(entries) + bool(answer.meta.get("more_data_available"))
        if len(entries) < expected:
            self._fail(f"{len(entries)} different entries came of {expected} or more. Run it again")
        return [Phase.of(self.provider, id_, attributes) for id_, attributes in entries.items()]

    def _fail(self, why: str) -> NoReturn:
        # The client hands on no more of an error than a text; the first one says it best.
        self.failure = self.failure or f"{self.provider.name} ({self.url}), asked for {self.asked}: {why}"
        raise DatasetError(self.failure)

    def _check(self, url: str, page: Mapping[str, Any]) -> None:
        """The client's callback for each page. Stops at what nobody asked for."""
        if url in self.pages:
            self._fail(f"its pages lead in a circle, back to {url}")
        self.pages.add(url)
        for entry in page["data"]:
            formula = value_at(entry, ("attributes", self.provider.formula))
            if not elements_of(formula) <= set(self.asked.split("-")):
                self._fail(
                    f"the server sent {formula}. It does not understand the filter: name another "
                    "address, --fetch-phases PROVIDER=URL"
                )

    def _session_class(self) -> type[requests.Session]:
        """What the client makes its requests with."""
        import requests

        patiently = self._patiently

        class Session(requests.Session):
            def get(self, *args: Any, **_: Any) -> requests.Response:
                return patiently(super().get, str(args[0]))

        return Session

    def _patiently(self, get: Callable[..., requests.Response], url: str) -> requests.Response:
        """The whole answer to a request, after as many tries as it takes. Raises DatasetError."""
        import requests.exceptions as broken

        problem, wait = "", FIRST_WAIT
        for attempt in range(TRIES):
            if attempt:
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                response = get(url, timeout=TIMEOUT)
                self.status = response.status_code
                if self.status == 200:
                    response.json()  # a text that breaks off is no answer
                if self.status not in _TRY_AGAIN:
                    return response
                problem = f"HTTP {self.status} {response.reason}"
                wait = max(wait, _asked_to_wait(response))
            except (broken.ChunkedEncodingError, broken.ContentDecodingError, broken.JSONDecodeError):
                problem = "the answer broke off"
            except broken.ReadTimeout:
                problem = "no answer in time"
            except broken.ConnectionError as error:
                problem = f"it cannot be reached ({type(error).__name__}); is there a network?"
            if wait > LONGEST_WAIT:
                self._fail(f"{problem}. The server asks for a wait of {wait:.0f} s: try again after that")
        self._fail(
            f"{problem} ({TRIES} tries). Try again later, or name another address: "
            "--fetch-phases PROVIDER=URL"
        )


def _quoted(system: str) -> str:
    return ",".join(f'"{element}"' for element in system.split("-"))


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
class MaterialsProject:
    """The Materials Project, asked by its own client: thermodynamics of GGA and GGA+U, MP2020 corrections."""

    provider: Provider
    url: str
    api_key: str | None = field(repr=False)

    def __post_init__(self) -> None:
        variable = self.provider.key_variable or ""
        self.api_key = self.api_key or os.environ.get(variable)
        if not self.api_key:
            raise DatasetError(
                f"{self.provider.name} needs a key: get one at https://next-gen.materialsproject.org/api and "
                f"set ${variable}. --fetch-phases mp needs none"
            )
        try:
            from mp_api.client import MPRester
        except ImportError as error:
            raise ImportError(f"{self.provider.name} needs the package mp-api: {_INSTALL}") from error
        self.client = MPRester

    def fetch(self, system: str, missing: Sequence[str]) -> Iterator[tuple[str, list[Phase]]]:
        """The phases of each of the ``missing`` subsystems of ``system``."""
        fields = ["material_id", "formula_pretty", "formation_energy_per_atom", "energy_above_hull"]
        try:
            with self.client(
                self.api_key, endpoint=self.url, use_document_model=False, mute_progress_bars=True
            ) as client:
                found = client.materials.thermo.search(
                    chemsys=list(missing), thermo_types=["GGA_GGA+U"], all_fields=False, fields=fields
                )
        except Exception as error:  # its own, requests' and json's
            raise DatasetError(
                f"{self.provider.name} ({self.url}), asked for {system}: {type(error).__name__}: {error}. "
                "Try again later, or --fetch-phases mp"
            ) from error
        phases = [Phase.of(self.provider, entry.get("material_id"), entry) for entry in found]
        yield from by_system(phases, system, missing).items()
