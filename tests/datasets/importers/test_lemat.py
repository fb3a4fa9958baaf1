"""LeMat-Bulk and its hulls: Parquet made to the published schema, and a server that is like the Hub."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from local_server import serving
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

from crysjepa.datasets import DatasetError, fetch, info, load
from crysjepa.energy.elemental_references import ScaleMismatch
from crysjepa.energy.load_hull import load_hull
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.runtime.files import file_metadata

COMMIT = "0f" * 20
BULK, HULL = "LeMaterial/LeMat-Bulk", "LeMaterial/LeMat-Bulk-MLIP-Hull"
FCC = [[0.0, 2.8, 2.8], [2.8, 0.0, 2.8], [2.8, 2.8, 0.0]]

BULK_SCHEMA = pa.schema(
    [
        ("elements", pa.list_(pa.string())),
        ("nsites", pa.int32()),
        ("chemical_formula_reduced", pa.string()),
        ("nelements", pa.int8()),
        ("dimension_types", pa.list_(pa.int8())),
        ("nperiodic_dimensions", pa.int8()),
        ("lattice_vectors", pa.list_(pa.list_(pa.float64()))),
        ("immutable_id", pa.string()),
        ("cartesian_site_positions", pa.list_(pa.list_(pa.float64()))),
        ("species", pa.string()),
        ("species_at_sites", pa.list_(pa.string())),
        ("last_modified", pa.string()),
        ("elements_ratios", pa.list_(pa.float64())),
        ("stress_tensor", pa.list_(pa.list_(pa.float64()))),
        ("energy", pa.float64()),
        ("magnetic_moments", pa.list_(pa.float64())),
        ("forces", pa.list_(pa.list_(pa.float64()))),
        ("total_magnetization", pa.float64()),
        ("dos_ef", pa.float64()),
        ("functional", pa.string()),
        ("cross_compatibility", pa.bool_()),
        ("entalpic_fingerprint", pa.string()),
    ]
)
"""As on the data set's card."""


def bulk_row(id_, species, energy, lattice=FCC, **other):
    sites = [[2.8 * i, 0.0, 0.0] for i in range(len(species))]
    return {
        "immutable_id": id_, "species_at_sites": species, "nsites": len(species), "energy": energy,
        "lattice_vectors": lattice, "cartesian_site_positions": sites, "dimension_types": [1, 1, 1],
        "functional": "pbe", "cross_compatibility": True, "entalpic_fingerprint": f"hash-of-{id_}", **other,
    }  # fmt: skip


def hull_row(id_, species, energy, **other):
    own = {"mace_mp_energy": energy, "orb_conserv_inf_energy": (energy or 0.0) - 1.0}
    return {
        "immutable_id": id_, "energy": energy, "nsites": len(species), "species_at_sites": species,
        "e_above_hull": 0.0, **own, **other,
    }  # fmt: skip


HULL_ROWS = [
    hull_row("agm1", ["Na", "Na"], -2.6), hull_row("agm2", ["Cl"] * 4, -7.2),
    hull_row("oqmd-1", ["Na", "Cl"], -7.0), hull_row("mp-1", ["Na", "Na", "Cl", "Cl"], -13.9),
    hull_row("mp-2", ["Na", "Cl", "Cl", "Cl"], -9.5),
]  # fmt: skip


def parquet(rows, schema=None):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue().to_pybytes()


