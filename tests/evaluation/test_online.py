"""Known phases over the network: databases of a few compounds, on real servers on this machine."""

import json
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.elemental_references import ScaleMismatch
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.online import sources
from crysjepa.evaluation.online.phases import PROVIDERS, fetch_phases
from crysjepa.evaluation.protocol import Protocol
from crysjepa.runtime.download import DatasetError

pytestmark = pytest.mark.slow

COMPOUNDS = [  # id, formula, formation energy and energy above hull in eV/atom
    ("1", "Li2O", -2.0, 0.0),
    ("2", "LiO", -1.2, 0.4),
    ("3", "Li3P", -0.9, 0.0),
    ("4", "O5P2", -2.2, 0.0),
    ("5", "Li3O4P", -2.7, 0.0),
    ("6", "Li4O7P2", -2.5, 0.1),
    ("7", "Na2O", -1.4, 0.0),
    ("8", "Li2NaO4P", -2.6, 0.0),
    ("9", "Li", 0.0, 0.0),
]


def mp(energy, above):
    """Attributes as the Materials Project's server sends them: a dictionary for each set of functionals."""
    wrong = {"formation_energy_per_atom": -9.0, "energy_above_hull": 0.0, "thermo_id": "mp-1_R2SCAN"}
    right = {"formation_energy_per_atom": energy, "energy_above_hull": above, "thermo_id": "mp-1_GGA_GGA+U"}
    return {"_mp_stability": {"r2scan": wrong, "gga_gga+u": right, "gga_gga+u_r2scan": wrong}}


def alexandria(energy, above):
    return {"_alexandria_formation_energy_per_atom": energy, "_alexandria_hull_distance": above}


def oqmd(energy, above):
    return {"_oqmd_delta_e": energy, "_oqmd_stability": above}


