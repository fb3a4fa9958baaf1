"""Named datasets: the registry, the bundled one, and downloads from a real server on this machine."""

import gzip
import hashlib
import json
import re
import socket
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.parquet as pq
import pytest
from local_server import serving
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.cif import CifWriter

from crysjepa.core.crystals import Crystals
from crysjepa.datasets import DatasetError, available, download, fetch, info, load
from crysjepa.datasets import named as datasets
from crysjepa.datasets.chunks import open_chunks
from crysjepa.energy.load_hull import load_hull
from crysjepa.runtime.files import file_metadata

CIF = str(CifWriter(Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])))
BODY = b"id,cif\n" + b"".join(f'mp-{i},"{CIF}"\n'.encode() for i in range(300))


class Server(ThreadingHTTPServer):
    """Serves ``files`` with Range support; ``requests`` are (path, Range); ``cut`` breaks a transfer off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests, self.cut, self.ranges, self.tags = {}, [], None, True, True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(body).hexdigest()}"' if self.server.tags else None
        start = 0
        if wanted and self.server.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body) if self.server.cut is None else self.server.cut
        self.wfile.write(body[start:end])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Server()) as server:
        yield server


@pytest.fixture
def known(monkeypatch):
    """A dataset whose checksum is known, and one whose checksum nobody published."""
    digest = hashlib.sha256(BODY).hexdigest()
    for name, checksum in (("known", f"sha256:{digest}"), ("unknown", None)):
        file = datasets.RemoteFile("http://127.0.0.1:9/data.csv", checksum)
        dataset = datasets.Dataset(name, "", (file,), "", "", 300, "csv", "crystals")
        monkeypatch.setitem(datasets.REGISTRY, name, dataset)
    return digest


# -- the registry and the bundled table ------------------------------------------------------------------


def test_registry():
    names = [d.name for d in available()]
    assert names[:2] == ["known", "flla"]
    assert {"mp_20", "alex_mp_20", "mp_2022", "mptrj", "mp_2023_hull", "alex_mp_2020correction_hull"} < set(
        names
    )
    for dataset in available():
        assert info(dataset.name) is dataset
        assert dataset.licence and dataset.citation and dataset.description
        assert dataset.kind in ("crystals", "hull")
        assert dataset.size and dataset.checked
        for file in dataset.files:
            assert file.url.startswith("https://")
            assert file.checksum is None or re.fullmatch(
                r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.checksum
            )
    assert len(info("alex_mp_20").sha256) == 64
    assert info("mp_20").sha256 is None
    assert info("flla").url is None


def test_unknown_name():
    with pytest.raises(
        DatasetError, match=r"no dataset and no file 'mp20'; did you mean mp_20\? .*flla, mp_20"
    ):
        load("mp20")


def test_bundled_table_needs_no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("went to the network"))
    table = load("flla")
    assert len(table) == info("flla").num_rows == 3938
    assert table.counts() == {"ok": 3938}
    assert len(set(table.ids)) == 3938
    crystals = table.crystals()
    assert crystals.num_atoms.tolist() == table.column("num_sites")
    assert (crystals.frac_coords >= 0).all() and (crystals.frac_coords < 1).all()
    assert crystals.num_atoms.max() == 25
    assert len(np.unique(crystals.atomic_numbers)) == 86
    e_above_hull = np.array(table.column("e_above_hull"))
    assert e_above_hull.min() == 0
    elemental = np.array(["-" not in system for system in crystals.chemical_systems()])
    assert elemental.sum() == 83
    # an element's formation energy is its energy above the hull
    energies = np.array(table.column("formation_energy_per_atom"))
    np.testing.assert_allclose(energies[elemental], e_above_hull[elemental], atol=1e-9)


def test_bundled_table_says_where_it_comes_from():
    metadata = json.loads(pq.read_schema(fetch("flla")).metadata[b"crysjepa"])
    assert metadata["doi"] == "10.1002/qua.24917"
    assert metadata["scale"] == "materials_project_2015"
    assert "CC BY 4.0" in metadata["licence"]
    assert len(metadata["sdist_sha256"]) == 64


def test_a_path_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flla").mkdir()
    (tmp_path / "flla" / "mine.cif").write_text(CIF)
    assert load("flla").ids == ["mine"]
    assert load(tmp_path / "flla" / "mine.cif").ids == ["mine"]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CRYSJEPA_DATA", str(tmp_path / "here"))
    assert datasets.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("CRYSJEPA_DATA")
    assert "crysjepa" in str(datasets.cache_folder())


# -- downloads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["known", "unknown"])
def test_fresh_download(server, known, tmp_path, name):
    server.files["/data.csv"] = BODY
    calls = []
    path = download(name, url=f"{server.url}/data.csv", folder=tmp_path, progress=lambda *c: calls.append(c))
    assert path == tmp_path / "data.csv"
    assert path.read_bytes() == BODY
    assert calls[-1] == (len(BODY), len(BODY))
    assert download(name, url=f"{server.url}/data.csv", folder=tmp_path) == path
    assert server.requests == [("/data.csv", None)]
    assert {p.name for p in tmp_path.iterdir()} == {"data.csv"} | (
        {"data.csv.sha256"} if name == "unknown" else set()
    )
    assert load(path).counts() == {"ok": 300}


@pytest.mark.parametrize("name", ["known", "unknown"])
def test_an_interrupted_download_goes_on(server, known, tmp_path, name):
    server.files["/data.csv"], server.cut = BODY, 150_000
    url = f"{server.url}/data.csv"
    with pytest.raises(DatasetError, match=r"broke off; \d+ bytes are kept: run it again to go on"):
        download(name, url=url, folder=tmp_path)
    assert not (tmp_path / "data.csv").exists()
    kept = (tmp_path / "data.csv.partial").stat().st_size
    assert 50_000 < kept <= 150_000
    server.cut = None
    assert download(name, url=url, folder=tmp_path).read_bytes() == BODY
    assert server.requests == [("/data.csv", None), ("/data.csv", f"bytes={kept}-")]
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("name", ["known", "unknown"])
def test_a_partial_file_of_another_version_is_not_continued(server, known, tmp_path, name):
    server.files["/data.csv"], server.cut = b"x" * len(BODY), 150_000
    with pytest.raises(DatasetError, match="broke off"):
        download(name, url=f"{server.url}/data.csv", folder=tmp_path)
    server.files["/data.csv"], server.cut = BODY, None
    assert download(name, url=f"{server.url}/data.csv", folder=tmp_path).read_bytes() == BODY


def test_a_server_without_ranges_or_tags(server, known, tmp_path):
    server.files["/data.csv"], server.ranges, server.tags = BODY, False, False
    for name in ("known", "unknown"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv.partial").write_bytes(BODY[:1000])
        assert download(name, url=f"{server.url}/data.csv", folder=tmp_path / name).read_bytes() == BODY
    # with no checksum and no tag, nothing says that the half on disk belongs to the half on the server
    assert server.requests == [("/data.csv", "bytes=1000-"), ("/data.csv", None)]


def test_a_partial_file_that_is_too_long_starts_again(server, known, tmp_path):
    server.files["/data.csv"] = BODY
    (tmp_path / "data.csv.partial").write_bytes(BODY + b"more")
    assert download("known", url=f"{server.url}/data.csv", folder=tmp_path).read_bytes() == BODY


def test_a_wrong_hash_is_refused(server, known, tmp_path):
    server.files["/data.csv"] = b"<html>over quota</html>"
    with pytest.raises(DatasetError, match=rf"is not data\.csv \(sha256:{known}\): it was discarded"):
        download("known", url=f"{server.url}/data.csv", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_first_hash_is_checked_ever_after(server, known, tmp_path):
    server.files["/data.csv"] = BODY
    url = f"{server.url}/data.csv"
    path = download("unknown", url=url, folder=tmp_path)
    assert (tmp_path / "data.csv.sha256").read_text() == f"{known}  data.csv\n"
    path.write_bytes(BODY[:-1])
    with pytest.raises(DatasetError, match=r"is not the expected file.*Delete it"):
        download("unknown", url=url, folder=tmp_path)
    assert path.read_bytes() == BODY[:-1]
    path.unlink()
    server.files["/data.csv"] = BODY + b"changed"
    with pytest.raises(DatasetError, match="it was discarded"):
        download("unknown", url=url, folder=tmp_path)
    server.files["/data.csv"] = BODY
    assert download("unknown", url=url, folder=tmp_path).read_bytes() == BODY


def test_unreachable_server_says_where_to_put_the_file(known, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/data.csv"
    expected = re.escape(str(tmp_path / "data.csv"))
    with pytest.raises(DatasetError, match=rf"cannot reach {url}.*put the file by hand at {expected}"):
        download("known", url=url, folder=tmp_path)
    (tmp_path / "data.csv").write_bytes(BODY)
    assert download("known", url=url, folder=tmp_path) == tmp_path / "data.csv"
    (tmp_path / "data.csv").write_bytes(b"something else")
    with pytest.raises(DatasetError, match="is not the expected file"):
        download("known", url=url, folder=tmp_path)


def test_missing_on_the_server(server, known, tmp_path):
    with pytest.raises(DatasetError, match=r"the server refused .*404"):
        download("known", url=f"{server.url}/data.csv", folder=tmp_path)


def test_mp_20_has_three_files_and_a_split(server, tmp_path):
    for i, split in enumerate(("train", "val", "test")):
        text = f'material_id,formation_energy_per_atom,cif\nmp-{i},-{i}.5,"{CIF}"\n'
        server.files[f"/mirror/{split}.csv"] = text.encode()
    assert download("mp_20", url=f"{server.url}/mirror/", folder=tmp_path) == tmp_path / "mp_20"
    table = load("mp_20", folder=tmp_path)
    rows = zip(table.ids, table.column("split"), table.column("formation_energy_per_atom"), strict=True)
    assert list(rows) == [("mp-0", "train", -0.5), ("mp-1", "val", -1.5), ("mp-2", "test", -2.5)]
    assert len(server.requests) == 3


def test_a_zip_of_csvs_has_a_split(server, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "alex_mp_20.zip", "w") as archive:
        for split in ("val", "train"):
            archive.writestr(f"alex_mp_20/{split}.csv", f'material_id,cif\n{split}-1,"{CIF}"\n')
    monkeypatch.setitem(
        datasets.REGISTRY,
        "small",
        datasets.Dataset(
            "small",
            "",
            (datasets.RemoteFile("http://x/alex_mp_20.zip"),),
            "",
            "",
            None,
            "zip of csv",
            "crystals",
        ),
    )
    table = load("small", folder=tmp_path)
    assert dict(zip(table.ids, table.column("split"), strict=True)) == {"train-1": "train", "val-1": "val"}
    assert isinstance(table.crystals(), Crystals)


# -- conversion ------------------------------------------------------------------------------------------


def test_a_dataset_is_downloaded_and_converted_once(server, known, tmp_path):
    server.files["/data.csv"] = BODY + b"mp-bad,nothing\n"
    url = f"{server.url}/data.csv"
    stages = []
    path = fetch("unknown", url=url, folder=tmp_path, report=lambda stage, *_: stages.append(stage))
    assert path == tmp_path / "unknown.parquet"
    assert list(dict.fromkeys(stages)) == ["download unknown", "convert unknown"]
    told = file_metadata(path)
    assert told["rows"] == 301 and told["num_failed"] == 1 and told["expected_rows"] == 300
    (checksum,) = told["sources"].values()
    assert checksum == f"sha256:{hashlib.sha256(server.files['/data.csv']).hexdigest()}"
    (tmp_path / "data.csv").unlink()
    assert fetch("unknown", folder=tmp_path) == path
    assert load("unknown", folder=tmp_path).counts() == {"ok": 300, "failed: read": 1}
    assert len(server.requests) == 1


def test_a_file_of_another_reader_or_source_is_converted_anew(server, known, tmp_path, monkeypatch):
    server.files["/data.csv"] = BODY
    url = f"{server.url}/data.csv"
    first = fetch("known", url=url, folder=tmp_path)
    written = first.stat().st_mtime_ns
    assert fetch("known", folder=tmp_path).stat().st_mtime_ns == written
    monkeypatch.setattr(datasets.formats, "VERSION", datasets.formats.VERSION + 1)
    assert fetch("known", folder=tmp_path).stat().st_mtime_ns > written
    assert file_metadata(first)["importer"] == datasets.formats.VERSION
    first.write_bytes(b"not Parquet")
    assert load("known", folder=tmp_path).counts() == {"ok": 300}
    assert len(server.requests) == 1


def test_a_published_file_that_cannot_be_converted_leaves_no_other(server, tmp_path, monkeypatch):
    server.files["/x.json.gz"] = b"<html>"
    file = datasets.RemoteFile(f"{server.url}/x.json.gz")
    dataset = datasets.Dataset("odd", "", (file,), "", "", None, datasets.formats.ENTRIES, "hull")
    monkeypatch.setitem(datasets.REGISTRY, "odd", dataset)
    with pytest.raises(DatasetError, match=r"x\.json\.gz is damaged"):
        fetch("odd", folder=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json.gz", "x.json.gz.sha256"]


def test_a_hull_from_its_name(server, tmp_path, monkeypatch):
    """Compositions and formation energies are read, structures are not."""
    monkeypatch.setenv("CRYSJEPA_DATA", str(tmp_path))

    def entry(name, species, energy):
        structure = Structure(Lattice.cubic(4), species, [[i / 3, 0, 0] for i in range(len(species))])
        return ComputedStructureEntry(structure, energy, entry_id=name).as_dict()

    entries = [entry("a", ["Li"], -1.9), entry("b", ["O"], -4.9), entry("c", ["Li", "O"], -8.0)]
    text = json.dumps({"material_id": {}, "entry": dict(enumerate(entries))})
    server.files["/x.json.gz"] = gzip.compress(text.encode())
    dataset = datasets.Dataset(
        "small_hull", "", (datasets.RemoteFile(f"{server.url}/x.json.gz"),), "", "", 3,
        datasets.formats.ENTRIES, "hull", scale="materials_project",
    )  # fmt: skip
    monkeypatch.setitem(datasets.REGISTRY, "small_hull", dataset)
    hull = load_hull("small_hull")
    assert hull.scale == "materials_project" and hull.scale_stated
    assert hull.energy("LiO") == pytest.approx(-0.6)
    assert load("small_hull").counts() == {"ok": 3}
    assert [len(part) for part in open_chunks("small_hull").of(2)] == [2, 1]


def test_a_phase_diagram_is_no_set_of_crystals(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("went to the network"))
    with pytest.raises(DatasetError, match="no crystals: it is a hull"):
        load("mp_2023_phase_diagram")