class Hub(ThreadingHTTPServer):
    """Data sets by name, each ``{path: bytes}``: their commit, their listing in pages of two, their files."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.asked, self.wrong = {}, [], False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        path, _, query = self.path.partition("?")
        for repo, files in self.server.repos.items():
            if path == f"/api/datasets/{repo}/revision/main":
                return self.answer(json.dumps({"sha": COMMIT}).encode())
            if path.startswith(f"/api/datasets/{repo}/tree/{COMMIT}/"):
                folder = path.removeprefix(f"/api/datasets/{repo}/tree/{COMMIT}/")
                return self.listing(path, files, folder, int(query.removeprefix("from=") or 0))
            file = path.removeprefix(f"/datasets/{repo}/resolve/{COMMIT}/")
            if file in files:
                return self.answer(files[file] + b"!" * self.server.wrong)
        return self.send_error(404)

    def listing(self, path, files, folder, start):
        names = sorted(f for f in files if f.startswith(f"{folder}/"))
        entries = [
            {
                "type": "file",
                "path": name,
                "size": len(files[name]),
                "lfs": {"oid": hashlib.sha256(files[name]).hexdigest()},
            }
            for name in names[start : start + 2]
        ]
        more = {"Link": f'<{self.server.url}{path}?from={start + 2}>; rel="next"'}
        self.answer(json.dumps(entries).encode(), more if names[start + 2 :] else {})

    def answer(self, body, headers=None):
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with serving(server):
        yield server


@pytest.fixture
def hull(hub, tmp_path):
    files = {"data/mace_mp-00000-of-00001.parquet": parquet(HULL_ROWS)}
    files["data/mace_omat-00000-of-00001.parquet"] = parquet(HULL_ROWS[:1])
    hub.repos[HULL] = files
    return fetch("lemat_hull_mace_mp", folder=tmp_path)


# -- LeMat-Bulk ------------------------------------------------------------------------------


def test_rows_of_lemat_bulk_are_crystals(hub, tmp_path):
    parts = [
        [bulk_row("mp-1", ["Na", "Cl"], -7.0), bulk_row("agm1", ["Na"], -1.3)],
        [bulk_row("agm2", ["Cl"], -1.8), bulk_row("oqmd-1", ["Na", "Cl"], None)],
        [bulk_row("mp-1", ["K"], -1.0, entalpic_fingerprint=None)],
    ]
    hub.repos[BULK] = {
        f"compatible_pbe/train-0000{i}-of-00003.parquet": parquet(part, BULK_SCHEMA)
        for i, part in enumerate(parts)
    } | {"compatible_scan/train-00000-of-00001.parquet": b"another's"}
    path = fetch("lemat_bulk_pbe", folder=tmp_path)
    table = load(path)
    assert table.ids == ["mp-1", "agm1", "agm2", "oqmd-1", "mp-1#2"]
    salt = table.crystals(["mp-1"])
    assert np.allclose(salt.lattices[0], FCC)
    assert np.allclose(salt.frac_coords, [[0, 0, 0], [-0.5, 0.5, 0.5]])
    assert table.column("energy_per_atom") == [-3.5, -1.3, -1.8, None, -1.0]
    formed = table.column("formation_energy_per_atom")
    assert formed[0] == pytest.approx(-3.5 + (1.3 + 1.8) / 2)
    assert formed[3] is None
    assert table.column("entalpic_fingerprint")[1:] == [
        "hash-of-agm1",
        "hash-of-agm2",
        "hash-of-oqmd-1",
        None,
    ]
    about = file_metadata(path)
    assert about["scale"] == "lemat_pbe"
    assert all(COMMIT in url for url in about["sources"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"species_at_sites": ["Na", "Qq"]}, "Qq"),
        ({"nsites": 3}, "2 sites are listed, and nsites is 3"),
        ({"cartesian_site_positions": [[0.0, 0.0, 0.0]]}, "1 positions for 2 sites"),
        ({"lattice_vectors": [[1.0, 0.0, 0.0]] * 3}, "singular"),
        ({"lattice_vectors": None}, "no three lattice vectors"),
        ({"dimension_types": [1, 1, 0]}, "not periodic"),
        ({"species_at_sites": []}, "no atom sites"),
    ],
)
def test_a_bad_row_is_a_row_with_its_reason(change, reason, hub, tmp_path):
    rows = [bulk_row("good", ["Na", "Cl"], -7.0), bulk_row("bad", ["Na", "Cl"], -7.0) | change]
    hub.repos[BULK] = {"non_compatible/train-0.parquet": parquet(rows, BULK_SCHEMA)}
    table = load(fetch("lemat_bulk_non_compatible", folder=tmp_path))
    assert table.ids == ["good", "bad"] and table.ok_ids == ["good"]
    assert reason in table.column("reason")[1]
    assert "formation_energy_per_atom" not in table  # settings that do not go together


def test_another_schema_is_refused(hub, tmp_path):
    hub.repos[BULK] = {"compatible_scan/train-0.parquet": parquet([{"immutable_id": "mp-1", "cif": ""}])}
    with pytest.raises(DatasetError, match="no column species_at_sites, lattice_vectors"):
        fetch("lemat_bulk_scan", folder=tmp_path)
    hub.repos[BULK] = {"compatible_pbesol/train-0.parquet": b"PAR1 not at all"}
    with pytest.raises(DatasetError, match="no Parquet file"):
        fetch("lemat_bulk_pbesol", folder=tmp_path)


# -- the Hub ---------------------------------------------------------------------------------


def test_what_the_hub_listed_is_kept_and_checked(hub, tmp_path):
    hub.repos[HULL] = {"data/uma-00000-of-00001.parquet": parquet(HULL_ROWS)}
    hub.wrong = True
    with pytest.raises(DatasetError, match="discarded"):
        fetch("lemat_hull_uma", folder=tmp_path)
    hub.wrong = False
    path = fetch("lemat_hull_uma", folder=tmp_path)
    asked = len(hub.asked)
    assert fetch("lemat_hull_uma", folder=tmp_path) == path
    path.unlink()
    fetch("lemat_hull_uma", folder=tmp_path)  # the published file is there
    assert len(hub.asked) == asked


def test_a_hub_without_the_files_or_out_of_reach_says_so(hub, tmp_path, monkeypatch):
    hub.repos[HULL] = {"data/train-00000-of-00001.parquet": b""}
    with pytest.raises(DatasetError, match=r"no files data/uma-\*.parquet; there is data/train-0"):
        fetch("lemat_hull_uma", folder=tmp_path)
    with pytest.raises(DatasetError, match="refused"):
        fetch("lemat_bulk_pbe", folder=tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DatasetError, match="is there a network"):
        fetch("lemat_hull_dft", folder=tmp_path)
    assert info("lemat_hull_uma").url == f"https://huggingface.co/datasets/{HULL}"


# -- the hull of a force field ---------------------------------------------------------------


def test_a_force_fields_hull_is_that_of_its_total_energies(hull):
    """Against pymatgen's hull of total energies, with neither references nor corrections."""
    found = load_hull(hull)
    diagram = PhaseDiagram(
        [PDEntry("".join(row["species_at_sites"]), row["energy"]) for row in HULL_ROWS if row["nsites"]]
    )
    assert found.references is not None and found.references.corrections is None
    for formula, energy in (("NaCl", -3.4), ("NaCl2", -2.9), ("Na3Cl", -1.9)):
        entry = PDEntry(formula, energy * sum(PDEntry(formula, 0).composition.values()))
        _, expected = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)
        formed, reason = found.references.formation_energy_per_atom(entry.composition, energy)
        assert reason is None
        assert found.e_above_hull(formula, formed).e_above_hull == pytest.approx(expected, abs=1e-9)
    assert (
        found.references.formation_energy_per_atom({"K": 1}, -1.0)[1]
        == "no mace-mp-0b3 reference energy for K"
    )