class Database(ThreadingHTTPServer):
    """An OPTIMADE server of ``entries``: (id, attributes). ``trouble`` befalls the first requests in turn."""

    def __init__(self, attributes, compounds=COMPOUNDS):
        super().__init__(("127.0.0.1", 0), Handler)
        self.entries = [
            (id_, {"chemical_formula_reduced": formula, **attributes(energy, above)})
            for id_, formula, energy, above in compounds
        ]
        self.filters, self.num_requests = [], 0
        self.trouble, self.always = [], None
        self.page, self.link, self.has_only, self.filtering = 500, "text", "subset", True
        self.meta = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.shutdown()
        self.server_close()

    def found(self, wanted):
        """The entries that a filter finds; None where it is not implemented."""
        quoted = set(re.findall('"([A-Za-z]+)"', wanted))
        only = "HAS ONLY" in wanted
        if only and self.has_only == "501":
            return None
        size = int(re.search(r"nelements(?:>=|=)(\d)$", wanted).group(1))
        exact = not only or self.has_only == "exact"
        hits = []
        for entry in self.entries:
            own = set(re.findall("[A-Z][a-z]?", entry[1]["chemical_formula_reduced"] or "")) or quoted
            alike = own == quoted if exact else own <= quoted
            if not self.filtering or (alike and (len(own) >= size if only else len(own) == size)):
                hits.append(entry)
        return hits


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        here = self.server
        here.num_requests += 1
        trouble = here.trouble.pop(0) if here.trouble else here.always
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if isinstance(trouble, tuple):
            self.answer(trouble[0], {"errors": [{"title": "trouble", "detail": "no"}]}, trouble[1])
            return
        assert urlsplit(self.path).path == "/v1/structures", self.path
        here.filters.append(query["filter"])
        hits = here.found(query["filter"])
        if hits is None:
            told = {"title": "NotImplementedError", "detail": "HAS ONLY has not been implemented."}
            self.answer(501, {"errors": [{"status": "501", **told}], "meta": {}})
            return
        first, size = int(query.get("page_offset", 0)), min(int(query["page_limit"]), here.page)
        more = first + size < len(hits)
        link = f"{here.url}{self.path.split('&page_offset')[0]}&page_offset={first + size}" if more else None
        link = f"{here.url}{self.path}" if here.link == "circle" else link
        asked = query["response_fields"].split(",")
        data = [
            {"id": id_, "type": "structures", "attributes": {name: own.get(name) for name in asked}}
            for id_, own in hits[first : first + size]
        ]
        body = {
            "data": data,
            "links": {"next": {"href": link, "meta": {}} if link and here.link == "object" else link},
            "meta": {
                "api_version": "1.2.0",
                "query": {"representation": self.path},
                "more_data_available": more,
                "data_returned": len(hits),
                "data_available": len(here.entries),
                **here.meta,
            },
        }
        self.answer(200, body, cut=trouble == "cut")

    def answer(self, status, body, headers=None, cut=False):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.api+json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text[: len(text) // 2] if cut else text)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Databases of the compounds; all of them stop with the test."""
    pytest.importorskip("optimade.client", exc_type=ImportError)
    monkeypatch.setattr(sources, "FIRST_WAIT", 0.001)
    started = []

    def start(attributes=mp, compounds=COMPOUNDS):
        started.append(Database(attributes, compounds))
        return started[-1]

    yield start
    for server in started:
        server.stop()


LI_O_P = {"Li2O": -2.0, "LiO": -1.6, "Li3P": -0.9, "P2O5": -2.2, "Li3PO4": -2.7, "Li4P2O7": -2.6}
"""What the hull of Li, O and P is made of: the database's own height at each composition."""


@pytest.mark.parametrize("link", ["text", "object"])
def test_a_system_comes_with_its_subsystems_page_by_page(serve, tmp_path, link):
    server = serve()
    server.page, server.link = 2, link
    hull = fetch_phases(["P-Li-O"], "mp", base_url=f"{server.url}/v1/", cache=tmp_path)
    expected = Hull.from_entries(
        list(LI_O_P), list(LI_O_P.values()), scale="materials_project", source="here"
    )
    assert dict(hull.compounds) == pytest.approx(dict(expected.compounds))
    assert (hull.scale, hull.scale_stated, hull.skipped) == ("materials_project", True, {})
    assert re.fullmatch(r"Materials Project by OPTIMADE \(fetched \d{4}-\d\d-\d\d\)", hull.source)
    assert server.filters == ['elements HAS ONLY "Li","O","P" AND nelements>=2'] * 3


@pytest.mark.parametrize("answers", ["501", "exact"])
def test_without_has_only_each_subsystem_is_asked_for(serve, tmp_path, answers):
    server, whole = serve(), serve()
    server.has_only = answers
    hull = fetch_phases(["Li-O-P", "Li-Na-O"], "mp", base_url=server.url, cache=tmp_path / "a")
    same = fetch_phases(["Li-O-P", "Li-Na-O"], "mp", base_url=whole.url, cache=tmp_path / "b")
    assert hull.content_hash == same.content_hash
    exact = [wanted for wanted in server.filters if "HAS ALL" in wanted]
    assert len(exact) == len(set(exact)) == 7  # Li-O is in both systems
    assert 'elements HAS ALL "Li","O" AND nelements=2' in exact
    assert len(server.filters) - len(exact) == (1 if answers == "501" else 2)


@pytest.mark.parametrize(
    ("provider", "attributes", "scale"),
    [("alexandria", alexandria, "alexandria_pbe"), ("oqmd", oqmd, "oqmd")],
)
def test_each_provider_has_its_fields_and_its_scale(serve, tmp_path, provider, attributes, scale):
    server = serve(attributes)
    hull = fetch_phases(["Li-O-P"], provider, base_url=server.url, cache=tmp_path)
    mps = fetch_phases(["Li-O-P"], "mp", base_url=serve().url, cache=tmp_path / "mp")
    assert dict(hull.compounds) == dict(mps.compounds)
    assert hull.scale == scale == PROVIDERS[provider].scale
    assert not any("HAS ONLY" in wanted for wanted in server.filters)
    with pytest.raises(ScaleMismatch):
        hull.joined(mps)


def test_what_is_kept_is_not_asked_for_again(serve, tmp_path):
    server = serve(compounds=[*COMPOUNDS, ("10", "Li7O", None, None), ("11", None, -1.0, 0.0)])
    told = []
    options = {"base_url": server.url, "cache": tmp_path}
    systems = ["Li-O-P", "Li-O", "O-P", "P-O-Li", "Li"]
    first = fetch_phases(systems, "mp", **options, progress=lambda *p: told.append(p))
    assert (server.num_requests, told) == (1, [(1, 1)])
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{system}.parquet" for system in ("Li-O", "Li-P", "O-P", "Li-O-P")
    }
    told = json.loads(pq.read_schema(tmp_path / "Li-O.parquet").metadata[b"crysjepa"])
    assert told.keys() == {"provider", "base_url", "fetched", "scale", "licence", "citation"}
    assert (told["base_url"], told["scale"]) == (server.url, "materials_project")
    assert pq.read_table(tmp_path / "Li-O.parquet").to_pylist()[1] == {
        "id": "2",
        "composition": "LiO",
        "formation_energy_per_atom": -1.2,
        "e_above_hull": 0.4,
    }
    server.stop()
    again = fetch_phases(systems, "mp", **options)
    assert again.content_hash == first.content_hash
    assert again.skipped == first.skipped and set(first.skipped) == {"10", "11"}
    assert len(fetch_phases(["O-Li"], "mp", **options)) == 2
    with pytest.raises(DatasetError, match="cannot be reached"):
        fetch_phases(["Li-O-P", "Na-O"], "mp", **options)


def test_a_broken_file_or_that_of_another_server_is_fetched_anew(serve, tmp_path):
    server, other = serve(), serve(compounds=[("1", "Li2O", -3.0, 0.0)])
    for content in (b"PAR1", None):
        first = fetch_phases(["Li-O"], "mp", base_url=server.url, cache=tmp_path)
        if content is None:
            pq.write_table(pa.table({"id": ["1"]}), tmp_path / "Li-O.parquet")
        else:
            (tmp_path / "Li-O.parquet").write_bytes(content)
        again = fetch_phases(["Li-O"], "mp", base_url=server.url, cache=tmp_path)
        assert again.content_hash == first.content_hash
    assert server.num_requests == 3
    assert list(fetch_phases(["Li-O"], "mp", base_url=other.url, cache=tmp_path).compounds.values()) == [-3.0]


@pytest.mark.parametrize("trouble", [(429, {"Retry-After": "0"}), (503, {}), "cut"])
def test_trouble_that_passes(serve, tmp_path, trouble):
    server = serve()
    server.trouble = [trouble, trouble]
    assert len(fetch_phases(["Li-O-P"], "mp", base_url=server.url, cache=tmp_path)) == 6
    assert server.num_requests == 3


@pytest.mark.parametrize(
    ("trouble", "message", "num_requests"),
    [
        ((500, {}), r"Materials Project.*Li-O-P: HTTP 500.*5 tries.*[Tt]ry again later", 5),
        ("cut", "broke off", 5),
        ((429, {"Retry-After": "3600"}), "a wait of 3600 s: try again after that", 1),
        ((404, {}), "404", 1),
    ],
)
def test_trouble_that_stays(serve, tmp_path, trouble, message, num_requests):
    server = serve()
    server.always = trouble
    with pytest.raises(DatasetError, match=message):
        fetch_phases(["Li-O-P"], "mp", base_url=server.url, cache=tmp_path)
    assert server.num_requests == num_requests
    assert not list(tmp_path.iterdir())