def test_another_checkpoint_than_the_hulls_is_refused(hull, tmp_path):
    found, known = load_hull(hull), Known.load("flla")
    with pytest.raises(
        ScaleMismatch, match=r"'mace-mp-0b3' medium-0b3, not of 'mace' medium-mpa-0.*--force-field mace-mp"
    ):
        find_references(Protocol(force_field="mace"), found, known)
    own = tmp_path / "mine.model"
    own.write_bytes(b"weights")
    with pytest.raises(ScaleMismatch, match=r"mine\.model"):
        find_references(Protocol(force_field=f"mace@{own}"), found, known)
    published = tmp_path / "mace-mp-0b3-medium.model"
    published.write_bytes(b"weights")
    for same in ("mace-mp-0b3", f"mace@{published}", f"mace-mp-0b3@{published}"):
        assert find_references(Protocol(force_field=same), found, known).scale == found.scale
    mixed = Protocol(force_field="mace", allow_mixed_scales=True)
    assert find_references(mixed, found, known) is found.references


def test_an_entry_whose_energy_is_another_force_fields_is_left_out(hub, tmp_path):
    rows = [
        *HULL_ROWS,
        hull_row("odd", ["Na", "Cl"], -9.0, mace_mp_energy=-7.0),
        hull_row("none", ["Na"], None, orb_conserv_inf_energy=None),
    ]
    hub.repos[HULL] = {"data/mace_mp-0.parquet": parquet(rows)}
    table = pq.read_table(fetch("lemat_hull_mace_mp", folder=tmp_path))
    reasons = dict(zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    assert "mace_mp_energy is -7: which one holds?" in reasons["odd"]
    assert "not a finite number" in reasons["none"]
    assert [i for i, reason in reasons.items() if reason is None] == [
        row["immutable_id"] for row in HULL_ROWS
    ]


def test_a_hull_has_no_crystals(hull, monkeypatch, tmp_path):
    monkeypatch.setenv("CRYSJEPA_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="no crystals"):
        load("lemat_hull_mace_mp")
    assert len(load_hull("lemat_hull_mace_mp")) == 2