def test_what_came_before_trouble_is_kept(serve, tmp_path):
    server = serve(oqmd)
    server.trouble = [None, None] + [(500, {})] * 5
    options = {"base_url": server.url, "cache": tmp_path}
    with pytest.raises(DatasetError):
        fetch_phases(["Li-O-P"], "oqmd", **options)
    assert len(fetch_phases(["Li-O-P"], "oqmd", **options)) == 6
    assert len(server.filters) == 4


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"data_returned": 9}, "6 different entries came of 9"),
        ({"data_returned": None, "more_data_available": True}, "6 different entries came of 7 or more"),
    ],
)
def test_pages_that_end_too_early(serve, tmp_path, meta, message):
    server = serve()
    server.meta = meta
    with pytest.raises(DatasetError, match=message):
        fetch_phases(["Li-O-P"], "mp", base_url=server.url, cache=tmp_path)


def test_pages_that_lead_in_a_circle(serve, tmp_path):
    server = serve()
    server.link, server.meta = "circle", {"data_available": None}
    with pytest.raises(DatasetError, match="in a circle"):
        fetch_phases(["Li-O-P"], "mp", base_url=server.url, cache=tmp_path)
    assert server.num_requests == 2


def test_a_server_that_does_not_filter_is_left_at_its_first_page(serve, tmp_path):
    server = serve(oqmd)
    server.filtering, server.page = False, 4
    with pytest.raises(DatasetError, match=r"sent Li3P\. It does not understand the filter"):
        fetch_phases(["Li-O"], "oqmd", base_url=server.url, cache=tmp_path)
    assert server.num_requests == 1


def test_nothing_known_and_nothing_usable(serve, tmp_path):
    server = serve(compounds=[("1", "Li2O", None, 0.0), ("2", "LiO", float("nan"), 0.0)])
    options = {"base_url": server.url, "cache": tmp_path}
    assert len(fetch_phases(["Ar-He"], "mp", **options)) == len(fetch_phases(["Li"], "mp", **options)) == 0
    with pytest.raises(ValueError, match="2 of 2 entries left out"):
        fetch_phases(["Li-O"], "mp", **options)


def test_no_server_at_all(serve, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DatasetError, match="is there a network"):
            fetch_phases(["Li-O"], "mp", base_url=url, cache=tmp_path)


def test_what_cannot_be_asked_for(monkeypatch, tmp_path):
    with pytest.raises(DatasetError, match="the providers are mp, alexandria, oqmd, mp-api"):
        fetch_phases(["Li-O"], "icsd", cache=tmp_path)
    with pytest.raises(DatasetError, match="no element 'Xx'"):
        fetch_phases(["Li-Xx"], "mp", cache=tmp_path)
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(DatasetError, match=r"set \$MP_API_KEY"):
        fetch_phases(["Li-O"], "mp-api", cache=tmp_path)
    monkeypatch.setitem(sys.modules, "optimade.client", None)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    for provider in PROVIDERS:
        with pytest.raises(ImportError, match=re.escape('pip install "crysjepa[online]"')):
            fetch_phases(["Li-O"], provider, cache=tmp_path, api_key="key")


def thermo(chemsys, fields):
    """What the Materials Project's own API knows of these sets of elements: no subsystems."""
    wanted = {frozenset(system.split("-")) for system in chemsys}
    for id_, formula, energy, above in COMPOUNDS:
        if frozenset(re.findall("[A-Z][a-z]?", formula)) in wanted:
            row = {"material_id": f"mp-{id_}", "formula_pretty": formula}
            row |= {"formation_energy_per_atom": energy, "energy_above_hull": above}
            yield {name: row[name] for name in fields}


class Rester:
    """What is used of ``mp_api.client.MPRester``."""

    asked: list

    def __init__(self, api_key, **options):
        if api_key != "key":
            raise RuntimeError("REST query returned with error status code 401")
        self.materials = SimpleNamespace(thermo=SimpleNamespace(search=self.search))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def search(self, *, chemsys, thermo_types, all_fields, fields):
        self.asked.append(chemsys)
        assert thermo_types == ["GGA_GGA+U"] and not all_fields
        return list(thermo(chemsys, fields))


def test_the_materials_projects_own_client(monkeypatch, tmp_path):
    module = ModuleType("mp_api.client")
    module.MPRester, Rester.asked = Rester, []
    monkeypatch.setitem(sys.modules, "mp_api.client", module)
    monkeypatch.setitem(sys.modules, "mp_api", ModuleType("mp_api"))
    monkeypatch.setenv("MP_API_KEY", "key")
    hull = fetch_phases(["Li-O-P", "O-P"], "mp-api", cache=tmp_path)
    again = fetch_phases(["O-P", "Li-O"], "mp-api", cache=tmp_path)
    assert Rester.asked == [["Li-O", "Li-P", "O-P", "Li-O-P"]]
    assert (len(hull), len(again), hull.scale) == (6, 3, "materials_project")
    assert hull.energy("LiO") == pytest.approx(-1.6)
    with pytest.raises(DatasetError, match=r"401.*--fetch-phases mp") as raised:
        fetch_phases(["Na-O"], "mp-api", cache=tmp_path, api_key="secret")
    assert "secret" not in str(raised.value)
    assert not any(b"key" in path.read_bytes() for path in tmp_path.iterdir())


class Api(BaseHTTPRequestHandler):
    """The Materials Project's own API: its heartbeat, and its thermodynamics."""

    def do_GET(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.strip("/") == "heartbeat":
            body = {"version": "99.0", "db_version": "2026.04.13", "access_controlled_batch_ids": []}
        else:
            assert parts.path.strip("/") == "materials/thermo", parts.path
            assert query["thermo_types"] == "GGA_GGA+U"
            rows = list(thermo(query["chemsys"].split(","), query["_fields"].split(",")))
            body = {"data": rows, "meta": {"total_doc": len(rows)}}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def test_that_client_as_published(tmp_path):
    pytest.importorskip("mp_api.client", exc_type=ImportError)
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        hull = fetch_phases(["Li-O-P"], "mp-api", base_url=url, cache=tmp_path, api_key="k" * 32)
        server.shutdown()
    expected = Hull.from_entries(
        list(LI_O_P), list(LI_O_P.values()), scale="materials_project", source="here"
    )
    assert dict(hull.compounds) == pytest.approx(dict(expected.compounds))


def test_fetched_phases_join_the_hull_of_a_finished_run(tiny, serve, tmp_path, monkeypatch):
    """Of a run with a short list, the phases of its chemical systems; scales are never mixed."""
    monkeypatch.setenv("CRYSJEPA_DATA", str(tmp_path / "cache"))
    protocol = Protocol.model_validate(tiny.protocol)
    run = tmp_path / "run"
    api.evaluate(tiny.reference, run, reference=tiny.reference, protocol=protocol)
    table = CandidateTable.read(run / "crystals.parquet").with_column("shortlist_rank", {"LiF": 1}, "Int64")
    told = json.loads(pq.read_schema(run / "crystals.parquet").metadata[b"crysjepa"])
    table.write(tmp_path / "listed.parquet", told)
    compounds = [("1", "FLi", -5.0, 0.0), ("2", "ClNa", -5.0, 0.0)]
    where = {"out": tmp_path / "judged", "reference": tiny.reference, "protocol": protocol}
    database = serve(mp, compounds)
    metrics = api.evaluate(tmp_path / "listed.parquet", phases=f"mp={database.url}", **where)
    assert "Materials Project by OPTIMADE" in metrics["hull"]
    after = CandidateTable.read(tmp_path / "judged" / "crystals.parquet")
    energies = dict(zip(after.ids, after.column("formation_energy_per_atom"), strict=True))
    above = dict(zip(after.ids, after.column("e_above_hull"), strict=True))
    assert above["LiF"] == pytest.approx(energies["LiF"] + 5.0)
    assert above["NaCl"] < energies["NaCl"] + 5.0, "only the short list's systems are fetched"
    other = serve(oqmd, compounds)
    with pytest.raises(ScaleMismatch):
        api.evaluate(tmp_path / "listed.parquet", phases=f"oqmd={other.url}", **where)
